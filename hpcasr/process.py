"""Settings of one rank's process, made before NumPy is loaded."""

import ctypes
import os
import sys

BLAS_VARIABLES = 'OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS'
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)


def tune():
    """One BLAS thread, unless the environment says otherwise, and an allocator that keeps its memory."""
    for variable in BLAS_VARIABLES:
        os.environ.setdefault(variable, '1')  # ranks share the cores; more threads made a small job 18 times slower
    keep_memory()


def keep_memory():
    """Serve large arrays from the heap and never give it back: the next step needs the same pages again.

    Without it 15-20 % of a step of the preset `small` goes into page faults.  glibc only; elsewhere nothing happens.
    """
    if sys.platform != 'linux':
        return
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for parameter, value in (MMAP_THRESHOLD, 1 << 30), (TRIM_THRESHOLD, 2**31 - 1), (TOP_PAD, 64 << 20):
            mallopt(parameter, value)
