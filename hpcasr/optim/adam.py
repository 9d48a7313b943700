"""Adam."""

import numpy as np

BLOCK = 1 << 14  # entries of the scratch: x, g, m, v and it stay in the L2 cache


class Adam:
    """m ← β₁ m + (1 − β₁) g;  v ← β₂ v + (1 − β₂) g²;  x ← x − lr m̂/(√v̂ + ε)  (Kingma and Ba 2015, algorithm 1).

    m̂ = m/(1 − β₁ᵗ), v̂ = v/(1 − β₂ᵗ) after t steps; in place on flat vectors of n entries.

    A step is one call; or `begin`, and then `part` for parts that together are x, of which the first entry is `at`.
    Whoever keeps the state of some parts elsewhere puts it into `vectors()` and `at(t)` before such a step.
    """

    name = 'adam'

    def __init__(self, n, dtype, ops, beta1, beta2, epsilon):
        self.ops, self.beta1, self.beta2, self.epsilon, self.t = ops, beta1, beta2, epsilon, 0
        self.m, self.v = ops.vector(n, dtype), ops.vector(n, dtype)
        self.scratch = np.empty(min(n, BLOCK), dtype)

    def __call__(self, x, g, lr):
        self.begin()
        self.part(x, g, lr, 0)

    def begin(self):
        """Count a step."""
        self.t += 1

    def part(self, x, g, lr, at):
        part = slice(at, at + x.size)
        self.ops.adam(x, g, self.m[part], self.v[part], self.t, lr, self.beta1, self.beta2, self.epsilon, self.scratch)

    def vectors(self):
        """The arrays [n], not copies, that the next step depends on."""
        return [self.m, self.v]

    def at(self, t):
        """Be where `t` steps lead."""
        self.t = int(t)

    def forget(self):
        """Momentum m ← 0; the scales v stay."""
        self.m[:] = 0

    def state(self):
        return {'m': self.m, 'v': self.v, 'steps': np.array(self.t)}

    def load(self, state):
        self.m[:], self.v[:], self.t = state['m'], state['v'], int(state['steps'])
