"""Confidence of word error rates by resampling utterances or speakers.

Bisani and Ney, Bootstrap estimates for confidence intervals in ASR performance evaluation, ICASSP 2004.
"""

import numpy as np

CELLS = 1 << 22  # numbers drawn at once: 32 MB
LEVEL = 2.5, 97.5  # percent: the bounds of the interval


def resampled(rows, replicates, rng):
    """Sums over U rows of `rows` [U, C] drawn with replacement: [replicates, C].

    Equal rows are drawn together: how often each kind comes is multinomial, and there are few kinds.
    """
    kinds, counts = np.unique(rows, axis=0, return_counts=True)
    at_once = max(1, CELLS//len(kinds))
    sizes = [min(at_once, replicates - done) for done in range(0, replicates, at_once)]
    return np.concatenate([rng.multinomial(len(rows), counts/len(rows), n) @ kinds for n in sizes])


def percent(errors, words):
    """100 errors/words, NaN where a replicate has no words."""
    return np.divide(100.0*errors, words, out=np.full(len(words), np.nan), where=words > 0)


def interval(errors, words, replicates=10_000, seed=0):
    """(low, high): the 95 % interval, in percent, of Σ errors/Σ words over units with errors [U] and words [U]."""
    sums = resampled(np.stack([errors, words], 1), replicates, np.random.default_rng(seed))
    return tuple(np.nanpercentile(percent(*sums.T), LEVEL).tolist())


def compare(errors, baseline, words, replicates=10_000, seed=0):
    """The difference of two systems on the same units, paired; negative where `errors` [U] is better than `baseline`.

    Returns {difference, interval, improves}: percent absolute, its mean and 95 % interval over the replicates, and the
    share of replicates in which there are fewer errors.
    """
    sums = resampled(np.stack([errors, baseline, words], 1), replicates, np.random.default_rng(seed))
    difference = percent(sums[:, 0] - sums[:, 1], sums[:, 2])
    return {'difference': float(np.nanmean(difference)), 'interval': np.nanpercentile(difference, LEVEL).tolist(),
            'improves': float(np.mean(sums[:, 0] < sums[:, 1]))}
