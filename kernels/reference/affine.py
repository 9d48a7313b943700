"""y = x W + b."""

import numpy as np


def forward(x, W, b):
    """x [..., D], W [D, N], b [N] -> y [..., N]."""
    y = x.reshape(-1, len(W)) @ W
    y += b
    return y.reshape(*x.shape[:-1], len(b))


def backward(dy, x, W, dW, db, need_dx):
    """Assign dW and db; -> dx, shaped as x, or None."""
    x2, dy2 = x.reshape(-1, len(W)), dy.reshape(-1, len(db))
    np.matmul(x2.T, dy2, out=dW)
    np.sum(dy2, axis=0, out=db)
    return (dy2 @ W.T).reshape(x.shape) if need_dx else None
