"""Every K steps w_l ← mean_j w_j; in between, every learner goes on alone."""

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.replicas import Replicas
from hpcasr.compress.takes import METHODS, Takes
from hpcasr.model.params import SLOTS


class LocalSGD(Replicas):
    """w_l ← w_l − a · g_l(w_l)/n_l;  after every K-th step  w_l ← mean_j w_j.

    K-step averaging: Zhou and Cong 2018, arXiv 1708.01012; Stich 2019, arXiv 1805.09767.  K is exchange.period.
    Momentum stays with its learner.
    """

    name = 'local-sgd'
    resident = True
    about = About(
        family='K-step averaging',
        rule='w_l ← w_l − a · g_l(w_l); every K steps w_l ← mean_j w_j',
        cites='Zhou and Cong 2018, arXiv 1708.01012',
        exchanges='models, averaged over all ranks every K steps',
        bytes_text='2V(L − 1)/(L·K)',
        bytes=lambda V, L, options: 2*V*(L - 1)/L/options.exchange.period,
        messages_text='4(L − 1)/K, half of them small',
        messages=lambda L, options: 4*(L - 1)/options.exchange.period,
        options=('exchange.period', 'exchange.reduce', 'exchange.node_size', 'exchange.meet', 'exchange.sample'),
        use='a network so slow that one exchange in every step would dominate',
        avoid='a large K with a high learning rate, where the models drift apart between averages')

    compression = Takes(METHODS, 'what a rank has gained since the last average')

    def describe(self):
        return [self.compressed.describe()] if self.compressed else []

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.compress()
        self.base = None  # where all learners began this block, if they need to know

    @property
    def period(self):
        return self.config.exchange.period

    def allocate(self, n, dtype):
        return self.comm.shared(n, dtype)

    def step(self, x, g, lr):
        self.update(x, g, lr)
        self.t += 1
        if self.t % self.period:
            self.meetings.step(x, g[-SLOTS:])
        else:
            self.meetings.meet(x, g[-SLOTS:])  # before the average, which makes the distance zero
            self.end_block(x)

    def end_block(self, x):
        """w_l ← mean_j w_j."""
        self.agree(x, self.base)
        if self.compressed:
            self.base = x.copy() if self.base is None else self.base
            self.base[:] = x

    def agree(self, x, base):
        """x ← mean_l x_l in place, the same on every learner; compressed: base + mean_l (x_l − base).

        base   the same on every learner; None: not known, and so nothing is compressed
        """
        if base is None or not self.compressing:
            return self.average(x)
        with np.errstate(over='ignore', invalid='ignore'):
            x -= base
            self.compressed.start(x, 0, x.size)()
            x /= self.comm.size
            x += np.nan if self.compressed.bad else base
        return x

    def state(self):
        return super().state() | ({} if self.base is None else {'base': self.base})

    def load(self, state):
        super().load(state)
        self.base = np.array(state['base']) if self.compressed and 'base' in state else None

    def regroup(self, former):
        told = super().regroup(former)
        self.t, self.base = 0, self.params.data.copy() if self.compressed else None
        if self.compressed:
            told += '; ' + self.compressed.regroup(former)
        return told + '; a new block of steps begins'
