"""What the algorithms share whose learners hold different models."""

import numpy as np

from hpcasr.algorithms.base import Algorithm
from hpcasr.algorithms.meetings import Meetings
from hpcasr.model.params import NONFINITE

BLOCK = 1 << 14  # entries of a vector that are mixed at a time: with the scratch they stay in the cache


class Replicas(Algorithm):
    """Learner l has its own w_l, and updates it with the mean gradient of its own batch.

    t   steps so far, of this learner
    """

    own_state = True

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        n, exchange = params.size, self.config.exchange
        self.t, self.spare = 0, np.empty_like(params.data)  # overwritten by whoever needs a vector for a moment
        self.scratch = np.empty((2, min(n, BLOCK)), params.dtype)
        self.meetings = Meetings(self.comm, n, exchange.meet, exchange.sample)

    @property
    def distance(self):
        return self.meetings.distance

    @property
    def behind(self):
        return self.meetings.behind

    def skipped(self, slots):
        """Each learner leaves out its own."""
        return int(slots[NONFINITE])

    def settle(self, x, slots):
        self.meetings.settle(x, slots)

    def consensus(self, x):
        """w̄ = mean_l w_l; `x` is untouched."""
        np.copyto(self.spare, x)
        return self.average(self.spare)

    def close(self, x):
        self.meetings.close()

    def state(self):
        return super().state() | {'t': np.array(self.t)}

    def load(self, state):
        super().load(state)
        self.t = int(state['t'])

    def regroup(self, former):
        state = {'t': np.array(self.t)}
        former.average(state)
        self.t = int(state['t'])
        return super().regroup(former)

    def average(self, x):
        """x ← mean_l x_l in place, the same on every learner."""
        self.start_sum(x)()
        x /= self.comm.size
        return x

    def mix(self, out, vectors, weights):
        """out ← Σ_k weights[k] vectors[k], summed in that order; `out` may be one of the vectors."""
        self.optimizer.ops.mix(out, vectors, weights, self.scratch)
