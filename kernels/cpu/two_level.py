"""One bit an entry (reference/two_level.py), with the same bits: a block stays in the cache while it is read twice."""

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.vector import BYTES, I1, I32, Vectors
from hpcasr.kernels.reference.two_level import BLOCK, LANES, WORD

U, F = np.uint32, np.float32
HEAD = 2  # words before the signs
TRUTHS = ir.VectorType(I1, WORD)


@intrinsic
def signs(context, address):
    """A word: a bit for each of the WORD float32 at an address, the lowest first, 1 where it is not negative."""
    def codegen(context, builder, signature, values):
        v = Vectors(builder, WORD)
        return builder.bitcast(builder.fcmp_ordered('>=', v.load(*values), v.constant(0.0)), I32)
    return types.uint32(types.int64), codegen


def leveled(change):
    """What an intrinsic gives back: it takes the bits of WORD entries, both levels and an address, where the float32 x
    become change(Vectors, x, level).
    """
    def codegen(context, builder, signature, values):
        word, low, high, address = values
        v = Vectors(builder, WORD)
        level = builder.select(builder.bitcast(word, TRUTHS), v.spread(high), v.spread(low))
        v.store(change(v, v.load(address), level), address)
        return context.get_dummy_value()
    return types.void(types.uint32, types.float32, types.float32, types.int64), codegen


@intrinsic
def assign(context, word, low, high, address):
    """x ← its level."""
    return leveled(lambda v, x, level: level)


@intrinsic
def add(context, word, low, high, address):
    """x ← x + its level."""
    return leveled(lambda v, x, level: v.add(x, level))


@intrinsic
def subtract(context, word, low, high, address):
    """x ← x − its level."""
    return leveled(lambda v, x, level: v.sub(x, level))


@numba.njit(nogil=True)
def partial(g, r, below, above):
    """r [LANES] ← v = g + r;  below, above [LANES] += v where v < 0 and where v ≥ 0."""
    for j in range(LANES):
        v = g[j] + r[j]
        r[j] = v
        above[j] += v if v >= 0 else F(0)
        below[j] += F(0) if v >= 0 else v


@numba.njit(nogil=True)
def mean(sums, count):
    """Of what was summed in LANES parts, which are added by halves."""
    n = LANES//2
    while n:
        for j in range(n):
            sums[j] += sums[n + j]
        n //= 2
    return F(sums[0]/max(count, 1))


@numba.njit(nogil=True)
def ones(words):
    """How many bits are 1."""
    total = 0
    for k in range(len(words)):
        x = words[k]
        x = U(x - U(U(x >> U(1)) & U(0x55555555)))
        x = U(U(x & U(0x33333333)) + U(U(x >> U(2)) & U(0x33333333)))
        x = U(U(x + U(x >> U(4))) & U(0x0f0f0f0f))
        total += U(x*U(0x01010101)) >> U(24)
    return total


@numba.njit(nogil=True)
def block(g, r, code, below, above):
    """BLOCK entries."""
    below[:], above[:] = 0, 0
    for k in range(0, BLOCK, LANES):
        partial(g[k:k + LANES], r[k:k + LANES], below, above)
    words, address = code[HEAD:], r.ctypes.data
    for w in range(len(words)):
        words[w] = signs(address + BYTES*WORD*w)
    count, levels = ones(words), code[:HEAD].view(np.float32)
    low, high = mean(below, BLOCK - count), mean(above, count)
    levels[0], levels[1] = low, high
    for w in range(len(words)):
        subtract(words[w], low, high, address + BYTES*WORD*w)


@numba.njit(nogil=True)
def rest(g, r, code, below, above):
    """Fewer than BLOCK entries."""
    below[:], above[:], count = 0, 0, 0
    words = code[HEAD:]
    words[:] = 0
    for k in range(len(g)):
        v = g[k] + r[k]
        r[k] = v
        if v >= 0:
            above[k % LANES] += v
            count += 1
            words[k//WORD] |= U(1) << U(k % WORD)
        else:
            below[k % LANES] += v
    low, high, levels = mean(below, len(g) - count), mean(above, count), code[:HEAD].view(np.float32)
    levels[0], levels[1] = low, high
    for k in range(len(g)):
        r[k] -= high if r[k] >= 0 else low


@compiled('void(f4[::1], f4[::1], u4[::1])')
def pack(g, r, code):
    """As reference.pack."""
    below, above, size = np.empty(LANES), np.empty(LANES), HEAD + BLOCK//WORD
    whole = len(g)//BLOCK
    for b in range(whole):
        inside = slice(b*BLOCK, (b + 1)*BLOCK)
        block(g[inside], r[inside], code[b*size:(b + 1)*size], below, above)
    if len(g) % BLOCK:
        rest(g[whole*BLOCK:], r[whole*BLOCK:], code[whole*size:], below, above)


@compiled('void(u4[::1], f4[::1], b1)')
def unpack(code, out, also):
    """As reference.unpack."""
    size = HEAD + BLOCK//WORD
    for b in range((len(out) + BLOCK - 1)//BLOCK):
        part, x = code[b*size:(b + 1)*size], out[b*BLOCK:(b + 1)*BLOCK]
        levels, words = part[:HEAD].view(np.float32), part[HEAD:]
        low, high = levels[0], levels[1]
        for w in range(len(x)//WORD):
            if also:
                add(words[w], low, high, x.ctypes.data + BYTES*WORD*w)
            else:
                assign(words[w], low, high, x.ctypes.data + BYTES*WORD*w)
        for k in range(len(x)//WORD*WORD, len(x)):
            level = high if U(words[k//WORD] >> U(k % WORD)) & U(1) else low
            x[k] = x[k] + level if also else level
