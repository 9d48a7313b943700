"""y = x W + b."""

import numpy as np

from hpcasr.kernels.reference.bf16 import same


def forward(x, W, b, taken=same):
    """x [..., D], W [D, N], b [N] -> y [..., N]; products are those of taken(factor)."""
    y = taken(x.reshape(-1, len(W))) @ taken(W)
    y += b
    return y.reshape(*x.shape[:-1], len(b))


def backward(dy, x, W, dW, db, need_dx, taken=same):
    """Assign dW and db; -> dx, shaped as x, or None."""
    x2, dy2 = x.reshape(-1, len(W)), dy.reshape(-1, len(db))
    factor = taken(dy2)
    np.matmul(taken(x2).T, factor, out=dW)
    np.sum(dy2, axis=0, out=db)
    return (factor @ taken(W).T).reshape(x.shape) if need_dx else None
