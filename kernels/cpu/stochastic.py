"""A few bits an entry, rounded at random (reference/stochastic.py), with the same bits, a bucket at a time."""

import numba
import numpy as np

from hpcasr.kernels.cpu.bits import REST, U, value
from hpcasr.kernels.cpu.bits import bits as word
from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.reference.stochastic import BLOCK, GOLDEN, LOWEST

F, WHOLE, L = np.float32, np.int32, np.uint64
HIGHEST = np.finfo(np.float32).max
FIRST, SECOND, THIRD = L(GOLDEN), L(0xbf58476d1ce4e5b9), L(0x94d049bb133111eb)
FINE = F(2.0**-24)


@numba.njit(nogil=True)
def measure(g, r, s):
    """r ← v = g + r;  the step of the bucket."""
    most = U(0)
    for k in range(len(g)):
        v = F(g[k] + r[k])
        r[k] = v
        most = max(most, U(word(v) & REST))
    step = min(F(value(most)/F(s)), np.nextafter(F(HIGHEST/F(s)), F(0)))
    return step if step >= LOWEST else F(0)


@numba.njit(nogil=True, inline='always')
def uniform(stream, place):
    """Number `place` of a stream."""
    z = L(stream + L(place + 1)*FIRST)
    z = L(L(z ^ L(z >> L(30)))*SECOND)
    z = L(L(z ^ L(z >> L(27)))*THIRD)
    return F(WHOLE(L(L(z ^ L(z >> L(31))) >> L(40))))*FINE


@numba.njit(nogil=True)
def draw(r, step, s, stream, place, whole):
    """whole [n] int8 ← r in steps, rounded at random;  r ← r − that."""
    reciprocal = F(1)/step if step > 0 else F(0)
    for k in range(len(r)):
        v = r[k]
        size = F(abs(v)*reciprocal)
        lower = WHOLE(size)
        up = uniform(stream, place + k) < F(size - F(lower))
        found = min(WHOLE(lower + WHOLE(up)), WHOLE(s))
        found = WHOLE(-found) if v < 0 else found
        whole[k] = found
        r[k] = v - F(found)*step


@numba.njit(nogil=True)
def squeeze(whole, bits, code):
    """code [⌈n·bits/8⌉ uint8] ← n numbers of so many bits; whole [BLOCK] has zeros behind them."""
    if bits == 8:
        for k in range(len(code)):
            code[k] = whole[k]
    elif bits == 4:
        for k in range(len(code)):
            code[k] = U(whole[2*k]) & U(15) | U(U(whole[2*k + 1]) & U(15)) << U(4)
    else:
        for k in range(len(code)):
            code[k] = U(whole[4*k]) & U(3) | U(U(whole[4*k + 1]) & U(3)) << U(2) | \
                U(U(whole[4*k + 2]) & U(3)) << U(4) | U(U(whole[4*k + 3]) & U(3)) << U(6)


@numba.njit(nogil=True)
def spread(code, bits, whole):
    """whole [BLOCK] ← the numbers of the code."""
    if bits == 8:
        for k in range(len(code)):
            whole[k] = code[k]
    elif bits == 4:
        for k in range(len(code)):
            whole[2*k] = signed(code[k], U(4), U(0))
            whole[2*k + 1] = signed(code[k], U(4), U(4))
    else:
        for k in range(len(code)):
            for j in range(4):
                whole[4*k + j] = signed(code[k], U(2), U(2*j))


@numba.njit(nogil=True, inline='always')
def signed(byte, bits, shift):
    """The number of so many bits at `shift`: they are pushed to the upper end of a word, and pulled down with the sign.
    """
    up = U(U(byte) << U(U(32) - U(bits + shift)))
    return WHOLE(up) >> WHOLE(U(32) - bits)


@compiled('void(f4[::1], f4[::1], u4[::1], i8, u8, i8)')
def pack(g, r, code, bits, stream, place):
    """As reference.pack."""
    s, whole, at = (1 << bits - 1) - 1, np.zeros(BLOCK, np.int8), 0
    for lo in range(0, len(g), BLOCK):
        n = min(BLOCK, len(g) - lo)
        words, v = (n*bits + 31)//32, r[lo:lo + n]
        step = measure(g[lo:lo + n], v, s)
        code[at] = word(step)
        whole[n:] = 0
        draw(v, step, s, stream, place + lo, whole[:n])
        squeeze(whole, bits, code[at + 1:at + 1 + words].view(np.uint8))
        at += 1 + words


@compiled('void(u4[::1], f4[::1], i8, b1)')
def unpack(code, out, bits, add):
    """As reference.unpack."""
    whole, steps, at = np.empty(BLOCK, np.int8), code.view(np.float32), 0
    for lo in range(0, len(out), BLOCK):
        x = out[lo:lo + BLOCK]
        words, step = (len(x)*bits + 31)//32, steps[at]
        spread(code[at + 1:at + 1 + words].view(np.uint8), bits, whole)
        if add:
            for k in range(len(x)):
                x[k] += F(whole[k])*step
        else:
            for k in range(len(x)):
                x[k] = F(whole[k])*step
        at += 1 + words
