"""Softmax with cross-entropy, in place and a block of rows at a time: 32,000 logits a frame are not held twice."""

from math import fsum

import numpy as np

ROWS = 256  # frames: with 72 targets a block stays in the L2 cache


def softmax_ce(logits, targets, mask):
    """Overwrite logits [T, B, K] with d Σ_t −ln softmax(logits_t)[targets_t], zero where masked.

    targets [T, B] int, mask [T, B] bool or None -> (that sum in nats, frames whose argmax is not the target, logits)
    The loss is not finite if an entry of the result is not: every such entry comes from a row whose own loss is NaN.
    """
    rows, targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
    keep = np.ones(len(rows), bool) if mask is None else mask.reshape(-1)
    parts = [block(rows[s], targets[s], keep[s]) for s in slices(len(rows))]
    return fsum(loss for loss, _ in parts), sum(errors for _, errors in parts), logits


def block(z, targets, keep):
    """The same for z [N, K], in place; -> (loss, errors)."""
    n, best = np.arange(len(z)), z.argmax(1)
    z -= z[n, best, None]
    of_target = z[n, targets]
    np.exp(z, out=z)
    total = z.sum(1, keepdims=True)
    loss = np.log(total[:, 0], dtype=np.float64) - of_target
    z /= total
    z[n, targets] -= 1
    z[~keep] = 0
    return float(loss[keep].sum()), int((best != targets)[keep].sum())


def log_softmax(logits):
    """Overwrite logits [..., K] with ln softmax(logits)."""
    rows = logits.reshape(-1, logits.shape[-1])
    for s in slices(len(rows)):
        rows[s] -= rows[s].max(1, keepdims=True)
        rows[s] -= np.log(np.exp(rows[s]).sum(1, keepdims=True))
    return logits


def slices(rows):
    return [slice(lo, lo + ROWS) for lo in range(0, rows, ROWS)]
