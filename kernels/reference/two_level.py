"""One bit an entry: it stands for the mean of what is negative in its block, or of what is not (Seide et al. 2014)."""

import numpy as np

BLOCK = 1024  # entries that share their two levels: 30 times fewer bytes, and a level still means something
LANES = 64  # partial sums of a block, so that the order of additions is one that vectors of any width can keep
WORD = 32  # bits


def words(n):
    """uint32 of the code of n entries."""
    return 2*-(-n//BLOCK) + -(-n//WORD)


def pack(g, r, code):
    """v = g + r;  code ← two levels and the signs of every block;  r ← v − what `unpack` makes of the code.

    g, r   [n] float32, finite
    code   [words(n)] uint32, block by block: the bits of the levels for v < 0 and v ≥ 0, float32, then a bit for every
           entry, the lowest of a word first, 1 where v ≥ 0.  So a vector that is cut at multiples of BLOCK has the
           codes of its pieces
    """
    r += g
    for v, part in blocks(r, code):
        above = v >= 0
        part[:2] = levels(v, above).view(np.uint32)
        part[2:] = bits(above)
    unpack_into(code, r, np.subtract)


def unpack(code, out, add=False):
    """out [n] ← the level of every entry, or out + it."""
    unpack_into(code, out, np.add if add else lambda old, new: new)


def unpack_into(code, out, change):
    for x, part in blocks(out, code):
        low, high = part[:2].view(np.float32)
        above = np.unpackbits(part[2:].astype('<u4').view(np.uint8), count=len(x), bitorder='little')
        x[:] = change(x, np.where(above, high, low))


def blocks(x, code):
    """(entries, words) of each."""
    step = words(BLOCK)
    for k in range(-(-len(x)//BLOCK)):
        yield x[k*BLOCK:(k + 1)*BLOCK], code[k*step:(k + 1)*step]


def levels(v, above):
    """The means of v where it is negative and where it is not, 0 of nothing: [2] float32."""
    return np.array([mean(np.where(chosen, v, np.float32(0)), chosen.sum()) for chosen in (~above, above)])


def mean(v, count):
    """Σ v/count, summed in float64: in LANES sums, entry k into number k mod LANES, which are then added by halves."""
    rows = np.pad(v.astype(np.float64), (0, -len(v) % LANES)).reshape(-1, LANES)
    sums = rows.sum(0, initial=0.0)  # from 0.0 on: of nothing but -0.0 it is no other zero than in a loop
    while len(sums) > 1:
        sums = sums[:len(sums)//2] + sums[len(sums)//2:]
    return np.float32(sums[0]/max(count, 1))


def bits(above):
    """[⌈n/32⌉ uint32] of n truths."""
    padded = np.pad(above, (0, -len(above) % WORD))
    return np.packbits(padded, bitorder='little').view('<u4')
