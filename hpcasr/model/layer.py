"""What every layer is."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Context:
    """mask [T, B] bool, True where there is a frame, or None: all are; rng of dropout, or None: evaluation."""

    mask: np.ndarray | None = None
    rng: np.random.Generator | None = None


class Layer:
    """y = f(x; p): x [T, B, D] is time first, y [T, B, dim_out].  A layer holds names and shapes, and no state.

    init(rng, p)                    fill this layer's views of `p`; drawn in float64, then rounded to the views
    forward(ops, p, x, context)     -> (y, backward)
    backward(g, dy, need_dx=True)   assign this layer's gradients to its views of `g`; -> dx, or None if not needed
    """

    def __init__(self, name, dim_out, shapes=()):
        self.name, self.dim_out = name, dim_out
        self.shapes = {f'{name}.{part}': shape for part, shape in dict(shapes).items()}

    def weights(self, views):
        """This layer's views of a Params or of its gradient, in the order of `shapes`."""
        return [views[name] for name in self.shapes]

    def init(self, rng, p):
        """Nothing to fill."""


def glorot(rng, dim_in, dim_out, gain=1.0):
    """[dim_in, dim_out] uniform in ± gain √(6/(dim_in + dim_out)): Glorot and Bengio, AISTATS 2010, eq. 16."""
    limit = gain*np.sqrt(6/(dim_in + dim_out))
    return rng.uniform(-limit, limit, (dim_in, dim_out))
