"""Weighted sums of flat vectors, in blocks that stay in the cache."""

import numpy as np


def mix(out, vectors, weights, scratch):
    """out ← Σ_k weights[k] vectors[k], summed in that order; `out` may be one of the vectors.

    scratch   [2, any length], overwritten: the sum of a block, and what is added to it
    """
    length = scratch.shape[1]
    for lo in range(0, len(out), length):
        block = slice(lo, lo + length)
        total, term = scratch[:, :len(out[block])]
        np.multiply(vectors[0][block], weights[0], out=total)
        for vector, weight in zip(vectors[1:], weights[1:], strict=True):
            total += np.multiply(vector[block], weight, out=term)
        out[block] = total
