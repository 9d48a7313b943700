"""Who computes what: the samples of an epoch, handed out to the learners."""

from dataclasses import dataclass

from hpcasr.comm.base import cuts


@dataclass(frozen=True)
class Claim:
    """Positions lo .. hi-1 of the order of `epoch` for this learner, out of a step of `samples` over all learners."""

    epoch: int
    lo: int
    hi: int
    samples: int


class StaticWork:
    """A fixed split: step k takes the next M positions of the epoch, learner r the r-th part of them.

    Its whole state is (epoch, samples consumed), so a run can go on at any place and with any number of learners.
    The last step of an epoch is smaller; some learners may get nothing there.

    total    samples of an epoch
    batch    samples per learner and step (m); M = size·m
    """

    def __init__(self, total, batch, rank=0, size=1):
        self.total, self.batch, self.rank, self.size = total, batch, rank, size
        self.epoch, self.consumed = 0, 0

    @property
    def samples(self):
        """Global samples consumed since the start of the run."""
        return self.epoch*self.total + self.consumed

    def rest(self):
        """The claims of the rest of this epoch, in order; a pure function of the state when it is called."""
        return (self.claim(start) for start in range(self.consumed, self.total, self.batch*self.size))

    def claim(self, start):
        samples = min(self.batch*self.size, self.total - start)
        lo, hi = start + cuts(samples, self.size)[self.rank:self.rank + 2]
        return Claim(self.epoch, int(lo), int(hi), samples)

    def finish(self, claim):
        """Count a step as done."""
        self.consumed += claim.samples

    def next_epoch(self):
        self.epoch, self.consumed = self.epoch + 1, 0

    def state(self):
        return {'epoch': self.epoch, 'consumed': self.consumed}

    def load(self, state):
        self.epoch, self.consumed = int(state['epoch']), int(state['consumed'])
