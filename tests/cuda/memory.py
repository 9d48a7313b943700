"""Arrays where kernels reach them, and back."""

import numpy as np

from hpcasr.kernels.cuda.launch import SIMULATED
from hpcasr.kernels.reference.bf16 import rounded

POISON = 7777.0  # what nobody has written


def device(x, dtype=None):
    """A copy of x; dtype 'u2': of x in bf16."""
    x = bf16(x) if dtype == 'u2' else np.array(x, dtype, order='C')
    if SIMULATED:
        return x
    import cupy
    return cupy.asarray(x)


def poison(*shape, dtype='f4'):
    return device(np.full(shape, POISON, 'f4'), dtype)


def host(x):
    """x as NumPy's; bf16 as float32."""
    x = x if SIMULATED else x.get()
    return (x.astype('u4') << 16).view('f4') if x.dtype == np.uint16 else x


def bf16(x):
    return (rounded(np.array(x, 'f4', order='C')).view('u4') >> 16).astype('u2')


def error(found, expected):
    """Of the root of the sum of squares; NaN where something is not finite."""
    found, expected = np.asarray(found, float), np.asarray(expected, float)
    return np.linalg.norm(found - expected)/max(np.linalg.norm(expected), 1e-30)
