"""Held-out cross-entropy and frame error, computed by all learners."""

import math
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np


@dataclass
class Scores:
    """ce  nats per frame;  fer  frame error rate, 0 to 1;  frames  how many were scored."""

    ce: float = math.nan
    fer: float = math.nan
    frames: int = 0

    def __str__(self):
        return f'ce {self.ce:.3f}  fer {100*self.fer:.1f} %'


def evaluate(network, x, loader, comm):
    """The Scores of parameters `x` on all that `loader` holds; every learner scores its part and gets the whole.

    Raises BadInput, on all learners, if one of them could not read its part.
    """
    sums, faults = np.zeros(3), []
    with holding(network.params, x):
        for _, batch in loader:
            sums += network.evaluate(batch)
            faults += [batch] if batch.fault else []
    comm.together(lambda: [batch.check() for batch in faults])
    comm.sum_ordered(sums)
    return scores(*sums)


def prior(counts, held_out):
    """The Scores of always answering with the priors of the training targets, whatever is heard.

    counts, held_out   [K] frames of every target in the training and in the held-out data; the priors are counts + 1
    """
    p = (counts + 1)/(counts + 1).sum()
    return scores(-(held_out*np.log(p)).sum(), held_out.sum() - held_out[p.argmax()], held_out.sum())


def scores(loss, errors, frames):
    """The Scores of summed cross-entropy and frame errors over `frames`."""
    return Scores(float(loss/max(frames, 1)), float(errors/max(frames, 1)), int(frames))


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
