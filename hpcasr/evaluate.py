"""Held-out cross-entropy and frame error, computed by all learners."""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass
class Scores:
    """ce  nats per frame;  fer  frame error rate, 0 to 1;  frames  how many were scored."""

    ce: float
    fer: float
    frames: int

    def __str__(self):
        return f'ce {self.ce:.3f}  fer {100*self.fer:.1f} %'


def evaluate(network, x, loader, comm):
    """The Scores of parameters `x` on all that `loader` holds; every learner scores its part and gets the whole."""
    sums = np.zeros(3)
    with holding(network.params, x):
        for _, batch in loader:
            sums += network.evaluate(batch)
    return scores(sums, comm)


def prior(counts, corpus_counts, comm):
    """The Scores of always answering with the priors of the training targets, whatever is heard.

    counts          [K] frames of every target in the training data: the priors, with one added to each
    corpus_counts   [K] frames of every target in this learner's part of the held-out data
    """
    p = (counts + 1)/(counts + 1).sum()
    sums = np.array([-(corpus_counts*np.log(p)).sum(), corpus_counts.sum() - corpus_counts[p.argmax()],
                     corpus_counts.sum()], float)
    return scores(sums, comm)


def scores(sums, comm):
    comm.sum_ordered(sums)
    loss, errors, frames = sums
    return Scores(loss/max(frames, 1), errors/max(frames, 1), int(frames))


@contextmanager
def holding(params, x):
    """Let the model compute with `x`; afterwards it has its own parameters again."""
    if x is params.data:
        yield
        return
    own = params.data.copy()
    np.copyto(params.data, x)
    try:
        yield
    finally:
        np.copyto(params.data, own)
