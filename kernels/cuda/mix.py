"""Weighted sums of flat vectors (reference/mix.py), in one pass and in the same order, and the mean of two."""

import numpy as np
from numba import cuda, float32

from hpcasr.kernels.cuda.launch import THREADS, kernel, stride

EACH = 4  # entries that a thread reads, without a branch, before it writes the first: they come at the same time


def mix(out, vectors, weights, stream=None, threads=THREADS):
    """out ← Σ_k weights[k] vectors[k] [n], summed in that order; `out` may be one of the vectors.

    As many vectors as there are: every number of them, but for two and three, is compiled when it is first met.
    """
    combine(stride(out.size, threads), threads, stream, out, tuple(vectors), tuple(map(np.float32, weights)))


def pair(x, y, stream=None, threads=THREADS):
    """x, y ← ½ (x + y): the mean of a pair, for both."""
    halve(stride(x.size, threads), threads, stream, x, y)


def combined(count):
    return f'void(f4[::1], UniTuple(f4[::1], {count}), UniTuple(f4, {count}))'


@kernel(*map(combined, range(1, 6)), registers=64)
def combine(out, vectors, weights):
    n, size, total = out.shape[0], cuda.gridsize(1), cuda.local.array(EACH, float32)
    for first in range(cuda.grid(1), n, EACH*size):
        for u in range(EACH):
            k = min(first + u*size, n - 1)
            total[u] = vectors[0][k]*weights[0]
            for j in range(1, len(vectors)):
                total[u] += vectors[j][k]*weights[j]
        for u in range(EACH):
            k = first + u*size
            if k < n:
                out[k] = total[u]


@kernel('void(f4[::1], f4[::1])', registers=48)
def halve(x, y):
    n, size, mean = x.shape[0], cuda.gridsize(1), cuda.local.array(EACH, float32)
    for first in range(cuda.grid(1), n, EACH*size):
        for u in range(EACH):
            k = min(first + u*size, n - 1)
            mean[u] = float32(0.5)*(x[k] + y[k])
        for u in range(EACH):
            k = first + u*size
            if k < n:
                x[k] = y[k] = mean[u]
