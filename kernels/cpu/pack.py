"""Vectors in 16 bits an entry (reference/pack.py) in one pass, with the same bits.

Rounding is arithmetic on the bits of a float32, which every processor has vectors for; what is subnormal in half
precision is added to a number whose last bit is worth as much as that of the smallest half.
"""

import numba
import numpy as np

from hpcasr.kernels.cpu.bits import REST, SIGN, U, bits, value
from hpcasr.kernels.cpu.compiled import compiled

LARGEST_HALF, LARGEST_BFLOAT = U(0x477fe000), U(0x7f7f0000)  # 65504, 3.39e38 as bits of float32
SMALLEST = U(0x38800000)  # 2^-14: halves below are subnormal
REBIAS = U(112 << 23)  # between the exponents of a float32 and of a half
LAST = np.float32(0.5)  # its last bit is worth 2^-24


@numba.njit(nogil=True, inline='always')
def half(v):
    """|v| as it is rounded to a half, as bits of float32."""
    size = min(U(bits(v) & REST), LARGEST_HALF)
    odd = U(U(size >> U(13)) & U(1))
    normal = U(U(size + odd + U(0xfff)) & U(0xffffe000))
    return normal if size >= SMALLEST else bits((value(size) + LAST) - LAST)


@numba.njit(nogil=True, inline='always')
def code_of_half(size):
    """The 15 bits of a half, of the bits of the same number in float32."""
    normal = U(U(size - REBIAS) >> U(13))
    return normal if size >= SMALLEST else U(bits(value(size) + LAST) - bits(LAST))


@numba.njit(nogil=True, inline='always')
def of_half(code):
    """The float32 that is the half with these bits."""
    size = U(U(code) & U(0x7fff)) << U(13)
    small = bits(value(size + SMALLEST) - value(SMALLEST))
    found = U(size + REBIAS) if size >= U(1 << 23) else small
    return value(found | U(U(code) & U(0x8000)) << U(16))


@compiled('void(f4[::1], f4[::1], u2[::1])')
def pack_fp16(g, r, code):
    """As reference.pack."""
    for k in range(len(g)):
        v = g[k] + r[k]
        sign, size = U(bits(v) & SIGN), half(v)
        code[k] = np.uint16(code_of_half(size) | U(sign >> U(16)))
        r[k] = v - value(size | sign)


@compiled('void(f4[::1], f4[::1], u2[::1])')
def pack_bf16(g, r, code):
    """As reference.pack."""
    for k in range(len(g)):
        v = g[k] + r[k]
        sign, size = bits(v) & SIGN, bits(v) & REST
        odd = U(size >> U(16)) & U(1)
        near = min(U(size + odd + U(0x7fff)), LARGEST_BFLOAT) & U(0xffff0000) | sign
        code[k] = np.uint16(near >> U(16))
        r[k] = v - value(near)


@compiled('void(u2[::1], f4[::1], b1)')
def unpack_fp16(code, out, add):
    """As reference.unpack."""
    if add:
        for k in range(len(out)):
            out[k] += of_half(code[k])
    else:
        for k in range(len(out)):
            out[k] = of_half(code[k])


@compiled('void(u2[::1], f4[::1], b1)')
def unpack_bf16(code, out, add):
    """As reference.unpack."""
    if add:
        for k in range(len(out)):
            out[k] += value(U(code[k]) << U(16))
    else:
        for k in range(len(out)):
            out[k] = value(U(code[k]) << U(16))
