"""w_l ← Σ_j T_lj w_j − a · g_l(w_l): learners average with their neighbours while they compute."""

from hpcasr.algorithms.about import About
from hpcasr.algorithms.replicas import Replicas
from hpcasr.algorithms.topology import get_topology
from hpcasr.model.params import SLOTS


def neighbours(L, options):
    """With how many the busiest of L learners averages in a step."""
    topology = get_topology(options.exchange.topology, L, options.data.seed)
    return max(len(topology.receivers(rank, 0)) for rank in range(min(L, 3)))  # of three learners at most one is alone


class SyncDecentralized(Replicas):
    """w_l ← Σ_j T_lj w_j − a · g_l(w_l)/n_l,  the gradient taken at the model before it is mixed.

    SD-PSGD of arXiv 2002.10502; Lian et al. 2017, arXiv 1705.09056.  T is that of exchange.topology.  The models are
    sent before the forward pass and waited for after the backward pass.  Momentum stays with its learner.
    """

    name = 'sync-decentralized'
    about = About(
        family='SD-PSGD',
        rule='w_l ← Σ_j T_lj · w_j − a · g_l(w_l)',
        cites='Lian et al. 2017, arXiv 1705.09056',
        exchanges='models, with the neighbours of the topology',
        bytes_text='V per neighbour',
        bytes=lambda V, L, options: V*neighbours(L, options),
        messages_text='1 per neighbour',
        messages=neighbours,
        options=('exchange.topology', 'exchange.meet', 'exchange.sample'),
        use='high latency or many ranks: a step has no global barrier, and the exchange hides behind compute',
        avoid='a sparse fixed topology on many ranks, whose models drift apart; see its spectral gap')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.topology = get_topology(config.exchange.topology, comm.size, config.data.seed)

    def describe(self):
        return [f'topology  {self.topology.describe()}']

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        if self.topology.fixed:
            self.start = self.comm.neighbourhood(*self.peers())
        else:
            self.start = lambda x: self.comm.start_exchange(x, *self.peers())

    def peers(self):
        """(to whom this learner's model goes, whose models it gets) at this step, both in learner order."""
        rank = self.comm.rank
        return (self.topology.receivers(rank, self.t),
                [peer for peer in self.topology.weights(rank, self.t) if peer != rank])

    def begin(self, x):
        self.finish = self.start(x)

    def step(self, x, g, lr):
        weights = self.topology.weights(self.comm.rank, self.t)
        models = dict(zip(self.peers()[1], self.finish(), strict=True)) | {self.comm.rank: x}
        models, weights = [models[peer] for peer in weights], list(weights.values())
        self.update(x, g, lr, before=lambda part: self.mix(x[part], [model[part] for model in models], weights))
        self.t += 1
        self.meetings.step(x, g[-SLOTS:])
