"""float32 as 16 bits and back: bf16, as uint16, or float16 (reference/bf16.py)."""

from numba import cuda

from hpcasr.kernels.cuda.launch import THREADS, kernel, stride
from hpcasr.kernels.cuda.number import narrow, wide


def pack(x, out, stream=None, threads=THREADS):
    """out [n] uint16, for bf16, or float16 ← x [n] f, rounded to the nearest, or even; NaN and inf stay what they are.

    What is too large for float16 becomes inf.
    """
    rounded(stride(x.size, threads), threads, stream, x, out)


def unpack(x, out, stream=None, threads=THREADS):
    """out [n] f ← x [n] uint16, for bf16, or float16."""
    widened(stride(x.size, threads), threads, stream, x, out)


@kernel('void(f4[::1], u2[::1])', 'void(f4[::1], f2[::1])')
def rounded(x, out):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[k] = narrow(x[k], out)


@kernel('void(u2[::1], f4[::1])', 'void(f2[::1], f4[::1])')
def widened(x, out):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        out[k] = wide(x[k])
