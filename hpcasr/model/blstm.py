"""Long short-term memory in both directions (Graves and Schmidhuber 2005)."""

import numpy as np

from hpcasr.model.layer import Layer
from hpcasr.model.lstm import Lstm


class Blstm(Layer):
    """y_t = [h_t of the forward LSTM, h_t of the reverse LSTM]: dim_out = 2 x cells."""

    def __init__(self, name, dim_in, cells):
        super().__init__(name, 2*cells)
        self.directions = Lstm(f'{name}.forward', dim_in, cells), Lstm(f'{name}.reverse', dim_in, cells, reverse=True)
        self.shapes = {part: shape for d in self.directions for part, shape in d.shapes.items()}

    def init(self, rng, p):
        for direction in self.directions:
            direction.init(rng, p)

    def forward(self, ops, p, x, context):
        h, backwards = zip(*(d.forward(ops, p, x, context) for d in self.directions), strict=True)

        def backward(g, dy, need_dx=True):
            dh = np.split(dy, 2, axis=-1)
            dx, dx_reverse = (back(g, d, need_dx) for back, d in zip(backwards, dh, strict=True))
            return dx + dx_reverse if need_dx else None

        return np.concatenate(h, axis=-1), backward
