"""From static features to what the network sees: deltas, then mean and variance normalization."""

import numpy as np

ROUNDING = 1e-13  # of a variance: what is below, relative to the squares, is left of float64


def deltas(x, order=2, window=2):
    """[x, Δx, ... Δ^order x] side by side, [T, D (1+order)]; Kaldi's add-deltas, edge frames repeated.

    Δx_t = Σ_j j x_{t+j} / Σ_j j², |j| ≤ window; higher orders convolve the window with itself, not Δx with the window,
    which differs at the edges.
    """
    slope = np.arange(-window, window + 1)/sum(j*j for j in range(-window, window + 1))
    blocks, scales = [x], np.ones(1)
    for _ in range(order):
        scales = np.convolve(scales, slope)
        blocks.append(correlate(x, scales))
    return np.concatenate(blocks, axis=1)


def correlate(x, scales):
    """y_t = Σ_i scales_i x_{t+i-n}, where 2n+1 = len(scales) and x is repeated at its edges."""
    n = len(scales)//2
    padded = np.pad(x, ((n, n), (0, 0)), 'edge')
    return sum(s*padded[i:i+len(x)] for i, s in enumerate(scales)).astype(x.dtype)


class Cmvn:
    """Mean and variance over frames: x ← (x - μ)/σ.  A constant column is only centred.

    Sums are float64, of differences from the first frame, so that a large mean costs no digits.
    """

    def __init__(self, dim, variance=True):
        self.variance = variance
        self.n, self.origin, self.sum, self.squares = 0, None, np.zeros(dim), np.zeros(dim)

    def add(self, x):
        x = np.asarray(x, np.float64)
        self.origin = self.origin if self.n else x[0]
        x = x - self.origin
        self.n += len(x)
        self.sum += x.sum(0)
        self.squares += (x*x).sum(0)

    def apply(self, x):
        """[T, D] float32, normalized by what has been added."""
        mean = self.sum/self.n
        centred = x - self.origin - mean
        return (centred/self.deviation(mean) if self.variance else centred).astype(np.float32)

    def deviation(self, mean):
        variance = self.squares/self.n - mean**2
        constant = variance <= ROUNDING*self.squares/self.n
        return np.sqrt(np.where(constant, 1, variance))


class Frontend:
    """What is done to static features at import.

    deltas   highest order, 0 for none
    cmvn     'speaker', 'utterance' or 'none'; after the deltas, so that every column has zero mean and unit variance.
             Without the variance this is Kaldi's apply-cmvn followed by add-deltas, but for a constant per column.
    """

    def __init__(self, deltas=2, cmvn='speaker', variance=True):
        self.deltas, self.cmvn, self.variance = deltas, cmvn, variance
        self.stats = {}

    def observe(self, x, speaker):
        """First pass: add static features [T, D] to the statistics of the speaker."""
        if self.cmvn == 'speaker':
            y = deltas(x, self.deltas)
            self.stats.setdefault(speaker, Cmvn(y.shape[1], self.variance)).add(y)

    def apply(self, x, speaker):
        """Second pass: what the network sees, [T, D (1+deltas)] float32."""
        y = deltas(x, self.deltas)
        return y if self.cmvn == 'none' else self.statistics(y, speaker).apply(y)

    def statistics(self, y, speaker):
        if self.cmvn == 'speaker':
            return self.stats[speaker]
        own = Cmvn(y.shape[1], self.variance)
        own.add(y)
        return own

    def describe(self):
        return {'deltas': self.deltas, 'cmvn': self.cmvn, 'cmvn_vars': self.variance and self.cmvn != 'none'}
