"""Times that were taken in turn, compared pair by pair: what slows the machine for a while slows both of a pair."""

import numpy as np

REPLICATES = 10_000
LEVEL = 2.5, 97.5  # percent: the bounds of the interval


def ratio(a, b):
    """{ratio, low, high}: median of a/b over pairs [N], with the 95 % bootstrap interval of that median."""
    ratios = np.asarray(a, float)/np.asarray(b, float)
    low, high = interval(ratios)
    return {'ratio': float(np.median(ratios)), 'low': low, 'high': high}


def interval(values, replicates=REPLICATES, seed=0):
    """(low, high): the 95 % percentile interval of the median of `values` [N] (Efron 1979)."""
    draws = np.random.default_rng(seed).integers(0, len(values), (replicates, len(values)))
    low, high = np.percentile(np.median(np.asarray(values)[draws], axis=1), LEVEL)
    return float(low), float(high)


def order(n, turn):
    """In which order n things take turn number `turn`: drawn, so none follows the same one all the time; [n]."""
    return np.random.default_rng([n, turn]).permutation(n).tolist()
