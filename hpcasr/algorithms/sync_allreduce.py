"""w ← w − a · mean_l g_l(w), all learners holding the same w."""

from hpcasr.algorithms.about import About
from hpcasr.algorithms.base import Algorithm
from hpcasr.compress.takes import METHODS, Takes
from hpcasr.model.params import NONFINITE


class SyncAllreduce(Algorithm):
    """w ← w − a · Σ_l g_l(w) / Σ_l n_l  with g_l summed over the n_l frames of learner l.

    SC-PSGD of arXiv 2002.10502 (T = J in W ← W·T − a·G), the mean gradient formed by an allreduce.  The reduction of a
    bucket starts as soon as the backward pass has finished its layers, and is waited for in `step`.
    """

    name = 'sync-allreduce'
    resident = True
    about = About(
        family='SC-PSGD',
        rule='w ← w − a · Σ_l g_l(w) / Σ_l n_l',
        cites='Cui et al. 2020, arXiv 2002.10502',
        exchanges='gradients, summed over all ranks',
        bytes_text='2V(L − 1)/L',
        bytes=lambda V, L, options: 2*V*(L - 1)/L,
        messages_text='2(L − 1) per bucket',
        messages=lambda L, options: 2*(L - 1),
        options=('train.bucket', 'exchange.reduce', 'exchange.node_size'),
        use='equal ranks, a fast network, a batch the model still converges with',
        avoid='ranks of unequal speed, as all wait for the slowest; many ranks on a slow network')

    compression = Takes(METHODS, 'gradients, and their sums where these come back from one rank', momentum=True)

    def describe(self):
        return [self.compressed.describe()] if self.compressed else []

    def allocate_gradient(self, n, dtype):
        return self.comm.shared(n, dtype)

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.compress()
        self.sums, self.begun, self.start = [], 0, self.start_whole

    def begin(self, x):
        if self.compressed:
            self.compressed.filled = self.filled
        self.start = self.compressed.start if self.compressing else self.start_whole

    def ready(self, lo, hi):
        if hi - self.begun >= self.config.train.bucket:
            self.reduce(self.params.gradient, hi)
        self.comm.progress()

    def step(self, x, g, lr):
        self.sum(g)
        self.update(x, g, lr)

    def sum(self, g):
        """g ← Σ_l g_l with its slots."""
        self.reduce(g, g.size)
        for finish in self.sums:
            finish()
        self.sums, self.begun = [], 0
        if self.compressing:
            g[self.params.size + NONFINITE] += self.compressed.bad

    def reduce(self, g, hi):
        """Start Σ_l of all that is final and not yet under way."""
        self.sums.append(self.start(g, self.begun, hi))
        self.begun = hi

    def start_whole(self, g, lo, hi):
        """Begin the sum of g[lo:hi]; return finish()."""
        self.correct(g, lo, hi)
        return self.start_sum(g[lo:hi])

    def correct(self, g, lo, hi):
        """Take up what is sent uncompressed, g[lo:hi], where this learner has the momentum."""
        if self.compressed:
            self.compressed.correct(g, lo, hi)

    def regroup(self, former):
        return self.compressed.regroup(former)
