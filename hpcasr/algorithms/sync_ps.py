"""w ← w − a · mean_l g_l(w), each slice of w updated by the learner that serves it."""

from functools import partial
from math import hypot

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.sync_allreduce import SyncAllreduce
from hpcasr.compress.pushed import Pushed
from hpcasr.compress.takes import SUMS, Takes
from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS
from hpcasr.optim.clip import clip, norm2


def servers(L, options):
    """S: how many of L learners serve a slice each."""
    return {-1: 1, 0: L}.get(options.exchange.servers, options.exchange.servers)


class SyncPS(SyncAllreduce):
    """w ← w − a · Σ_l g_l(w) / Σ_l n_l:  servers gather the gradients, update their slice of w, and broadcast it.

    SC-PSGD of arXiv 2002.10502 through a parameter server (Li et al. 2014, OSDI), whose S shards lie with S of the
    learners, evenly spread.  Momentum lives where the update happens, so a server has only that of its slice.  The
    slices of a bucket are sent as soon as the backward pass has finished its layers.
    """

    name = 'sync-ps'
    about = About(
        family='SC-PSGD',
        rule='server s: w[s] ← w[s] − a · Σ_l g_l(w)[s] / Σ_l n_l',
        cites='Li et al. 2014, OSDI, Scaling Distributed Machine Learning with the Parameter Server',
        exchanges='gradients to S servers, and their slices of the model back',
        bytes_text='V(L + S − 2)/S',
        bytes=lambda V, L, options: V*(L + servers(L, options) - 2)/servers(L, options),
        messages_text='L + S − 2 per bucket, and 2(L − 1) small',
        messages=lambda L, options: L + servers(L, options) - 2 + 2*(L - 1),
        options=('exchange.servers', 'train.bucket', 'exchange.node_size'),
        use='a baseline; with exchange.servers = 0 as many bytes as sync-allreduce, and each entry updated once in all',
        avoid='many ranks with one server, whose network link carries all gradients and all models')

    compression = Takes(SUMS, 'gradients on their way to the servers; their slices of the model come back whole',
                        'sums slices of tensors, which have no factors of their own', 'take onebit or topk',
                        momentum=True)

    def __init__(self, comm, config):
        super().__init__(comm, config)
        L, S = comm.size, servers(comm.size, config)
        if S > L:
            raise BadInput(f'exchange.servers = {S}: there are {L} ranks; give {L} at most, or 0 for all of them')
        self.starts = -(-np.arange(L + 1)*S//L)  # slices that lie with the learners before; every L/S-th serves

    def describe(self):
        ranks = np.flatnonzero(np.diff(self.starts))
        return [f'servers   {len(ranks)} of {self.comm.size} ranks: {", ".join(map(str, ranks[:8]))}'
                + ', ...'*(len(ranks) > 8), *super().describe()]

    def allocate_gradient(self, n, dtype):
        """Any: what is summed goes to servers, not into memory that a node shares."""

    def bind(self, params, optimizer):
        self.bounds = self.starts*params.size//self.starts[-1]
        self.own = slice(*self.bounds[self.comm.rank:self.comm.rank + 2].tolist())
        super().bind(params, optimizer)

    def compress(self, carrier=None):
        super().compress(partial(Pushed, bounds=self.bounds))

    def step(self, x, g, lr):
        self.sum(g)
        self.descend(x[self.own], g[self.own], g[-SLOTS:], lr, self.own.start)
        self.comm.share_slices(x, self.bounds)

    def start_whole(self, g, lo, hi):
        """Start sending the servers their slices of g[lo:hi], and adding up the slots behind them."""
        n, ends = self.params.size, []
        self.correct(g, lo, hi)
        if lo < n:
            ends.append(self.comm.start_sum_slices(g[lo:min(hi, n)], np.clip(self.bounds, lo, min(hi, n)) - lo))
        if hi > n:
            ends.append(self.comm.start_sum(g[n:]))
        return lambda: [end() for end in ends]

    def clip(self, g):
        """By the norm of all slices together."""
        clip(g, self.config.optim.clip, hypot(*self.comm.allgather(norm2(g))))

    def state(self):
        """The servers' slices put together, on every learner: what sync-allreduce would have."""
        state = super().state()
        for vector in state.values():
            if vector.ndim:
                self.comm.share_slices(vector, self.bounds)
        return state
