"""An utterance cut into overlapping windows that are computed side by side, as one batch."""

import numpy as np


def cut(x, window, context, first, last):
    """Frames first ... last of x [T, D] as windows [window + 2 context, B, D], B = ⌈(last - first)/window⌉, and the
    mask [.., B] of what is inside x.

    Window k is frames first + k·window - context ... first + (k + 1)·window + context of x; what lies beyond the edges
    of x is zero.
    """
    T, B, L = len(x), -(-(last - first)//window), window + 2*context
    t = np.arange(L)[:, None] - context + first + window*np.arange(B)
    mask = (t >= 0) & (t < T)
    chunks = x[np.clip(t, 0, T - 1)]
    chunks[~mask] = 0
    return chunks, mask


def join(y, window, context, T):
    """The inverse for what was computed: [T, K] from y [window + 2 context, B, K]."""
    inner = y[context:context + window]
    return inner.swapaxes(0, 1).reshape(-1, y.shape[-1])[:T]
