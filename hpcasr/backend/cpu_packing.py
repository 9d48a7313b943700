"""Flat vectors written in fewer bytes, in one pass over memory or hardly more.

The kernels are imported where they are called: only who compresses waits until they are compiled.
"""

import numpy as np

from hpcasr.backend.packing import Packing


class CpuPacking(Packing):
    """As Packing, bit for bit; vectors of other types or with gaps are left to NumPy."""

    def pack(self, kind, g, r, code):
        if not taken(code, g, r):
            return super().pack(kind, g, r, code)
        from hpcasr.kernels.cpu import pack
        (pack.pack_fp16 if kind == 'fp16' else pack.pack_bf16)(g, r, code)

    def unpack(self, kind, code, out, add=False):
        if not taken(code, out):
            return super().unpack(kind, code, out, add)
        from hpcasr.kernels.cpu import pack
        (pack.unpack_fp16 if kind == 'fp16' else pack.unpack_bf16)(code, out, add)

    def pack_levels(self, g, r, code):
        if not taken(code, g, r):
            return super().pack_levels(g, r, code)
        from hpcasr.kernels.cpu import two_level
        two_level.pack(g, r, code)

    def unpack_levels(self, code, out, add=False):
        if not taken(code, out):
            return super().unpack_levels(code, out, add)
        from hpcasr.kernels.cpu import two_level
        two_level.unpack(code, out, add)

    def pack_random(self, g, r, code, bits, stream, place):
        if not taken(code, g, r):
            return super().pack_random(g, r, code, bits, stream, place)
        from hpcasr.kernels.cpu import stochastic
        stochastic.pack(g, r, code, bits, stream, place)

    def unpack_random(self, code, out, bits, add=False):
        if not taken(code, out):
            return super().unpack_random(code, out, bits, add)
        from hpcasr.kernels.cpu import stochastic
        stochastic.unpack(code, out, bits, add)

    def largest(self, g, r, count, code):
        if not taken(code, g, r):
            return super().largest(g, r, count, code)
        from hpcasr.kernels.cpu import sparse
        sparse.largest(g, r, count, code)

    def above(self, g, r, least, code):
        if not taken(code, g, r):
            return super().above(g, r, least, code)
        from hpcasr.kernels.cpu import sparse
        return sparse.above(g, r, least, code)

    def scatter(self, code, count, out, add=False):
        if not taken(code, out):
            return super().scatter(code, count, out, add)
        from hpcasr.kernels.cpu import sparse
        sparse.scatter(code, count, out, add)

    def product(self, P, columns, out):
        if not all(map(fits, (P, columns, out))):
            return super().product(P, columns, out)
        from hpcasr.kernels.cpu import factors
        factors.product(P, columns, out)


def taken(code, *vectors):
    """Whether the kernels take them."""
    return code.flags.carray and all(map(fits, vectors))


def fits(x):
    """Whether the kernels of flat vectors take it."""
    return x.dtype == np.float32 and x.flags.carray
