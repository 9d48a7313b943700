"""The arithmetic of the optimizers: in place on flat vectors, in blocks as long as `scratch`, which is overwritten."""

import numpy as np


def sgd(x, g, v, lr, momentum, scratch):
    """v ← momentum v + g;  x ← x − lr v."""
    for s in slices(x, scratch):
        step = scratch[:len(x[s])]
        v[s] *= momentum
        v[s] += g[s]
        x[s] -= np.multiply(v[s], lr, out=step)


def adam(x, g, m, v, t, lr, beta1, beta2, epsilon, scratch):
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − lr m̂/(√v̂ + ε).

    m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ), t from 1.
    """
    for s in slices(x, scratch):
        step = scratch[:len(x[s])]
        m[s] *= beta1
        m[s] += np.multiply(g[s], 1 - beta1, out=step)
        v[s] *= beta2
        np.multiply(g[s], g[s], out=step)
        v[s] += np.multiply(step, 1 - beta2, out=step)
        np.divide(v[s], 1 - beta2**t, out=step)
        np.sqrt(step, out=step)
        step += epsilon
        np.divide(m[s], step, out=step)
        step *= lr/(1 - beta1**t)
        x[s] -= step


def slices(x, scratch):
    return [slice(lo, lo + len(scratch)) for lo in range(0, len(x), len(scratch))]
