"""Latency and inverse bandwidth from times: t(n) = α + β·n, in pieces at the change from eager to rendezvous.

Relative errors count, so every size weighs alike.  Where two pieces fit better than one, by Schwarz's criterion, there
are two.  Intervals are those of a bootstrap of the residuals, for the pieces as they are.  (Hockney 1994.)
"""

import numpy as np

from hpcasr.errors import BadInput

LEAST = 3  # sizes of a piece
REPLICATES, LEVEL = 2000, (2.5, 97.5)
SMALLEST = 1e-12  # relative residual: what is fitted exactly is not better than that


def fit(sizes, seconds):
    """[{from, to, latency_us, latency_us_95, ns_per_byte, ns_per_byte_95}], one piece or two.

    sizes [N] in bytes, ascending;  seconds [N].  Raises BadInput for less than LEAST sizes.
    """
    n, t = np.asarray(sizes, float), np.asarray(seconds, float)
    require_sizes(len(set(sizes)))
    best = min(([(0, len(n))], *splits(len(n))), key=lambda cuts: criterion(n, t, cuts))
    return [piece(n[a:b], t[a:b]) for a, b in best]


def require_sizes(count):
    if count < LEAST:
        raise BadInput(f'a fit needs {LEAST} sizes or more, got {count}; give a wider -m MIN:MAX')


def splits(count):
    return ([(0, k), (k, count)] for k in range(LEAST, count - LEAST + 1))


def criterion(n, t, cuts):
    """N·ln(mean square of the relative residuals) + parameters·ln N: Schwarz 1978; a cut is a parameter."""
    residuals = np.concatenate([1 - line(n[a:b], *solve(n[a:b], t[a:b]))/t[a:b] for a, b in cuts])
    square = max(float(np.mean(residuals**2)), SMALLEST**2)
    return len(n)*np.log(square) + (3*len(cuts) - 1)*np.log(len(n))


def line(n, latency, inverse):
    return latency + inverse*n


def solve(n, t):
    """(α, β) of the least relative squares, neither below 0."""
    A = np.stack([1/t, n/t], 1)
    scale = np.linalg.norm(A, axis=0)
    latency, inverse = np.linalg.lstsq(A/scale, np.ones(len(n)), rcond=None)[0]/scale
    if latency < 0:
        return 0.0, float((n/t).sum()/((n/t)**2).sum())
    if inverse < 0:
        return float((1/t).sum()/((1/t)**2).sum()), 0.0
    return float(latency), float(inverse)


def piece(n, t, seed=0):
    latency, inverse = solve(n, t)
    fitted = line(n, latency, inverse)
    residuals, rng = (t/fitted - 1)*np.sqrt(len(n)/max(len(n) - 2, 1)), np.random.default_rng(seed)
    draws = np.array([solve(n, fitted*(1 + np.clip(rng.choice(residuals, len(n)), -0.9, None)))
                      for _ in range(REPLICATES)])
    (a, c), (b, d) = np.percentile(draws, LEVEL, axis=0)
    return {'from': int(n[0]), 'to': int(n[-1]), 'latency_us': 1e6*latency, 'latency_us_95': [1e6*a, 1e6*b],
            'ns_per_byte': 1e9*inverse, 'ns_per_byte_95': [1e9*c, 1e9*d]}
