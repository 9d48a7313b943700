"""What is sent to be checked: small whole numbers that tell the sender, the turn and the place.

Their sums over ranks are exact in every type: below 2^24 in float32 for 160,000 ranks, and alike where integers wrap.
"""

import numpy as np

PERIOD, FACTOR = 101, 37
BLOCK = PERIOD*4096  # entries compared at once: a whole number of periods, so every block is the same
UNTOUCHED = 113  # what a receiver holds before


def block(ranks, turn, dtype, start=0):
    """[BLOCK] the sum of what `ranks` send in turn number `turn`, from entry `start` on."""
    places = np.arange(start % PERIOD, start % PERIOD + PERIOD)
    one = sum(((places*FACTOR + 13*rank + 29*turn) % PERIOD).astype(dtype) for rank in ranks)
    return np.tile(one.astype(dtype), BLOCK//PERIOD)


def fill(x, rank, turn, start=0):
    """x ← what `rank` sends in this turn."""
    values = on(x, block([rank], turn, x.dtype, start))
    for lo in range(0, x.size, BLOCK):
        part = x[lo:lo + BLOCK]
        part[:] = values[:part.size]


def wrong(x, ranks, turn, start=0, times=1):
    """How many entries of `x` are not `times` the sum of what `ranks` send."""
    values = on(x, block(ranks, turn, x.dtype, start)*x.dtype.type(times))
    return sum(int((x[lo:lo + BLOCK] != values[:x[lo:lo + BLOCK].size]).sum()) for lo in range(0, x.size, BLOCK))


def on(x, values):
    """`values` where `x` is: on the host, or on its device."""
    return values if isinstance(x, np.ndarray) else type(x)(values.shape, values.dtype, values)
