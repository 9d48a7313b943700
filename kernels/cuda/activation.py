"""Nonlinearities and their derivatives (reference/activation.py), over flat arrays."""

import numpy as np
from numba import cuda, float32

from hpcasr.kernels.cuda.launch import THREADS, kernel, stride
from hpcasr.kernels.cuda.number import narrow, sigmoid, tanh, wide

FUNCTIONS = {'sigmoid': 0, 'relu': 1, 'tanh': 2}
KINDS = ('f4', 'f4'), ('f4', 'u2'), ('u2', 'u2')


def forward(function, x, y, stream=None, threads=THREADS):
    """y ← the function of x [n]; f or h, where y is not finer than x; y may be x."""
    values(stride(x.size, threads), threads, stream, np.int32(FUNCTIONS[function]), x, y)


def backward(function, dy, y, dx, stream=None, threads=THREADS):
    """dx ← dy times the derivative where the function has the value y [n]; f or h, all alike; dx may be dy or y."""
    slopes(stride(y.size, threads), threads, stream, np.int32(FUNCTIONS[function]), dy, y, dx)


@kernel(*(f'void(i4, {x}[::1], {y}[::1])' for x, y in KINDS))
def values(function, x, y):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        v = wide(x[k])
        if function == 0:
            v = sigmoid(v)
        elif function == 2:
            v = tanh(v)
        elif v < float32(0):  # NaN stays NaN
            v = float32(0)
        y[k] = narrow(v, y)


@kernel(*(f'void(i4, {x}[::1], {x}[::1], {x}[::1])' for x in ('f4', 'u2')))
def slopes(function, dy, y, dx):
    for k in range(cuda.grid(1), y.shape[0], cuda.gridsize(1)):
        v, d = wide(y[k]), wide(dy[k])
        if function == 0:
            d *= v*(float32(1) - v)
        elif function == 2:
            d *= float32(1) - v*v
        elif v <= float32(0):
            d = float32(0)
        dx[k] = narrow(d, dx)
