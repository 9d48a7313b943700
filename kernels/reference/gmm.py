"""Mixtures of Gaussians: sums over components, and over frames."""

import numpy as np


def mixtures(scores, starts, out):
    """out[t, k] ← ln Σ_g exp scores[g, t], g in starts[k] .. starts[k+1]-1; scores [G, T], out [T, K] float32."""
    for k in range(out.shape[1]):
        part = scores[starts[k]:starts[k+1]].astype(np.float64)
        most = part.max(0)
        out[:, k] = most + np.log(np.exp(part - most).sum(0))


def accumulate(x, pdfs, starts, rows, constants, occupancy, first, second):
    """Add γ, γ x and γ x² of all frames to the sums of the components: occupancy [G], first, second [G, D] float64.

    x [T, D]; pdfs [T]: the mixture of every frame; mixture k has the components starts[k] .. starts[k+1]-1
    rows [G, 2D], constants [G]: the log-likelihood of component g, its weight included, is
    score_g = constants_g + rows_g · (x, x²); γ_g = exp score_g / Σ exp score over the components of the mixture.
    """
    x = np.asarray(x, np.float64)
    for t, k in enumerate(pdfs):
        own = slice(starts[k], starts[k+1])
        scores = constants[own] + rows[own] @ np.concatenate([x[t], x[t]**2])
        gamma = np.exp(scores - scores.max())
        gamma /= gamma.sum()
        occupancy[own] += gamma
        first[own] += gamma[:, None]*x[t]
        second[own] += gamma[:, None]*x[t]**2
