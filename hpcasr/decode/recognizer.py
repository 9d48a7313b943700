"""One rank's part of a recognition: log-likelihoods of its utterances, and the search at any scale and penalty."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from hpcasr.data.kaldi import words
from hpcasr.data.store import Store
from hpcasr.decode.score import Counts, count
from hpcasr.decode.search import Graph, Search
from hpcasr.decode.share import share
from hpcasr.errors import BadInput

KEEP = 1 << 30  # bytes of log-likelihoods that a rank keeps between the searches of a tuning


@dataclass
class Part:
    """What one rank recognized at one point: {utterance: text}, Counts, names of those without a final state."""

    texts: dict
    counts: Counts
    unfinished: list


@dataclass
class Spent:
    """Seconds and frames of one rank so far."""

    network: float = 0.0
    search: float = 0.0
    computed: int = 0
    searched: int = 0

    def facts(self):
        return dict(vars(self))


class Recognizer:
    """One rank's utterances, and what is needed to recognize them.  Raises BadInput if the parts do not fit."""

    def __init__(self, request, open_model, rank=0, size=1):
        self.request, self.spent = request, Spent()
        self.store, self.graph, self.model = Store(request.store, targets=False), Graph(request.graph), open_model()
        self.graph.refuse_other(self.model)
        self.model.refuse_other(self.store)
        if request.tunes and not any(self.store.texts):
            raise BadInput(f'{request.store}: has no texts to choose a scale by; give one --acwt and one --penalty, or '
                           '--like DIR of a set that has been scored')
        self.utterances = share(np.diff(self.store.offsets), rank, size)
        self.likelihoods = Likelihoods(self.model, self.store, self.spent, KEEP if request.tunes else 0)
        self.penalty = self.search = None

    def decode(self, scale, penalty, watch=iter):
        """The Part of this rank at one acoustic scale and word penalty; `watch` shows how far it is."""
        self.prepare(penalty)
        part = Part({}, Counts(), [])
        for u in watch(self.utterances):
            name, hyp, final = self.store.name(u), *self.recognize(u, scale)
            part.texts[name] = ' '.join(hyp)
            part.counts += count(words(self.store.text(u)), hyp)
            part.unfinished += [] if final else [name]
        return part

    def prepare(self, penalty):
        """Have the graph with this penalty; one at a time, they are large."""
        if penalty != self.penalty:
            self.search, self.penalty = None, penalty
            self.search = Search(self.graph.penalized(penalty), self.request.beam, self.request.max_active)

    def recognize(self, u, scale):
        """The words of utterance u, and whether a final state was found."""
        scaled = self.likelihoods(u)*np.float32(scale)
        tic = perf_counter()
        ids, final = self.search.best(scaled)
        self.spent.search += perf_counter() - tic
        self.spent.searched += len(scaled)
        return [self.graph.word(i) for i in ids], final


class Likelihoods:
    """The log-likelihoods of utterances; the first `room` bytes of them are kept, the others are computed again."""

    def __init__(self, model, store, spent, room):
        self.model, self.store, self.spent, self.room, self.kept = model, store, spent, room, {}

    def __call__(self, u):
        """[T, num_pdfs] float32 of utterance u.  Raises BadInput."""
        if u in self.kept:
            return self.kept[u]
        found = self.compute(u)
        if found.nbytes <= self.room:
            self.room -= found.nbytes
            self.kept[u] = found
        return found

    def compute(self, u):
        frames, _ = self.store.utterance(u)
        tic = perf_counter()
        found = self.model.loglikes(frames)
        self.spent.network += perf_counter() - tic
        self.spent.computed += len(frames)
        if found.shape != (len(frames), self.model.num_pdfs):  # the decoder would read beyond it
            raise BadInput(f'{self.model.path}: gives {found.shape} log-likelihoods for {len(frames)} frames, '
                           f'expected {self.model.num_pdfs} each')
        if not np.isfinite(found).all():
            raise BadInput(f'{self.store.path}: utterance {self.store.name(u)}: its log-likelihoods by '
                           f'{self.model.path} are not finite; run hpcasr data check on the store, or choose another '
                           '--checkpoint')
        return found
