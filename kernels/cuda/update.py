"""The arithmetic of the optimizers (reference/update.py), in one pass over flat vectors.

What changes from step to step is read from device memory, so that a captured graph follows it; all of it is float32:
rates     lr and what else the optimizer is steered by
frames    [1]: g is divided by it, or by 1 where it is less
skip      [1]: where it is not 0, or NaN, nothing is changed
half      [n] uint16: assigned x in bf16, or None
"""

import math

from numba import cuda, float32

from hpcasr.kernels.cuda.launch import THREADS, kernel, nothing, stride
from hpcasr.kernels.cuda.number import narrow, ratio, sqrt

EACH = 4  # entries that a thread reads, without a branch, before it writes the first: they come at the same time


def sgd(x, g, v, rates, frames, skip, half=None, stream=None, threads=THREADS):
    """v ← momentum v + g/frames;  x ← x − lr v, of vectors [n]; rates [2]: lr, momentum."""
    momentum(stride(x.size, threads), threads, stream, x, g, v, rates, frames, skip,
             nothing('u2', 1) if half is None else half)


def adam(x, g, m, v, rates, frames, skip, half=None, stream=None, threads=THREADS):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − lr m̂/(√v̂ + ε), with g/frames for g.

    rates [7], as `adam_rates` gives them.
    """
    moments(stride(x.size, threads), threads, stream, x, g, m, v, rates, frames, skip,
            nothing('u2', 1) if half is None else half)


def adam_rates(t, lr, beta1, beta2, epsilon):
    """What `adam` takes as `rates`, on the host, in step t from 1."""
    return [lr/(1 - beta1**t), beta1, beta2, 1 - beta1, 1 - beta2, 1/(1 - beta2**t), epsilon]


def not_finite(x, flag, stream=None, threads=THREADS):
    """flag [1] f ← 1 if an entry of x [n] is not finite; else it stays what it is."""
    look(stride(x.size, threads), threads, stream, x, flag)


@kernel('void(f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], u2[::1])', registers=64)
def momentum(x, g, v, rates, frames, skip, half):
    lr, mu, unscale = rates[0], rates[1], float32(1)/max(frames[0], float32(1))
    n, size = x.shape[0], cuda.gridsize(1)
    new, step = cuda.local.array(EACH, float32), cuda.local.array(EACH, float32)
    if skip[0] != float32(0):
        return
    for first in range(cuda.grid(1), n, EACH*size):
        for u in range(EACH):
            k = min(first + u*size, n - 1)
            step[u] = mu*v[k] + g[k]*unscale
            new[u] = x[k] - lr*step[u]
        for u in range(EACH):
            k = first + u*size
            if k < n:
                v[k], x[k] = step[u], new[u]
                if half.shape[0]:
                    half[k] = narrow(new[u], half)


@kernel('void(f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], f4[::1], u2[::1])', registers=64)
def moments(x, g, m, v, rates, frames, skip, half):
    lr, beta1, beta2, rest1, rest2 = rates[0], rates[1], rates[2], rates[3], rates[4]
    unbias, epsilon, unscale = rates[5], rates[6], float32(1)/max(frames[0], float32(1))
    n, size, new = x.shape[0], cuda.gridsize(1), cuda.local.array(EACH, float32)
    mean, square = cuda.local.array(EACH, float32), cuda.local.array(EACH, float32)
    if skip[0] != float32(0):
        return
    for first in range(cuda.grid(1), n, EACH*size):
        for u in range(EACH):
            k = min(first + u*size, n - 1)
            d = g[k]*unscale
            mean[u], square[u] = beta1*m[k] + rest1*d, beta2*v[k] + rest2*(d*d)
            new[u] = x[k] - lr*ratio(mean[u], sqrt(square[u]*unbias) + epsilon)
        for u in range(EACH):
            k = first + u*size
            if k < n:
                m[k], v[k], x[k] = mean[u], square[u], new[u]
                if half.shape[0]:
                    half[k] = narrow(new[u], half)


@kernel('void(f4[::1], f4[::1])')
def look(x, flag):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        if not math.isfinite(x[k]):
            flag[0] = float32(1)
