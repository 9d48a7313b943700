"""The arithmetic of the optimizers (reference/update.py) in one pass, with the same bits."""

from hpcasr.kernels.cpu.compiled import compiled


@compiled('void(f4[::1], f4[::1], f4[::1], f4, f4)')
def sgd(x, g, v, lr, momentum):
    """v ← momentum v + g;  x ← x − lr v."""
    for k in range(len(x)):
        v[k] = v[k]*momentum + g[k]
        x[k] -= v[k]*lr
