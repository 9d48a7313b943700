"""What a fully connected layer needs beside its products (reference/affine.py)."""

import numpy as np
from numba import cuda, float32, int64

from hpcasr.kernels.cuda.launch import THREADS, blocks, kernel
from hpcasr.kernels.cuda.number import narrow, wide

ROWS = 64  # of a part of a sum, at least
PARTS = 64  # of a sum, at most


def add_bias(y, bias, stream=None, threads=THREADS):
    """y [N, C] f or h ← y + bias [C] f."""
    shift((len(y), blocks(y.shape[1], threads)), threads, stream, y, bias)


def parts(N):
    """P: as many parts of N rows are summed at the same time."""
    return max(1, min(PARTS, N//ROWS))


def sum_rows(x, out, scratch, stream=None, threads=THREADS):
    """out [C] f ← Σ_n x[n, :], of x [N, C] f or h: rows in parts, each in order, then the parts in order.

    scratch [parts(N), C] f is overwritten.
    """
    P, columns = parts(len(x)), blocks(x.shape[1], threads)
    part((columns, P), threads, stream, x, scratch)
    gather(columns, threads, stream, np.int32(P), scratch, out)


@kernel(*(f'void({y}[:,::1], f4[::1])' for y in ('f4', 'u2')))
def shift(y, bias):
    n, k = cuda.blockIdx.x, cuda.blockIdx.y*cuda.blockDim.x + cuda.threadIdx.x
    if k < y.shape[1]:
        y[n, k] = narrow(wide(y[n, k]) + bias[k], y)


@kernel(*(f'void({x}[:,::1], f4[:,::1])' for x in ('f4', 'u2')))
def part(x, scratch):
    k, p, P = cuda.grid(1), cuda.blockIdx.y, cuda.gridDim.y
    if k >= x.shape[1]:
        return
    total, N = float32(0), int64(x.shape[0])
    for n in range(N*p//P, N*(p + 1)//P):
        total += wide(x[n, k])
    scratch[p, k] = total


@kernel('void(i4, f4[:,::1], f4[::1])')
def gather(P, scratch, out):
    k = cuda.grid(1)
    if k >= out.shape[0]:
        return
    total = float32(0)
    for p in range(P):
        total += scratch[p, k]
    out[k] = total
