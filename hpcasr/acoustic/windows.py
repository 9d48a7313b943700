"""An utterance cut into overlapping windows that are computed side by side, as one batch."""

import numpy as np


def cut(x, window, context):
    """Windows [window + 2 context, B, D] of x [T, D], B = ⌈T/window⌉, and the mask [.., B] of what is inside x.

    Window k is frames k·window - context ... (k + 1)·window + context; what lies beyond the edges is zero.
    """
    T, B, L = len(x), -(-len(x)//window), window + 2*context
    t = np.arange(L)[:, None] - context + window*np.arange(B)
    mask = (t >= 0) & (t < T)
    return np.where(mask[..., None], x[np.clip(t, 0, T - 1)], 0), mask


def join(y, window, context, T):
    """The inverse for what was computed: [T, K] from y [window + 2 context, B, K]."""
    inner = y[context:context + window]
    return inner.swapaxes(0, 1).reshape(-1, y.shape[-1])[:T]
