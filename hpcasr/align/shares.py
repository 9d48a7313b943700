"""Which utterances a rank works on, and their graphs, kept where there is memory for them."""

import numpy as np

from hpcasr.comm.base import cuts
from hpcasr.data.kaldi import words
from hpcasr.errors import BadInput

MEMORY = 512 << 20  # bytes of graphs that are kept for the next pass; others are built again


class Share:
    """A stretch of the utterances of a store for every rank, of about as many frames each.

    store   Store, opened without its targets
    graphs  graph.Graphs
    memory  bytes of state graphs to keep
    """

    def __init__(self, store, graphs, comm, memory=MEMORY):
        self.store, self.graphs = store, graphs
        bounds = np.searchsorted(store.offsets, cuts(store.num_frames, comm.size))
        self.utterances = range(bounds[comm.rank], bounds[comm.rank + 1])
        self.kept, self.room = {}, memory

    def frames(self, u):
        return self.store.utterance(u)[0]

    def where(self, u):
        return f'{self.store.path}: utterance {self.store.name(u)}'

    def words(self, u):
        """The transcript.  BadInput if there is none."""
        spoken = words(self.store.text(u))
        if not spoken:
            raise BadInput(f'{self.where(u)}: has no transcript; import it with a file text')
        return spoken

    def phones(self):
        """Names of all phones that may occur.  BadInput for the first word that the lexicon lacks."""
        found, known = {self.graphs.lexicon.silence}, set()
        for u in self.utterances:
            for word in self.words(u):
                if word in known:
                    continue
                known.add(word)
                found.update(p for _, phones in self.graphs.variants(word, self.where(u)) for p in phones)
        return found

    def graph(self, u):
        """All that utterance u may be: a StateGraph."""
        if u in self.kept:
            return self.kept[u]
        graph = self.graphs.of(self.words(u), self.where(u))
        if graph.nbytes < self.room:
            self.kept[u], self.room = graph, self.room - graph.nbytes
        return graph

    def chain(self, u):
        """Its first pronunciations and nothing else."""
        return self.graphs.chain(self.words(u), self.where(u))
