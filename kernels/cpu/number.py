"""What products multiply: float32, or bf16 with its 8 bits of precision; sums are float32 for either.

A processor multiplies and adds pairs of bf16 where it would a float32: twice the work of an instruction.  So numbers
come in words of 32 bits: a float32, or two bf16 that follow one another in the sum over k.
"""

from hpcasr.kernels.cpu.processor import BF16


class Single:
    """float32."""

    each, size = 1, 4  # numbers in a word; bytes of a number

    def dot(self, v, x, y, total):
        """total + Σ x y over the numbers of the words."""
        return v.fma(x, y, total)

    def keep(self, v, x, address, offset=0):
        """Put x where a product takes it up, `offset` numbers behind an address: for float32 it lies there already."""


class Pairs(Single):
    """bf16, rounded to the nearest when a product takes up its factors."""

    each, size = 2, 2

    def dot(self, v, x, y, total):
        return v.dot(x, y, total)

    def words(self, v, x, y):
        """x of one k and y of the next, for a panel."""
        return v.pairs(x, y)

    def keep(self, v, x, address, offset=0):
        v.store_half(x, address, self.size*offset)


class Rounded(Single):
    """The same values kept as float32, for processors that do not know bf16."""

    def words(self, v, x, y):
        """x; y goes into a word of its own."""
        return v.rounded(x)

    def keep(self, v, x, address, offset=0):
        v.store(v.rounded(x), address, self.size*offset)


SINGLE, HALF = Single(), Pairs() if BF16 else Rounded()
NUMBERS = SINGLE, HALF
