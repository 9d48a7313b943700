"""What the algorithms share whose learners do not wait for each other between two meeting points."""

import numpy as np

from hpcasr.algorithms import staleness
from hpcasr.algorithms.base import Algorithm
from hpcasr.algorithms.board import Board
from hpcasr.algorithms.meetings import Meetings
from hpcasr.comm.base import Comm
from hpcasr.finite import finite
from hpcasr.journal import Journal
from hpcasr.model.params import FAULT, FRAMES, NONFINITE, SLOTS, STOP

STEPS = 7  # the spare slot counts them


class Asynchronous(Algorithm):
    """Learners change windows under ticket locks, each at its own pace.

    crew       Comm of the learners that take a step together with this one
    journal    of who had which ticket
    staleness  of the gradients of this learner
    rejected   updates of all learners that were left out, up to the last meeting, as they were not finite
    left_out   the same, since the meeting before
    lost       whether the model of this learner is not finite, which no update can mend, or more updates in a row were
               left out than train.max_skipped allows
    """

    asynchronous = True

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.crew, self.journal, self.staleness, self.rejected = Comm(), Journal(), staleness.Staleness(), 0
        self.lost, self.left_out = False, 0

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        exchange = self.config.exchange
        self.board = Board(self.comm, exchange.meet)
        self.meetings = Meetings(self.comm, params.size, exchange.meet, exchange.sample)
        self.t = 0

    @property
    def behind(self):
        return self.board.behind

    @property
    def distance(self):
        return self.meetings.distance

    def window(self, comm, n, dtype, counters=0):
        """A window whose locks go into the journal."""
        return self.journal.watch(comm.window(n, dtype, counters))

    def lock(self, window, ranks):
        """As window.lock, with the ticket that a replayed record says."""
        return self.journal.lock(window, ranks)

    def step(self, x, g, lr):
        """One exchange and one update.  Afterwards the slots hold what has come in here of all learners.

        An update that is not finite changes nothing, and is counted.  Whoever is lost asks all to meet, as who cannot
        read does.
        """
        slots, in_a_row, self.left_out = g[-SLOTS:], self.in_a_row, 0
        slots[NONFINITE] = bool(slots[NONFINITE]) or not finite(g[:x.size])
        stop, slots[STEPS] = slots[STOP] or slots[FAULT], 1
        self.exchange(x, g, lr)
        self.in_a_row = in_a_row + 1 if slots[NONFINITE] else 0
        self.lost = self.lost or (self.in_a_row > self.config.train.max_skipped
                                  or (bool(slots[NONFINITE]) and not finite(x)))
        self.t += 1
        self.meetings.count(slots.copy())
        self.board.step(slots)
        slots[STOP] = stop or self.lost

    def exchange(self, x, g, lr):
        """The update rule; g is the summed gradient with its slots."""
        raise NotImplementedError

    def settle(self, x, slots):
        """All learners have come to a meeting point.

        slots ← sums over all of them that have not been told yet; a fault or a stop vote of any since the last meeting
        counts, also one that is in `slots` now, of a learner that had nothing to do.  NONFINITE: all updates of the
        stretch were rejected, or somebody has lost its model.  Afterwards it is as if the run had just been loaded.
        """
        self.arrive(x)
        vote = np.zeros(SLOTS)
        vote[STOP] = slots[STOP]
        self.meetings.count(vote)
        self.journal.arrive()
        self.board.tell()
        lost = any(self.comm.allgather(self.lost))  # from here on nobody changes anything
        self.refresh(x)
        self.board.hear(slots)
        sums = np.zeros(SLOTS)
        self.meetings.settle(x, sums)  # and after this all have refreshed
        for window in self.journal.windows:
            window.restart()
        self.comm.barrier()  # before anybody draws a ticket
        slots[[STOP, FAULT]] = sums[[STOP, FAULT]]
        slots[NONFINITE] = lost or 0 < sums[NONFINITE] == sums[STEPS]
        self.left_out, self.hopeless = int(sums[NONFINITE]), lost
        self.rejected += self.left_out

    def skipped(self, slots):
        """They are told at meetings."""
        return self.left_out

    def refresh(self, x):
        """x ← this learner's model as the others left it; nothing is stale any more."""

    def told(self):
        """{name: value} for the metrics of an epoch, on all learners alike; called by all together."""
        everybody = self.comm.allgather(self.staleness.split())
        mean, most = staleness.mean(everybody)
        found, self.rejected = {'staleness_mean': mean, 'staleness_max': most, 'rejected': self.rejected,
                                'staleness': staleness.facts(everybody)}, 0
        return found

    def close(self, x):
        self.meetings.close()

    def mean_gradient(self, x, g):
        """g ← the mean gradient of this learner's batch, no longer than the configuration says; whether it counts."""
        grad, slots = g[:x.size], g[x.size:]
        if slots[NONFINITE]:
            return False
        np.divide(grad, max(slots[FRAMES], 1), out=grad)
        if self.config.optim.clip:
            self.clip(grad)
        return True
