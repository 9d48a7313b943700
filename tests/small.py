"""Small corpora for tests: uneven utterances, features that say something about the targets."""

import numpy as np

from hpcasr.data.corpus import Corpus


def corpus(utterances=30, dim=5, targets=7, seed=0, shortest=1, longest=60):
    """A Corpus in memory with utterances of shortest..longest frames by three speakers."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(shortest, longest + 1, utterances))])
    y = rng.integers(0, targets, offsets[-1]).astype(np.int32)
    means = rng.normal(size=(targets, dim))
    x = (means[y] + 0.5*rng.normal(size=(len(y), dim))).astype(np.float32)
    return Corpus(x, offsets, y, targets, np.sort(rng.integers(0, 3, utterances)).astype(np.int32))
