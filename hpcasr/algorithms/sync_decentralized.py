"""w_l ← Σ_j T_lj w_j − a · g_l(w_l): learners average with their neighbours while they compute."""

from hpcasr.algorithms.about import About
from hpcasr.algorithms.replicas import Replicas
from hpcasr.algorithms.topology import get_topology
from hpcasr.compress.public import PublicCopies
from hpcasr.compress.takes import Takes
from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS


def neighbours(L, options):
    """With how many the busiest of L learners averages in a step."""
    topology = get_topology(options.exchange.topology, L, options.data.seed)
    return max(len(topology.receivers(rank, 0)) for rank in range(min(L, 3)))  # of three learners at most one is alone


class SyncDecentralized(Replicas):
    """w_l ← Σ_j T_lj w_j − a · g_l(w_l)/n_l,  the gradient taken at the model before it is mixed.

    SD-PSGD of arXiv 2002.10502; Lian et al. 2017, arXiv 1705.09056.  T is that of exchange.topology.  The models are
    sent before the forward pass and waited for after the backward pass.  Momentum stays with its learner.

    Compressed, neighbours mix public copies of each other's models, to which coded differences are added (CHOCO-SGD of
    arXiv 1902.00340, but with the gradient at the model before it is mixed): compress/public.py.
    """

    name = 'sync-decentralized'
    resident = True
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
    compression = Takes(
        ('fp16', 'bf16', 'onebit', 'topk', 'qsgd'),
        'differences of models to public copies that neighbours keep, on ring, exponential, torus and complete',
        'exchanges small differences of models with neighbours: what is below a threshold would never be sent, and '
        'factors save only in sums over all ranks', 'take onebit or topk')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.topology = get_topology(config.exchange.topology, comm.size, config.data.seed)
        require_copies(config, self.topology)

    def describe(self):
        return [f'topology  {self.topology.describe()}'] + ([self.compressed.describe()] if self.compressed else [])

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        if self.topology.fixed:
            self.start = self.comm.neighbourhood(*self.peers())
        else:
            self.start = lambda x: self.comm.start_exchange(x, *self.peers())
        self.compress()

    def compress(self):
        if self.config.compress.method != 'none':
            self.compressed = PublicCopies(self.comm, self.config.compress, self.params, self.optimizer.ops, self.start,
                                           self.topology.weights(self.comm.rank))

    def peers(self):
        """(to whom this learner's model goes, whose models it gets) at this step, both in learner order."""
        rank = self.comm.rank
        return (self.topology.receivers(rank, self.t),
                [peer for peer in self.topology.weights(rank, self.t) if peer != rank])

    def begin(self, x):
        self.finish = self.compressed.start(x, self.t) if self.compressing else self.start_models(x)

    def start_models(self, x):
        """Begin the exchange of models; return finish() -> (models, weights) of the mean, in learner order."""
        finish = self.start(x)

        def models():
            weights = self.topology.weights(self.comm.rank, self.t)
            found = dict(zip(self.peers()[1], finish(), strict=True)) | {self.comm.rank: x}
            return [found[peer] for peer in weights], list(weights.values())
        return models

    def step(self, x, g, lr):
        vectors, weights = self.finish()
        self.update(x, g, lr, before=lambda part: self.mix(x[part], [vector[part] for vector in vectors], weights))
        self.t += 1
        self.meetings.step(x, g[-SLOTS:])

    def regroup(self, former):
        told = super().regroup(former)
        return f'{told}; {self.compressed.regroup()}' if self.compressed else told


def require_copies(config, topology):
    """Raise BadInput where compression is asked for and neighbours could not keep copies of each other's models."""
    options = config.compress
    if options.method == 'none':
        return
    if not topology.fixed:
        raise BadInput(f'--compress {options.method}: with --topology {topology.name} neighbours change in every step, '
                       'and new ones have no copy to which a difference could be added; take ring, exponential, torus '
                       'or complete')
    if not options.feedback:
        raise BadInput('compress.feedback = false: sync-decentralized adds differences to public copies, which are '
                       'what remembers; leave it out')
