"""One pass over the training data: every utterance is aligned, and its frames are added up as they were aligned."""

from dataclasses import dataclass

import numpy as np

from hpcasr.align.graph import SILENCE, StateGraph
from hpcasr.align.mixtures import AT_ONCE, Sums
from hpcasr.align.stopping import until_asked
from hpcasr.align.viterbi import best_path
from hpcasr.errors import BadInput


@dataclass
class Tally:
    """Of a pass over all ranks: Σ of the paths' scores, frames, those of silence, utterances aligned and failed.

    first   the first utterance that failed: its number, or None
    """

    score: float = 0.0
    frames: float = 0.0
    silence: float = 0.0
    aligned: float = 0.0
    failed: float = 0.0
    first: int | None = None

    def add(self, score, graph, path):
        self.score += score
        self.frames += len(path)
        self.silence += np.count_nonzero(graph.phones[graph.nodes[path//graph.states]] == SILENCE)
        self.aligned += 1

    def fail(self, u):
        self.failed += 1
        self.first = u if self.first is None else self.first

    def sum(self, comm):
        """Add up those of all ranks."""
        x = np.array([self.score, self.frames, self.silence, self.aligned, self.failed], np.float64)
        comm.sum_ordered(x)
        self.score, self.frames, self.silence, self.aligned, self.failed = x.tolist()
        self.first = min((u for u in comm.allgather(self.first) if u is not None), default=None)

    def facts(self):
        """A dict for JSON; `silence` is a share of the frames."""
        n = max(self.frames, 1)
        return {'aligned': int(self.aligned), 'failed': int(self.failed), 'frames': int(self.frames),
                'loglike_per_frame': self.score/n, 'silence': self.silence/n}

    def refuse_most(self, store):
        """BadInput if more than half of the utterances failed."""
        if self.failed > self.aligned:
            raise BadInput(f'{store.path}: {self.failed:.0f} of {self.failed + self.aligned:.0f} utterances cannot be '
                           f'aligned, first {store.name(self.first)}: too few frames for their words; check that the '
                           'transcripts belong to the features')


@dataclass
class Aligned:
    """An utterance: features [T, d] float32, its score (-inf: it has no path) and path [T] through a StateGraph, which
    gives every frame one of the pdfs [T] int32 of the model that is trained."""

    x: np.ndarray
    score: float
    graph: StateGraph
    path: np.ndarray
    pdfs: np.ndarray


class Realign:
    """Utterances of a Share, aligned with a model (Transform and Mixtures)."""

    def __init__(self, share, transform, mixtures):
        self.share, self.transform, self.mixtures = share, transform, mixtures

    def __call__(self, u):
        graph, x = self.share.graph(u), self.transform(self.share.frames(u))
        score, path = best_path(graph, len(x), lambda a, b: self.mixtures.loglikes(x[a:b], graph.pdfs))
        return Aligned(x, score, graph, path, graph.alignment(path))


class Split(Realign):
    """The same, but every state of the first pronunciations gets the same share: an equal start."""

    def __call__(self, u):
        graph, x = self.share.chain(u), self.transform(self.share.frames(u))
        path = graph.equal(len(x))
        score = self.score(x, graph, path) if len(x) >= len(graph.columns) else -np.inf
        return Aligned(x, score, graph, path, graph.alignment(path))

    def score(self, x, graph, path):
        """Σ_t ln p(x_t | pdf of its state), a stretch at a time, whatever the length of the utterance."""
        total = 0.0
        for t in range(0, len(x), AT_ONCE):
            own, inverse = np.unique(graph.columns[path[t:t + AT_ONCE]], return_inverse=True)
            loglikes = self.mixtures.loglikes(x[t:t + AT_ONCE], graph.pdfs[own])
            total += loglikes[np.arange(len(inverse)), inverse].sum(dtype=np.float64)
        return total


def sweep(comm, share, align, take):
    """take(Aligned) for every utterance of this rank that align(u) can align; returns the Tally of all ranks.

    Raises BadInput on all ranks if one cannot read its data, or more than half of all fail.
    """
    tally = comm.together(sweep_own, share, align, take)
    tally.sum(comm)
    tally.refuse_most(share.store)
    return tally


def sweep_own(share, align, take):
    tally = Tally()
    for u in until_asked(share.utterances):
        found = align(u)
        if found.score > -np.inf:
            tally.add(found.score, found.graph, found.path)
            take(found)
        else:
            tally.fail(u)
    return tally


def sum_up(comm, share, align, model):
    """(Tally, Sums of the Mixtures `model` over all ranks) of a sweep; frames as `align` finds them."""
    sums = Sums(model)
    tally = sweep(comm, share, align, lambda a: sums.add(a.x, a.pdfs))
    comm.sum_ordered(sums.vector)
    return tally, sums


def statistics(comm, share, matrix):
    """(n, Σ y, Σ y²) of y = x M over all frames of all ranks; M [D, d] float64."""
    own = comm.together(own_statistics, share, matrix)
    comm.sum_ordered(own)
    return own[0], *own[1:].reshape(2, -1)


def own_statistics(share, matrix):
    total = np.zeros(1 + 2*matrix.shape[1])
    first, second = total[1:].reshape(2, -1)
    for u in until_asked(share.utterances):
        y = np.asarray(share.frames(u), np.float64) @ matrix
        total[0] += len(y)
        first += y.sum(0)
        second += (y*y).sum(0)
    return total
