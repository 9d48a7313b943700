"""What learners with different models still have to agree on: their sums, their distance, whether to stop."""

import numpy as np

from hpcasr.model.params import SLOTS


class Meetings:
    """Adds up the slots of all learners every `every` steps, behind the steps that follow.

    Between meetings the slots read zero.  What the learners said up to one meeting comes out at the next one, so none
    of them waits for a slower one that is less than `every` steps behind.

    behind     steps counted here whose sums have not come out yet
    distance   √(mean_l ‖w_l − w̄‖²) at the last meeting, estimated from `sample` parameters; None: not known.  It comes
               out of a difference of sums in float64, so below 1e-8 ‖w̄‖ it is noise
    models     over how many that mean is
    weight     of this learner's model in it; those of all learners sum to `models`
    """

    def __init__(self, comm, size, every, sample):
        self.comm, self.every, self.size = comm, every, size
        self.models, self.weight = comm.size, 1.0
        self.places = np.sort(np.random.default_rng(size).choice(size, min(sample, size), replace=False))
        self.ballot, self.told = np.zeros((2, SLOTS + len(self.places) + 1))  # what is counted, what is under way
        self.steps, self.finish, self.distance = 0, None, None
        self.behind, self.asked = 0, 0  # the latter: those of them whose sums are under way

    def step(self, x, slots):
        """Count one step of this learner; `slots` ← the sums that have come, else zeros."""
        self.count(slots)
        if self.steps % self.every == 0:
            self.collect(slots)
            self.send(x)

    def meet(self, x, slots):
        """Count one step, after which all learners wait for each other anyway; `slots` ← all sums, this step's too."""
        self.count(slots)
        self.settle(x, slots)

    def settle(self, x, slots):
        """slots ← the sums of all that has not been told yet.  All learners call it after the same step."""
        slots[:] = 0
        self.collect(slots)
        self.send(x)
        self.collect(slots)
        self.steps = 0

    def close(self):
        """Finish the sum under way, if any."""
        self.collect(np.zeros(SLOTS))

    def count(self, slots):
        """Put the slots of one step into the ballot."""
        self.ballot[:SLOTS] += slots
        slots[:] = 0
        self.steps, self.behind = self.steps + 1, self.behind + 1

    @np.errstate(over='ignore')
    def send(self, x):
        """Begin the sum of the ballots, and start a new one."""
        sample = self.comm.host(x[self.places]).astype(np.float64)
        self.ballot[SLOTS:-1], self.ballot[-1] = self.weight*sample, self.weight*(sample @ sample)
        self.ballot, self.told = self.told, self.ballot
        self.ballot[:] = 0
        self.asked = self.behind
        self.finish = self.comm.start_sum(self.told)

    def collect(self, slots):
        """Add the sums under way, if any, to `slots`."""
        if self.finish:
            self.finish()
            self.finish, self.behind = None, self.behind - self.asked
            slots += self.told[:SLOTS].astype(slots.dtype)
            self.distance = self.spread(self.told[SLOTS:-1], self.told[-1])

    @np.errstate(over='ignore', invalid='ignore')
    def spread(self, sums, squares):
        """The distance that a sample's Σ_l w_l and Σ_l ‖w_l‖² show, scaled to all parameters."""
        if not len(sums):
            return None
        mean, L = sums/self.models, self.models
        return float(np.sqrt(np.maximum(squares/L - mean @ mean, 0)*self.size/len(sums)))
