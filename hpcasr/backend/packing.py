"""Flat vectors written in fewer bytes, for exchange: in plain NumPy, the oracle of the other backends.

To write, v = g + r is rounded or chosen from, and r ← v − what reading it gives.  Vectors are [n] float32, and finite;
what is written is kernels.reference's, in whose files its order is told.
"""

from hpcasr.kernels.reference import factors, pack, sparse, stochastic, two_level


class Packing:
    """The operations that compress.Codec calls."""

    def pack(self, kind, g, r, code):
        """code [n] uint16 ← v as 'fp16' or 'bf16', the nearest there is;  r ← what is left of v."""
        pack.pack(kind, g, r, code)

    def unpack(self, kind, code, out, add=False):
        """out ← the values of the code, or out + them."""
        pack.unpack(kind, code, out, add)

    def pack_levels(self, g, r, code):
        """code [two_level.words(n)] uint32 ← two levels and the signs of every block of v;  r ← what is left of v."""
        two_level.pack(g, r, code)

    def unpack_levels(self, code, out, add=False):
        """out ← the level of every entry, or out + it."""
        two_level.unpack(code, out, add)

    def pack_random(self, g, r, code, bits, stream, place):
        """code [stochastic.words(n, bits)] uint32 ← v, rounded at random;  r ← what is left of v.

        Entry k draws number place + k of the random numbers that `stream`, 64 bits, names.
        """
        stochastic.pack(g, r, code, bits, stream, place)

    def unpack_random(self, code, out, bits, add=False):
        """out ← the values of the code, or out + them."""
        stochastic.unpack(code, out, bits, add)

    def largest(self, g, r, count, code):
        """code [sparse.words(n, count)] uint32 ← the `count` entries of largest |v|;  r ← v without them."""
        sparse.largest(g, r, count, code)

    def above(self, g, r, least, code):
        """code [sparse.words(n, n)] uint32 ← the entries with |v| ≥ least;  r ← v without them;  how many they are."""
        return sparse.above(g, r, least, code)

    def scatter(self, code, count, out, add=False):
        """out ← the `count` entries of a code of sparse.words(n, count), 0 elsewhere; or out + them."""
        sparse.scatter(code, count, out, add)

    def product(self, P, columns, out):
        """out [rows, n] ← P [rows, rank] · columns [rank, n]: the same bits on every machine."""
        factors.product(P, columns, out)
