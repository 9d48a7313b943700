"""Dropout (Srivastava et al. 2014), inverted: evaluation needs no scaling."""

import numpy as np

from hpcasr.model.layer import Layer


class Dropout(Layer):
    """y = x r/(1 − q), r = 0 with probability q, else 1, drawn for every unit and frame; y = x in evaluation."""

    def __init__(self, name, dim, q):
        super().__init__(name, dim)
        self.q = q

    def forward(self, ops, p, x, context):
        if context.rng is None:
            return x, lambda g, dy, need_dx=True: dy
        r = ops.asarray(self.draw(context.rng, x.shape))
        return ops.scale(x, r), lambda g, dy, need_dx=True: ops.scale(dy, r)

    def draw(self, rng, shape):
        """r/(1 − q), on the host and in float32 whatever the network's type: the same units are dropped in both."""
        return (rng.random(shape, np.float32) >= self.q)/np.float32(1 - self.q)
