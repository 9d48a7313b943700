"""Small corpora for tests: uneven utterances, features that say something about the targets."""

import numpy as np

from hpcasr.data.corpus import Corpus
from hpcasr.data.store import StoreWriter, Utterances


def corpus(utterances=30, dim=5, targets=7, seed=0, shortest=1, longest=60):
    """A Corpus in memory with utterances of shortest..longest frames by three speakers."""
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(shortest, longest + 1, utterances))])
    y = rng.integers(0, targets, offsets[-1]).astype(np.int32)
    means = np.random.default_rng(1000).normal(size=(targets, dim))
    x = (means[y] + 0.5*rng.normal(size=(len(y), dim))).astype(np.float32)
    return Corpus(x, offsets, y, targets, np.sort(rng.integers(0, 3, utterances)).astype(np.int32))


def store(path, **options):
    """The same as a store at `path`."""
    c = corpus(**options)
    who = Utterances(c.names, np.diff(c.offsets), c.speakers, c.speaker_names)
    with StoreWriter(str(path), who, c.dim, target_names=c.target_names) as writer:
        for lo, hi in zip(c.offsets, c.offsets[1:], strict=False):
            writer.append(c.frames[lo:hi], c.targets[lo:hi])
    return path
