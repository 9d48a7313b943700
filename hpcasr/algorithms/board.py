"""Where learners that do not meet say what they have done, for whoever writes it down."""

import numpy as np

from hpcasr.model.params import FAULT, LOSS, NONFINITE, SLOTS, STOP

FINE = 2**20  # the loss is counted in so small parts of a nat: sums of whole numbers do not depend on their order
MOST = 2**53


class Board:
    """Sums of the slots of all learners, kept in a window of learner 0.

    behind   steps of this learner that it has not told yet
    heard    what `hear` has said so far: what float32 rounds off once is said the next time
    """

    def __init__(self, comm, every):
        self.window, self.every, self.behind = comm.window(SLOTS, 'q'), every, 0
        self.mine, self.heard, self.now = np.zeros((3, SLOTS), np.int64)  # the first: not told yet; the last: as read

    def step(self, slots):
        """Count a step of this learner; slots ← what has come in here since the last call, zeros for most learners."""
        self.count(slots)
        if self.behind >= self.every:
            self.tell()
            self.hear(slots)
        else:
            slots[:] = 0

    def count(self, slots):
        self.behind += 1
        if not slots[NONFINITE]:  # else its frames have taught nobody anything, and its loss may be any
            self.mine += whole(slots)

    def tell(self):
        self.window.add(0, self.mine)
        self.mine[:], self.behind = 0, 0

    def hear(self, slots):
        """slots ← what has come in since the last call; faults and stop votes are told at meetings."""
        self.window.get(self.window.comm.rank, self.now)
        slots[:] = self.now - self.heard
        slots[LOSS] /= FINE
        self.heard += whole(slots)
        slots[[STOP, FAULT]] = 0


def whole(slots):
    """[SLOTS] int64, the loss in parts of a nat; of a model that diverges it can be larger than any integer."""
    scaled = slots.astype(np.float64)
    scaled[LOSS] *= FINE
    return np.rint(scaled.clip(-MOST, MOST)).astype(np.int64)

