"""Who computes what: the samples of an epoch, handed out to the learners up to where all of them meet next."""

from dataclasses import dataclass

from hpcasr.comm.base import cuts
from hpcasr.comm.onesided import never

FAR = 1 << 40  # more than any epoch has: whoever adds it to a counter stops what it counts


@dataclass(frozen=True)
class Claim:
    """Positions lo .. hi-1 of the order of `epoch` for this learner, out of a step of `samples`.

    samples   of all learners that take the step together
    at        global samples handed out before this step
    """

    epoch: int
    lo: int
    hi: int
    samples: int
    at: int


class StaticWork:
    """A fixed split: step k takes the next M positions of the epoch, learner r the r-th part of them.

    Its whole state is (epoch, samples consumed), so a run can go on at any place and with any number of learners.
    The last step of an epoch is smaller; some learners may get nothing there.

    total    samples of an epoch
    batch    samples per learner and step (m); M = size·m
    every    global samples between meeting points; 0: only at the ends of epochs
    lead     claims that a learner may hold beside the one it computes
    """

    lead = 1 << 16

    def __init__(self, total, batch, rank=0, size=1, every=0):
        self.total, self.batch, self.rank, self.size, self.every = total, batch, rank, size, every
        self.epoch, self.consumed = 0, 0

    @property
    def samples(self):
        """Global samples consumed since the start of the run, as far as this learner knows."""
        return self.epoch*self.total + self.consumed

    @property
    def full(self):
        """Samples of a step, if as many are left."""
        return self.batch*self.size

    @property
    def over(self):
        """Whether the epoch is."""
        return self.consumed >= self.total

    @property
    def limit(self):
        """The position of the next meeting point; a function of global samples, never of local time or steps."""
        due = (self.samples//self.every + 1)*self.every - self.epoch*self.total if self.every else self.total
        return min(due, self.total)

    def rest(self):
        """The claims up to the next meeting point, in order; a pure function of the state when it is called."""
        return (self.claim(start) for start in range(self.consumed, self.limit, self.batch*self.size))

    def claim(self, start):
        return self.part_of(start, min(self.batch*self.size, self.total - start), self.rank, self.size)

    def part_of(self, start, samples, rank, size):
        """The claim of the `rank`-th of `size` learners in a step of `samples` from position `start` on."""
        lo, hi = start + cuts(samples, size)[rank:rank + 2]
        return Claim(self.epoch, int(lo), int(hi), samples, self.epoch*self.total + start)

    def finish(self, claim):
        """Count a step as done."""
        self.consumed = claim.at + claim.samples - self.epoch*self.total

    def halt(self):
        """Let all learners meet as soon as they can; whether this one must not even use what it has claimed.

        Called by all learners at the same step.
        """
        return True

    def await_others(self, stop):
        """Return when all learners have come to the meeting point; if stop() meanwhile, halt those that have not."""

    def meet(self):
        """All learners have come: agree on what is consumed."""

    def next_epoch(self):
        self.epoch, self.consumed = self.epoch + 1, 0

    def state(self):
        return {'epoch': self.epoch, 'consumed': self.consumed}

    def load(self, state):
        self.epoch, self.consumed = int(state['epoch']), int(state['consumed'])


class FreeWork(StaticWork):
    """Work of learners that do not step together: each goes on alone to the next meeting point.

    journal   journal.Journal: records what is claimed, or says it
    crew      Comm of the learners that take a step together with this one
    """

    lead = 1
    COUNTERS = 2
    COME, ALL = range(2)  # how many have come to meeting points, of learner 0; at how many all have been

    def __init__(self, total, batch, every, comm, journal, crew):
        super().__init__(total, batch, comm.rank, comm.size, every)
        self.comm, self.journal, self.crew, self.meetings = comm, journal, crew, 0
        self.window = comm.window(0, 'f4', self.COUNTERS)

    @property
    def full(self):
        return self.batch*self.crew.size

    def rest(self):
        return self.journal.claims(self.draw(), self.recorded)

    def recorded(self, lo, hi, samples, at):
        """The claim of a record."""
        return Claim(self.epoch, lo, hi, samples, at)

    def draw(self):
        """The claims up to the next meeting point, as they are wanted."""
        raise NotImplementedError

    def stop(self):
        """Hand out no more than all can do at once."""
        raise NotImplementedError

    def finish(self, claim):
        super().finish(claim)
        self.journal.finish()

    def halt(self):
        """As StaticWork.halt, but called by any learner at any time; what is claimed is still computed."""
        if not self.journal.replays:
            self.stop()
        return False

    def await_others(self, stop):
        self.meetings += 1
        if self.window.fetch_add(0, self.COME, 1) == self.meetings*self.size - 1:
            for rank in range(self.size):
                self.window.fetch_add(rank, self.ALL, 1)
        if self.wait_for_all(stop) < self.meetings:
            self.halt()
            self.wait_for_all()

    def wait_for_all(self, stop=never):
        """At how many meeting points all have been: this one, or it was stopped."""
        return self.window.wait(self.rank, self.ALL, self.meetings, 'all to come to a meeting point', stop)

    def meet(self):
        self.consumed = max(self.comm.allgather(self.consumed))


class CounterWork(FreeWork):
    """A shared counter: whoever is done takes the next batch, so fast learners take more; a crew takes one for each."""

    COUNTERS = 3
    TAKEN = 2  # samples handed out, of learner 0

    def __init__(self, *of, **work):
        super().__init__(*of, **work)
        self.base = 0  # of the counter, at the last meeting

    def draw(self):
        start, limit, samples = self.consumed - self.base, self.limit, self.batch*self.crew.size
        while (lo := start + self.taken(samples)) < limit:
            yield self.part_of(lo, min(samples, limit - lo), self.crew.rank, self.crew.size)

    def taken(self, samples):
        """Take so many for the crew; what the counter was."""
        return self.crew.first(self.window.fetch_add, 0, self.TAKEN, samples)

    def stop(self):
        self.window.fetch_add(0, self.TAKEN, FAR)

    def meet(self):
        super().meet()
        self.base = self.window.read(0, self.TAKEN)
        self.comm.barrier()  # before anybody takes more


class ShardWork(FreeWork):
    """The fixed split of StaticWork, whoever is fast: every learner has the same samples in every run.

    To halt, one learner stops all, sees how far the furthest is, and lets the others go as far.
    """

    COUNTERS = 5
    TAKEN, LAST, HALTS = range(2, 5)  # steps taken; steps to take + 1; how often somebody wanted to halt, of learner 0

    def draw(self):
        last = None
        for k, claim in enumerate(super(FreeWork, self).rest()):
            if last is None and self.window.fetch_add(self.rank, self.TAKEN, 1) >= FAR:
                last = self.window.wait(self.rank, self.LAST, 1, 'how far to go') - 1
            if last is not None and k >= last:
                return
            yield claim

    def stop(self):
        if self.window.fetch_add(0, self.HALTS, 1):
            return
        furthest = max(self.window.fetch_add(rank, self.TAKEN, FAR) for rank in range(self.size))
        for rank in range(self.size):
            self.window.fetch_add(rank, self.LAST, furthest + 1)

    def meet(self):
        super().meet()
        for counter in self.TAKEN, self.LAST, self.HALTS:
            self.window.fetch_add(self.rank, counter, -self.window.read(self.rank, counter))
        self.comm.barrier()


def get_work(algorithm, total, config, comm):
    """The work of an algorithm's learners: `total` samples an epoch."""
    if not algorithm.asynchronous:
        return StaticWork(total, config.data.batch, comm.rank, comm.size, config.checkpoint.every)
    kind = {'counter': CounterWork, 'static': ShardWork}[config.exchange.assign]
    return kind(total, config.data.batch, config.checkpoint.every, comm, algorithm.journal, algorithm.crew)
