"""How kernels are declared, listed and launched."""

import os
import warnings
from functools import cache, cached_property

import numpy as np

if not hasattr(np, 'row_stack'):  # gone since NumPy 2.5, and asked for by numba-cuda whenever it compiles
    np.row_stack = np.vstack
# an array of CuPy names its stream, and Numba would wait for that at every launch, which no captured graph allows: all
# work on an array is given to one stream, or ordered by events
os.environ.setdefault('NUMBA_CUDA_ARRAY_INTERFACE_SYNC', '0')
os.environ.setdefault('NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS', '0')  # a sum over one block is meant

from numba import cuda, typeof
from numba.core.sigutils import normalize_signature

cuda.config.reload_config()  # it may have been imported before
SIMULATED = bool(cuda.config.ENABLE_CUDASIM)
THREADS = 256  # of a block
BLOCKS = 1 << 14  # of a kernel that strides over a flat vector, at most: many waves, so that all of a GPU has work
KERNELS = {}  # {'file.name': Kernel}, of what was imported


class Kernel:
    """A function for the GPU.

    signatures   every combination of argument types it is launched with: what is compiled where there is no GPU
    registers    the most that a thread may need
    least        compute capability of the first GPUs that have what it needs
    options      of numba.cuda.jit that numba.cuda.compile knows as well
    """

    def __init__(self, function, signatures, registers, least, options):
        self.function, self.registers, self.least, self.options = function, registers, least, options
        self.signatures = [normalize_signature(s)[0] for s in signatures]

    @cached_property
    def compiled(self):
        return cuda.jit(self.function, **({} if SIMULATED else self.options))

    def __call__(self, grid, threads, stream, *args):
        """Launch it on `grid`, a number of blocks or up to three; nothing happens if one of them is 0.

        The first launch with arguments of some types compiles it for them: not while a graph is captured.
        """
        if not np.all(grid):
            return
        if SIMULATED:
            self.check(args)
            with warnings.catch_warnings(action='ignore', category=RuntimeWarning):  # a GPU overflows in silence
                self.compiled[grid, threads](*args)
        else:
            self.compiled[grid, threads, handle(stream)](*args)

    def check(self, args):
        """Raise TypeError for types that were not declared: on a GPU they would be compiled unseen."""
        found = tuple(map(typeof, args))
        if not any(all(map(same, found, signature)) for signature in self.signatures):
            raise TypeError(f'{self.function.__name__} is not declared for {", ".join(map(str, found))}')


def same(found, declared):
    """Whether an argument of type `found` is taken as `declared`; who may write to it is not asked."""
    if hasattr(found, 'layout'):
        return getattr(declared, 'layout', '') == found.layout and (found.dtype, found.ndim) == (
            declared.dtype, declared.ndim)
    if hasattr(found, 'types'):
        return len(found) == len(getattr(declared, 'types', ())) and all(map(same, found.types, declared.types))
    return found == declared


def kernel(*signatures, registers=40, least=(7, 5), **options):
    """Decorates a function: it becomes a Kernel, in KERNELS."""
    def declare(function):
        name = f'{function.__module__.rpartition(".")[2]}.{function.__name__}'
        KERNELS[name] = Kernel(function, signatures, registers, least, options)
        return KERNELS[name]
    return declare


def device(function):
    """Decorates a function that kernels call; it may not use `cuda`."""
    return function if SIMULATED else cuda.jit(device=True)(function)


def blocks(n, threads=THREADS):
    """How many it takes for a thread for each of n."""
    return -(-n//threads)


def stride(n, threads=THREADS):
    """Blocks of a kernel whose threads stride over n entries."""
    return min(blocks(n, threads), BLOCKS)


def handle(stream):
    """A stream as Numba takes it: CuPy's has the address `ptr`."""
    return external(stream.ptr) if hasattr(stream, 'ptr') else 0 if stream is None else stream


@cache
def external(address):
    return cuda.external_stream(address) if address else 0


@cache
def nothing(dtype, ndim):
    """An array without entries: the place of an argument that is not given."""
    shape = (0,)*ndim
    return np.empty(shape, dtype) if SIMULATED else cuda.device_array(shape, dtype)
