"""What the algorithms share whose learners hold different models."""

import numpy as np

from hpcasr.algorithms.base import Algorithm
from hpcasr.algorithms.meetings import Meetings


class Replicas(Algorithm):
    """Learner l has its own w_l, and updates it with the mean gradient of its own batch."""

    own_state = True

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.mean, exchange = np.empty_like(params.data), self.config.exchange
        self.meetings = Meetings(self.comm, params.size, exchange.meet, exchange.sample)

    @property
    def distance(self):
        return self.meetings.distance

    def settle(self, x, slots):
        self.meetings.settle(x, slots)

    def consensus(self, x):
        """w̄ = mean_l w_l; `x` is untouched."""
        np.copyto(self.mean, x)
        return self.average(self.mean)

    def average(self, x):
        """x ← mean_l x_l in place, the same bits on every learner."""
        self.comm.sum_ordered(x)
        x /= self.comm.size
        return x
