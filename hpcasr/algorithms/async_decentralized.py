"""Learners average with whoever they choose, whatever that one is doing, and never wait for it to compute."""

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.asynchronous import Asynchronous
from hpcasr.algorithms.replicas import Replicas
from hpcasr.algorithms.sync_decentralized import neighbours
from hpcasr.algorithms.topology import get_topology
from hpcasr.compress.takes import Takes
from hpcasr.finite import finite


class AsyncDecentralized(Asynchronous, Replicas):
    """At once:  w_j ← mean_{i ∈ N} w_i for all j in N = {l and its partners};  w_l ← w_l − a · g_l/n_l.

    AD-PSGD of arXiv 2002.10502; Lian et al. 2018, arXiv 1710.06952.  The gradient is that of w_l as it was when the
    learner began to compute; meanwhile others may have averaged with it, so often as its staleness says.  Partners are
    those of exchange.topology at this learner's own step.  Momentum stays with its learner.

    group       Comm of those who average
    published   Window of w_l
    x           what the network computes with: w_l after this learner's last update
    """

    name = 'async-decentralized'
    about = About(
        family='AD-PSGD',
        rule='w_j ← mean over l and its partners, for all of them; w_l ← w_l − a · g_l(w_l some averages ago)',
        cites='Lian et al. 2018, arXiv 1710.06952',
        exchanges='models, read and written in the windows of the partners',
        bytes_text='2V per partner',
        bytes=lambda V, L, options: 2*V*neighbours(L, options),
        messages_text='2 per partner',
        messages=lambda L, options: 2*neighbours(L, options),
        options=('exchange.topology', 'exchange.assign', 'exchange.meet', 'exchange.sample'),
        use='ranks of unequal or varying speed: nobody waits for the slowest, and no server is a bottleneck',
        avoid='few equal ranks on a fast network, where sync-allreduce is exact and as fast')
    compression = Takes(
        why='reads and writes models in windows at any time, so that nobody could keep public copies of them',
        instead='take async-ps, whose pushes can be compressed, or sync-decentralized')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.group = self.gather(comm)
        self.topology = get_topology(config.exchange.topology, self.group.size, config.data.seed)

    def gather(self, comm):
        """The Comm of those who average."""
        return comm

    def describe(self):
        return [f'topology  {self.topology.describe()}']

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.open(params.size, params.dtype)
        self.publish(params.data)

    def open(self, n, dtype):
        """Make the window, and room for the models of the partners."""
        self.published = self.window(self.group, n, dtype)
        self.others = np.empty((neighbours(self.group.size, self.config), n), dtype)

    def partners(self, t):
        return self.topology.receivers(self.group.rank, t)

    def publish(self, x):
        """w_l ← x, before anybody else looks at it."""
        self.published.own[:] = x
        self.published.sync()
        self.seen = -1

    def exchange(self, x, g, lr):
        rank, partners, w = self.group.rank, self.partners(self.t), self.published.own
        with self.lock(self.published, [rank, *partners]) as tickets:
            self.average_with(w, partners)
            self.update(w, g, lr)
            np.copyto(x, w)
        self.staleness.add(tickets[rank] - self.seen - 1)
        self.seen = tickets[rank]

    def average_with(self, w, partners):
        """w and the models of the partners ← their mean; nothing where one of them is not finite: it would spread."""
        models = dict(zip(partners, self.others, strict=False))
        for partner, model in models.items():
            self.published.get(partner, model)
        models = [model for _, model in sorted((models | {self.group.rank: w}).items())]
        if all(map(finite, models)):
            self.mix(w, models, [1/len(models)]*len(models))
            for partner in partners:
                self.published.put(partner, w)

    def refresh(self, x):
        self.published.sync()
        np.copyto(x, self.published.own)
        self.seen = -1

    def load(self, state):
        super().load(state)
        self.publish(self.params.data)

    def regroup(self, former):
        told = super().regroup(former)
        self.publish(self.params.data)
        return told
