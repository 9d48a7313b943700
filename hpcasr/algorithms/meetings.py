"""What learners with different models still have to agree on: their sums, their distance, whether to stop."""

import numpy as np

from hpcasr.model.params import SLOTS


class Meetings:
    """Adds up the slots of all learners every `every` steps, behind the steps that follow.

    Between meetings the slots read zero.  What the learners said up to one meeting comes out at the next one, so none
    of them waits for a slower one that is less than `every` steps behind.

    distance   √(mean_l ‖w_l − w̄‖²) at the last meeting, estimated from `sample` parameters; None: not known
    """

    def __init__(self, comm, size, every, sample):
        self.comm, self.every, self.size = comm, every, size
        self.places = np.random.default_rng(size).choice(size, min(sample, size), replace=False)
        self.ballot = np.zeros(SLOTS + len(self.places) + 1)  # in float64: the distance is a small difference
        self.steps, self.finish, self.distance = 0, None, None

    def step(self, x, slots):
        """Count one step of this learner; `slots` ← the sums that have come, else zeros."""
        self.ballot[:SLOTS] += slots
        slots[:] = 0
        self.steps += 1
        if self.steps % self.every == 0:
            self.collect(slots)
            self.send(x)

    def settle(self, x, slots):
        """slots ← the sums of all that has not been told yet.  All learners call it after the same step."""
        slots[:] = 0
        self.collect(slots)
        self.send(x)
        self.collect(slots)
        self.steps = 0

    def send(self, x):
        """Begin the sum of the ballots, and start a new one."""
        sample = x[self.places].astype(np.float64)
        self.ballot[SLOTS:-1], self.ballot[-1] = sample, sample @ sample
        told, self.ballot = self.ballot, np.zeros_like(self.ballot)
        finish = self.comm.start_sum(told)
        self.finish = lambda: finish() or told

    def collect(self, slots):
        """Add the sums under way, if any, to `slots`."""
        if self.finish:
            told, self.finish = self.finish(), None
            slots += told[:SLOTS].astype(slots.dtype)
            self.distance = self.spread(told[SLOTS:-1], told[-1])

    def spread(self, sums, squares):
        """The distance that a sample's Σ_l w_l and Σ_l ‖w_l‖² show, scaled to all parameters."""
        if not len(sums):
            return None
        mean, L = sums/self.comm.size, self.comm.size
        return float(np.sqrt(max(squares/L - mean @ mean, 0)*self.size/len(sums)))
