"""Weighted means of models (reference/mix.py) in one pass, with the same bits."""

from hpcasr.kernels.cpu.compiled import compiled


@compiled('void(f4[::1], f4[::1], f4[::1], f4, f4)')
def two(out, x, y, a, b):
    """out ← a x + b y; out may be x or y."""
    for k in range(len(out)):
        out[k] = x[k]*a + y[k]*b


@compiled('void(f4[::1], f4[::1], f4[::1], f4[::1], f4, f4, f4)')
def three(out, x, y, z, a, b, c):
    """out ← a x + b y + c z, added in that order; out may be one of them."""
    for k in range(len(out)):
        out[k] = x[k]*a + y[k]*b + z[k]*c
