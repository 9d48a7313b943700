"""PowerSGD (Vogels, Karimireddy and Jaggi 2019, arXiv 1905.13727): a matrix as two factors of low rank."""

import numpy as np

from hpcasr.compress.codec import Codec


class PowerSgd(Codec):
    """m = v, and nothing is left: the message stays at home, and factored.Factored takes from it.

    The factors of a sum are made by all learners together; so what one of them has said is known only in the end.  Of a
    matrix [rows, columns] 4 rank (rows + columns) bytes are summed.
    """

    name, exact = 'powersgd', True

    def rank(self, shape):
        """Columns of the factors of a matrix; 0: it is no matrix, or has no more entries than its factors."""
        rows, columns = matrix(shape)
        rank = min(self.options.rank, rows, columns)
        return rank*(rank*(rows + columns) < rows*columns)

    def suits(self, shape):
        return self.rank(shape) > 0

    def size(self, n):
        return 4*n

    def encode(self, g, r, message, place=(0, 0, 0)):
        np.add(g, r, out=message.view(np.float32))
        r[:] = 0

    def decode(self, message, out):
        out[:] = message.view(np.float32)

    def add(self, message, out):
        out += message.view(np.float32)


def matrix(shape):
    """(rows, columns) as which a tensor is compressed: its first axis beside all others; a vector is one row."""
    rows, *others = shape if len(shape) > 1 else (1, *shape)
    return rows, int(np.prod(others))
