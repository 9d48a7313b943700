"""Whole vectors between neighbours, along the path of training: a ring, a ring drawn anew, averages of pairs."""

from hpcasr.algorithms.topology import get_topology
from hpcasr.bench.wire import pattern
from hpcasr.bench.wire.collectives import Collective
from hpcasr.bench.wire.test import type_of
from hpcasr.errors import BadInput

PATTERNS = 'ring', 'random-ring', 'pair'


class Neighbor(Collective):
    """Each rank sends its vector to its neighbours and gets theirs; of a pair both keep the mean.

    Algorithm bandwidth is that of one vector; bus bandwidth that of all vectors that a rank sends.
    """

    name, title, sums = 'neighbor', 'hpcasr Neighbour Exchange Latency Test (the exchange of training)', True

    def allocate(self, n):
        super().allocate(n)
        shape = self.turns['pattern'] = self.options.pattern
        self.t, self.topology = 0, None if shape == 'pair' else get_topology(shape, self.comm.size)
        near = self.near(0)
        self.start = self.comm.neighbourhood(near, near) if shape == 'ring' else self.send
        self.peers, self.vectors_received = near, []

    @classmethod
    def require(cls, ranks, options):
        super().require(ranks, options)
        if options.pattern == 'pair' and ranks % 2:
            raise BadInput(f'--pattern pair takes ranks in pairs and needs an even number of them, got {ranks}')
        if options.pattern == 'pair' and type_of(cls, options).kind != 'f':
            raise BadInput(f'--pattern pair takes means; -T {options.type} has none, choose float32 or float64')

    def near(self, t):
        return [self.rank ^ 1] if self.topology is None else self.topology.receivers(self.rank, t)

    def send(self, x):
        return self.comm.start_exchange(x, self.peers, self.peers)

    @classmethod
    def vectors(cls, ranks, options):
        return 6  # two of ours, an inbox of two, and what finish() lent before

    def run(self):
        if self.topology is not None and not self.topology.fixed:
            self.t += 1
            self.peers = self.near(self.t)
        self.vectors_received = self.start(self.out[0])()
        if self.topology is None:
            self.average(*self.vectors_received)

    def average(self, other):
        self.out[0][:] += other
        self.out[0][:] *= self.dtype.type(0.5)

    def check(self, turn):
        pattern.fill(self.out[0], self.rank, turn)
        self.run()
        if self.topology is None:
            self.out[0][:] *= 2
            return pattern.wrong(self.out[0], [self.rank, *self.peers], turn)
        return sum(pattern.wrong(x, [peer], turn)
                   for x, peer in zip(self.vectors_received, self.peers, strict=True))

    def factor(self, L):
        return float(len(self.peers))

