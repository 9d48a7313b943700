"""What a learner has computed since its last push."""

import numpy as np

from hpcasr.finite import finite
from hpcasr.model.params import FRAMES, NONFINITE, SLOTS


class Accrual:
    """The gradient of one step; one that is not finite is left out.

    gradient   [n + SLOTS] mean, once `finish` has been called; the slots tell of its frames
    point      [n] the parameters at which it was taken
    rate       of its update
    steps      whose gradients are in it
    """

    def __init__(self):
        self.clear()

    def add(self, x, g, rate):
        """Take up g [n + SLOTS], taken at x and summed over its frames; the caller makes a mean of it."""
        self.gradient, self.point, self.rate, self.steps = g, x, rate, int(not g[x.size + NONFINITE])

    def finish(self, mean):
        """mean(gradient) if the caller has not done so."""

    def clear(self):
        self.steps = 0


class Accruals(Accrual):
    """The gradients of several steps: Σ g, Σ frames; the point is the mean of theirs, weighted with their frames.

    Their rates add up: that of a push is proportional to what it covers.
    """

    def __init__(self, n, dtype, ops, points):
        """points   whether `point` is wanted"""
        self.gradient, self.ops = np.empty(n + SLOTS, dtype), ops
        self.point = np.empty(n, dtype) if points else None
        self.scratch = np.empty((2, min(n, ops.block)), dtype)
        self.clear()

    def add(self, x, g, rate):
        """As Accrual.add; if the sum is no longer finite, all of it is left out and g is marked."""
        slots = g[x.size:]
        if slots[NONFINITE]:
            return
        if self.point is not None:
            self.ops.mix(self.point, [self.point, x], [1, float(slots[FRAMES])], self.scratch)
        with np.errstate(over='ignore', invalid='ignore'):
            self.gradient += g
        self.rate, self.steps = self.rate + rate, self.steps + 1
        if not finite(self.gradient[:x.size]):
            slots[NONFINITE] = 1
            self.clear()

    def finish(self, mean):
        if self.point is not None:
            self.point /= max(self.gradient[-SLOTS + FRAMES], 1)
        mean(self.gradient)

    def clear(self):
        self.gradient[:], self.rate, self.steps = 0, 0.0, 0
        if self.point is not None:
            self.point[:] = 0
