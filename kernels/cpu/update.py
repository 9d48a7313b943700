"""The arithmetic of the optimizers (reference/update.py) in one pass, with the same bits."""

from hpcasr.kernels.cpu.compiled import compiled


@compiled('void(f4[::1], f4[::1], f4[::1], f4, f4)')
def sgd(x, g, v, lr, momentum):
    """v ← momentum v + g;  x ← x − lr v."""
    for k in range(len(x)):
        v[k] = v[k]*momentum + g[k]
        x[k] -= v[k]*lr


@compiled('void(f4[::1], f4[::1], f4)')
def descend(x, g, lr):
    """x ← x − lr g: as `sgd` where the momentum is 0, of which v is nothing but g."""
    for k in range(len(x)):
        x[k] -= g[k]*lr
