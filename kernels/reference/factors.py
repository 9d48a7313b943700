"""A matrix from its factors, with bits that do not depend on the machine, as those of a BLAS may."""

import numpy as np


def product(P, columns, out):
    """out [rows, n] ← P [rows, rank] · columns [rank, n], column of P by column, each product rounded."""
    np.multiply(P[:, :1], columns[0], out=out)
    for k in range(1, len(columns)):
        out += P[:, k:k + 1]*columns[k]
