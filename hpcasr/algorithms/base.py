"""What every distributed-SGD algorithm is: an exchange and an update, in the order that distinguishes it."""

import numpy as np

from hpcasr.model.params import FRAMES, NONFINITE
from hpcasr.optim.clip import clip


class Algorithm:
    """How the replicas of the model agree.  `step` reads like the update rule of the paper.

    x  the parameters, a flat vector;  g  their gradient, summed over the frames of this learner's batch, and behind it
    the trailing slots (model/params.py), which ride on the same reduction;  lr  the learning rate a.
    """

    name = None
    own_state = False  # True: every learner's state differs, and each writes its own into a checkpoint

    def __init__(self, comm, config):
        self.comm, self.config = comm, config

    def allocate(self, n, dtype):
        """Memory for the n parameters; None: any will do."""

    def bind(self, params, optimizer):
        """Take the model's Params and the `optimizer`, called as optimizer(x, g, lr), before the first step."""
        self.params, self.optimizer = params, optimizer

    def begin(self, x):
        """Called before the forward pass: start whatever overlaps with compute."""

    def ready(self, lo, hi):
        """Called between layers; g[lo:hi] is final (lo == hi in the forward pass)."""
        self.comm.progress()

    def step(self, x, g, lr):
        """One exchange and one update, in place; afterwards the slots of g hold their sums over the learners."""
        raise NotImplementedError

    def consensus(self, x):
        """The parameters to evaluate and save."""
        return x

    def close(self, x):
        """Finish every exchange under way."""

    def state(self):
        """{name: array} that, with the parameters, makes the next steps the same bits."""
        return self.optimizer.state()

    def load(self, state):
        self.optimizer.load(state)

    def update(self, x, g, lr):
        """x ← optimizer(x, mean gradient, lr), in place.  A gradient that is not finite changes nothing."""
        g, slots = g[:x.size], g[x.size:]
        if slots[NONFINITE]:
            return
        np.divide(g, max(slots[FRAMES], 1), out=g)
        if self.config.optim.clip:
            clip(g, self.config.optim.clip)
        self.optimizer(x, g, lr)
