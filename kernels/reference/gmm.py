"""Mixtures of Gaussians, given the log-likelihoods of their components: sums over components, and over frames."""

import numpy as np


def mixtures(scores, starts, out):
    """out[t, k] ← ln Σ_g exp scores[g, t], g in starts[k] .. starts[k+1]-1; scores [G, T], out [T, K] float32."""
    for k in range(out.shape[1]):
        part = scores[starts[k]:starts[k+1]].astype(np.float64)
        most = part.max(0)
        out[:, k] = most + np.log(np.exp(part - most).sum(0))


def accumulate(x, scores, starts, columns, firsts, occupancy, first, second):
    """Add γ, γ x and γ x² of all frames to the sums of the components, in float64.

    x [T, D]   scores [G, T] of the components, weights included   columns [T]: the mixture of every frame
    firsts [K] index of the first component of a mixture in the sums: occupancy [N], first and second [N, D]
    γ_g = exp scores_g / Σ_g exp scores_g over the components of the frame's mixture.
    """
    x = np.asarray(x, np.float64)
    for t, k in enumerate(columns):
        part = scores[starts[k]:starts[k+1], t].astype(np.float64)
        gamma = np.exp(part - part.max())
        gamma /= gamma.sum()
        own = slice(firsts[k], firsts[k] + len(gamma))
        occupancy[own] += gamma
        first[own] += gamma[:, None]*x[t]
        second[own] += gamma[:, None]*x[t]**2
