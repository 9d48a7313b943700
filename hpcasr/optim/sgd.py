"""Stochastic gradient descent with momentum."""

import numpy as np

BLOCK = 1 << 14  # entries of the scratch: x, g, v and it stay in the L2 cache


class SGD:
    """v ← momentum v + g;  x ← x − lr v  (Polyak 1964), in place on flat vectors of n entries.

    A step is one call; or `begin`, and then `part` for parts that together are x, of which the first entry is `at`.
    Whoever keeps the state of some parts elsewhere puts it into `vectors()` and `at(t)` before such a step.
    """

    name = 'sgd'

    def __init__(self, n, dtype, ops, momentum):
        self.ops, self.momentum = ops, momentum
        self.v, self.scratch = ops.vector(n, dtype), np.empty(min(n, BLOCK), dtype)

    def __call__(self, x, g, lr):
        self.begin()
        self.part(x, g, lr, 0)

    def begin(self):
        """Nothing is counted."""

    def part(self, x, g, lr, at):
        self.ops.sgd(x, g, self.v[at:at + x.size], lr, self.momentum, self.scratch)

    def vectors(self):
        """The arrays [n], not copies, that the next step depends on."""
        return [self.v] if self.momentum else []

    def at(self, t):
        """Be where `t` steps lead: nothing is counted."""

    def forget(self):
        """Momentum ← 0."""
        self.v[:] = 0

    def state(self):
        return {'v': self.v}

    def load(self, state):
        self.v[:] = state['v'] if self.momentum else 0  # without momentum it would grow old until there is some again
