"""w ← w − a · mean_l g_l(w), all learners holding the same w."""

from hpcasr.algorithms.base import Algorithm


class SyncAllreduce(Algorithm):
    """w ← w − a · Σ_l g_l(w) / Σ_l n_l  with g_l summed over the n_l frames of learner l.

    SC-PSGD of arXiv 2002.10502 (T = J in W ← W·T − a·G), the mean gradient formed by an allreduce.  The reduction of a
    bucket starts as soon as the backward pass has finished its layers, and is waited for in `step`.
    """

    name = 'sync-allreduce'

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.sums, self.begun = [], 0

    def ready(self, lo, hi):
        if hi - self.begun >= self.config.train.bucket:
            self.reduce(self.params.gradient, hi)
        self.comm.progress()

    def step(self, x, g, lr):
        self.reduce(g, g.size)
        for finish in self.sums:
            finish()
        self.sums, self.begun = [], 0
        self.update(x, g, lr)

    def reduce(self, g, hi):
        """Start Σ_l of all that is final and not yet under way."""
        self.sums.append(self.comm.start_sum(g[self.begun:hi]))
        self.begun = hi
