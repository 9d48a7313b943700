"""Products of matrices by cuBLAS, called through ctypes: CuPy refuses it while a stream is captured into a graph."""

import ctypes
from contextlib import suppress

import numpy as np

WORKSPACE = 32 << 20  # bytes; what cuBLAS recommends for Hopper.  Ours, so that none is allocated while capturing
TYPES = {np.dtype(np.float32): 0, np.dtype(np.uint16): 14, np.dtype(np.float64): 1}  # CUDA_R_32F, CUDA_R_16BF, ...64F
COMPUTE = {'fp32': 68, 'tf32': 77, 'bf16': 68}  # CUBLAS_COMPUTE_32F, ..._32F_FAST_TF32; sums are float32 in all of them
DEFAULT = -1  # CUBLAS_GEMM_DEFAULT: the library chooses the kernel
POINTER, INT, LONG = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong


class Blas:
    """cuBLAS on one stream.

    major       version of the CUDA runtime, which says that of the library
    stream      its address
    workspace   (address, bytes) of device memory
    """

    def __init__(self, major, stream, workspace, precision):
        self.library, self.handle = load(major), POINTER()
        self.compute = COMPUTE[precision]
        self.one, self.zero = ctypes.c_float(1), ctypes.c_float(0)
        self.declare()
        self.check(self.library.cublasCreate_v2(ctypes.byref(self.handle)))
        self.check(self.library.cublasSetStream_v2(self.handle, stream))
        self.check(self.library.cublasSetWorkspace_v2(self.handle, *workspace))  # SetStream takes away what was set

    def declare(self):
        """The types of arguments: without them Python's integers are cut to 32 bits."""
        for name, types in {'cublasCreate_v2': [POINTER], 'cublasSetStream_v2': [POINTER, POINTER],
                            'cublasSetWorkspace_v2': [POINTER, POINTER, ctypes.c_size_t],
                            'cublasGemmStridedBatchedEx': [
                                POINTER, INT, INT, INT, INT, INT, POINTER, POINTER, INT, INT, LONG, POINTER, INT, INT,
                                LONG, POINTER, POINTER, INT, INT, LONG, INT, INT, INT]}.items():
            getattr(self.library, name).argtypes = types

    def check(self, status):
        if status:
            raise RuntimeError(f'cuBLAS: status {status}')

    def gemm(self, A, B, C, add=False):
        """C ← A B, + C if `add`; each [..., rows, columns] of (address, type, shape, strides in entries).

        C is row-major.  To cuBLAS, which counts columns first, all are transposed, and so Cᵀ = Bᵀ Aᵀ.
        """
        M, N = C.shape[-2:]
        (ta, lda), (tb, ldb), (tc, ldc) = map(layout, (A, B, C))
        if tc:
            raise ValueError(f'a product is written row by row, not to strides {C.strides}')
        self.check(self.library.cublasGemmStridedBatchedEx(
            self.handle, tb, ta, N, M, A.shape[-1], ctypes.byref(self.one),
            B.address, TYPES[B.dtype], ldb, step(B), A.address, TYPES[A.dtype], lda, step(A),
            ctypes.byref(self.one if add else self.zero), C.address, TYPES[C.dtype], ldc, step(C),
            C.shape[0] if len(C.shape) == 3 else 1, self.compute, DEFAULT))


class Matrix:
    """What cuBLAS is told of an array, or of several in equal distances (3 dimensions).

    An axis of stride 0 is an array that is taken for all.
    """

    def __init__(self, x):
        self.address, self.dtype, self.shape = x.__cuda_array_interface__['data'][0], x.dtype, x.shape
        self.strides = tuple(s//x.itemsize for s in x.strides)


def layout(x):
    """(1 if the rows are contiguous in their columns' direction, so that it is to be transposed; leading dimension)."""
    (rows, columns), (down, right) = x.shape[-2:], x.strides[-2:]
    if right == 1 or columns == 1:
        return 0, max(down, columns, 1)
    if down == 1 or rows == 1:
        return 1, max(right, rows, 1)
    raise ValueError(f'a matrix of strides {x.strides} is contiguous in no direction')


def step(x):
    """Entries from one matrix to the next."""
    return x.strides[0] if len(x.shape) == 3 else 0


def load(major):
    """The library.  OSError where there is none."""
    with suppress(ImportError, RuntimeError, OSError):  # where pip has put it; else it is found as any other library
        from cuda.pathfinder import load_nvidia_dynamic_lib
        load_nvidia_dynamic_lib('cublas')
    return ctypes.CDLL(f'libcublas.so.{major}')
