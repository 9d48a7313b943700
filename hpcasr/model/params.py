"""All parameters as one flat vector, and all gradients as another, with named views into both."""

from itertools import accumulate
from math import prod

import numpy as np

from hpcasr.aligned import zeros
from hpcasr.errors import BadInput

SLOTS = 8  # trailing entries of the gradient: they ride on its reduction, so counts need no second collective
FRAMES, LOSS, ERRORS, NONFINITE, STOP, SAMPLES, FAULT = range(7)  # 7 is spare


class Params:
    """`p['blstm1.forward.Wh']` is a view into `data`, `p.g[...]` the same view into `grad`.

    shapes    {name: shape} in the order of the flat vectors: row-major, unpadded, the same on every backend
    buffer    memory for `data`, 1-D with at least `size` entries of `dtype` (a window may be padded); None: allocate
    memory    the same for `gradient`, with at least size + SLOTS entries
    data      [size]
    gradient  [size + SLOTS]: `grad` [size], then `slots` [SLOTS]
    """

    def __init__(self, shapes, dtype='float32', buffer=None, memory=None):
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.size = count(self.shapes)
        self.data = fit(zeros(self.size, dtype) if buffer is None else buffer, self.size, dtype)
        n = self.size + SLOTS
        self.gradient = zeros(n, dtype) if memory is None else fit(memory, n, dtype)
        self.grad, self.slots = self.gradient[:self.size], self.gradient[self.size:]
        self.spans = spans(self.shapes)
        self.views, self.g = self.named(self.data), self.named(self.grad)

    @property
    def dtype(self):
        return self.data.dtype

    def __getitem__(self, name):
        return self.views[name]

    def named(self, vector):
        """{name: view} of any flat vector of `size` entries."""
        return {name: vector[lo:hi].reshape(self.shapes[name]) for name, (lo, hi) in self.spans.items()}

    def span(self, names):
        """(lo, hi) of the entries of `names`, which must be neighbours in the flat vector."""
        parts = sorted(self.spans[name] for name in names)
        lo, hi = parts[0][0], parts[-1][1]
        if sum(b - a for a, b in parts) != hi - lo:
            raise ValueError(f'{", ".join(names)} are not contiguous')
        return lo, hi

    def state(self):
        """The arrays of a checkpoint; not copies."""
        return {'params': self.data}

    def load(self, state):
        """Overwrite `data` in place."""
        values = state['params']
        if values.shape != self.data.shape:
            raise BadInput(f'{values.size} parameters given, this model has {self.size}; use the configuration that '
                           'they were trained with')
        self.data[:] = values


def count(shapes):
    """Entries of the flat vector."""
    return sum(map(prod, shapes.values()))


def spans(shapes):
    """{name: (lo, hi)}."""
    ends = [0, *accumulate(map(prod, shapes.values()))]
    return {name: (lo, hi) for name, lo, hi in zip(shapes, ends, ends[1:], strict=False)}


def fit(buffer, size, dtype):
    """The first `size` entries of `buffer`; ValueError if it cannot hold them."""
    if buffer.dtype != dtype or buffer.ndim != 1 or len(buffer) < size or not buffer.flags.c_contiguous:
        raise ValueError(f'{size} contiguous entries of {np.dtype(dtype)} needed, got {buffer.dtype} {buffer.shape}')
    return buffer[:size]
