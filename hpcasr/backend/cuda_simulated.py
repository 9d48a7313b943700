"""A GPU that is none: arrays of NumPy, kernels in Numba's simulator.  Slow, and right: what tests run on."""

import numpy as np

from hpcasr.kernels.reference.bf16 import rounded

THREADS = 4  # of a block: each is a thread of the operating system


class Array(np.ndarray):
    """An array in the memory of the device.  As CuPy's, it is never mixed with arrays of the host."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        arrays = [x for x in (*inputs, *out) if isinstance(x, np.ndarray) and x.ndim]
        if not all(isinstance(x, Array) for x in arrays):
            raise TypeError(f'{ufunc.__name__} of arrays of the device and of the host')
        options |= {'out': tuple(map(plain, out))} if out else {}
        result = getattr(ufunc, method)(*map(plain, inputs), **options)
        return out[0] if out else result.view(Array) if isinstance(result, np.ndarray) else result

    def __setitem__(self, where, x):
        if isinstance(x, np.ndarray) and x.ndim and not isinstance(x, Array):
            raise TypeError('an array of the host is assigned to one of the device')
        super().__setitem__(where, x)


def plain(x):
    """x as NumPy's own array."""
    return x.view(np.ndarray) if isinstance(x, Array) else [*map(plain, x)] if isinstance(x, list) else x


class Simulated:
    """As cuda_device.Gpu.

    A capture is one: what is asked for is kept, not done, and done whenever the graph is launched.
    """

    simulated, stream, side, bus = True, 0, 0, 0
    done = True  # as a Mark

    def __init__(self, precision, nbytes=1 << 33):
        self.precision, self.room, self.captured = precision, nbytes, None

    def describe(self):
        return 'simulated GPU'

    # memory

    def empty(self, shape, dtype=np.float32):
        """All bits are ones, in floating point NaN: whoever reads what was not written is found out."""
        x = np.empty(shape, dtype)
        x.reshape(-1).view(np.uint8)[:] = 255
        return x.view(Array)

    def zeros(self, shape, dtype=np.float32):
        return np.zeros(shape, dtype).view(Array)

    def free(self):
        return self.room

    def address(self, x):
        return x.__array_interface__['data'][0]

    def pinned(self, shape, dtype):
        return np.zeros(shape, dtype)

    def pin(self, x):
        pass

    # copies

    def upload(self, out, x, stream=None):
        self.perform(np.copyto, self.mine(out), x)

    def download(self, out, x, stream=None):
        self.perform(np.copyto, out, self.mine(x))

    def mine(self, x):
        """x as NumPy's, if it lies on the device; else TypeError."""
        if not isinstance(x, Array):
            raise TypeError(f'{x.dtype} {x.shape} lies on the host')
        return plain(x)

    def host(self, x):
        self.synchronize()
        return plain(x).copy()

    # order: everything is done at once

    def mark(self, stream=None):
        return self

    def after(self, mark, stream):
        pass

    def synchronize(self):
        if self.captured is not None:
            raise RuntimeError('nobody can wait for a stream that is captured')

    def begin_capture(self):
        self.captured = []

    def end_capture(self):
        work, self.captured = self.captured, None
        return lambda: [perform(*args, **options) for perform, args, options in work]

    def perform(self, work, *args, **options):
        if self.captured is None:
            work(*args, **options)
        else:
            self.captured.append((work, args, options))

    # work

    def do(self, kernel, *args, **options):
        for x in args:
            if isinstance(x, np.ndarray):
                self.mine(x)
        self.perform(kernel, *map(plain, args), **options, threads=THREADS)

    def gemm(self, A, B, C, add=False):
        self.perform(product, *map(self.mine, (A, B, C)), add)

    def every(self, x, K):
        return np.broadcast_to(x, (K, *x.shape), subok=True)

    def batch(self, x, y):
        gap = self.address(y) - self.address(x)
        if gap <= 0:
            raise ValueError('the second matrix lies before the first')
        return np.lib.stride_tricks.as_strided(x, (2, *x.shape), (gap, *x.strides), subok=True)


def product(A, B, C, add):
    total = np.matmul(wide(A), wide(B)) + (wide(C) if add else 0)
    C[...] = total if C.dtype != np.uint16 else rounded(total).view(np.uint32) >> 16


def wide(x):
    """bf16, kept as uint16, as float32; other types as they are."""
    return x if x.dtype != np.uint16 else (x.astype(np.uint32) << 16).view(np.float32)
