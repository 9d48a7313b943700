"""Nodes average with each other as lone learners would; in a node, all learners work on one step of one model."""

from hpcasr.algorithms.about import About
from hpcasr.algorithms.async_decentralized import AsyncDecentralized
from hpcasr.algorithms.sync_allreduce import SyncAllreduce
from hpcasr.algorithms.sync_decentralized import neighbours
from hpcasr.comm.base import arrangement, nothing
from hpcasr.compress.takes import Takes


def of_node(L, options):
    """N: how many of L learners are a node, as far as the configuration says; else all of them are one."""
    return min(options.exchange.node_size or L, L)


def partners(L, options):
    """With how many nodes the busiest of them averages in a step."""
    return neighbours(-(-L//of_node(L, options)), options)


class Hierarchical(AsyncDecentralized):
    """In node k:  g_k = Σ_{l ∈ k} g_l(w_k), n_k = Σ_{l ∈ k} n_l.

    Between nodes, at once:  w_j ← mean_{i ∈ N} w_i for all j in N = {k and its partners};  w_k ← w_k − a · g_k/n_k.

    H-ADPSGD of arXiv 2002.10502.  The learners of a node are one super-learner: they hold the same w, bit for bit, and
    take each step together.  Their gradients are summed as by sync-allreduce, behind the backward pass; then the first
    of them, its leader, does for the node what a learner of async-decentralized does, and hands the new w on.  Nodes
    weigh equally in every average of models, whatever they have of learners; frames do in a node.

    What a node has done is told by its leader: slots, staleness, tickets, and what goes into a checkpoint.

    crew    Comm of the learners of this node
    group   Comm of the leaders; that of the others is not used
    node    SyncAllreduce of the crew
    """

    name = 'hierarchical'
    placed_by = 'ranks', 'nodes'
    about = About(
        family='H-ADPSGD',
        rule='in a node g = Σ_l g_l(w), n = Σ_l n_l; between nodes w_j ← mean over one and its partners, for all of '
             'them; w ← w − a · g/n',
        cites='Cui et al. 2020, arXiv 2002.10502',
        exchanges='gradients, summed in a node of N ranks; models, read and written by one rank of each node',
        bytes_text='2V(N − 1)/N + V(N > 1) + 2V per partner',
        bytes=lambda V, L, options: (2*V*(of_node(L, options) - 1)/of_node(L, options) + V*(of_node(L, options) > 1)
                                     + 2*V*partners(L, options)),
        messages_text='2(N − 1) per bucket + 2 per partner',
        messages=lambda L, options: 2*(of_node(L, options) - 1) + 2*partners(L, options),
        options=('exchange.node_size', 'exchange.topology', 'train.bucket', 'exchange.reduce', 'exchange.assign',
                 'exchange.meet', 'exchange.sample'),
        use='nodes with many equal ranks, on a network that is much slower than what is inside of them',
        avoid='one rank per node, where it is async-decentralized, or one node, where it is sync-allreduce')
    compression = Takes(
        why='sums gradients in the memory of a node, which no code makes faster, and averages models between nodes',
        instead='take sync-allreduce on all ranks, or local-sgd on a slow network')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.node = SyncAllreduce(self.crew, config)

    def gather(self, comm):
        nodes = comm.nodes
        self.crew, self.keeper = comm.split(nodes), nodes.index(nodes[comm.rank])
        self.leads, self.count = self.keeper == comm.rank, len(set(nodes))
        return comm.split([nodes.index(node) == rank for rank, node in enumerate(nodes)])

    def describe(self):
        return [f'nodes     {arrangement(self.comm.nodes)} ranks', *super().describe()]

    def allocate_gradient(self, n, dtype):
        return self.node.allocate_gradient(n, dtype)

    def bind(self, params, optimizer):
        self.crew.broadcast(params.data)
        self.node.bind(params, optimizer)
        super().bind(params, optimizer)
        self.meetings.models, self.meetings.weight = self.count, float(self.leads)

    def open(self, n, dtype):
        self.comm.together(super().open if self.leads else nothing, n, dtype)

    def publish(self, x):
        if self.leads:
            super().publish(x)

    def ready(self, lo, hi):
        self.node.ready(lo, hi)

    def step(self, x, g, lr):
        self.node.sum(g)
        super().step(x, g, lr)

    def exchange(self, x, g, lr):
        if self.leads:
            super().exchange(x, g, lr)
        else:
            g[x.size:] = 0  # they are in the sums that the leader tells
        self.crew.broadcast(x)

    def refresh(self, x):
        if self.leads:
            super().refresh(x)
        self.crew.broadcast(x)

    def average(self, x):
        """x ← the mean over the nodes in place, the same on every learner."""
        if self.leads:
            self.group.sum_ordered(x)
            x /= self.count
        self.crew.broadcast(x)
        return x
