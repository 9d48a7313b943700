"""Clipping of the gradient by its norm."""

import numpy as np

BLOCK = 1 << 16  # entries that are converted at a time
LARGE = 1 << 22  # the same, of a vector on a GPU


def clip(g, largest, norm=None):
    """g ← g min(1, largest/‖g‖₂) in place (Pascanu et al. 2013); -> ‖g‖₂ before.  largest = 0: never scale.

    norm   ‖g‖₂ where it is known, as of a whole of which g is a part; None: of g
    A gradient that is not finite is left as it is.
    """
    norm = norm2(g) if norm is None else norm
    if 0 < largest < norm < np.inf:
        g *= largest/norm
    return norm


def norm2(g):
    """‖g‖₂, accumulated in float64: squares of float32 overflow, and their sum loses small entries."""
    size = BLOCK if isinstance(g, np.ndarray) else LARGE
    blocks = (g[lo:lo + size].astype(np.float64) for lo in range(0, len(g), size))
    return float(np.sqrt(sum(float(b @ b) for b in blocks)))
