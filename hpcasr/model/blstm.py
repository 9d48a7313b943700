"""Long short-term memory in both directions (Graves and Schmidhuber 2005)."""

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
        y, backward = ops.blstm(x, *(d.weights(p) for d in self.directions), context.mask)
        return y, lambda g, dy, need_dx=True: backward(dy, *(d.weights(g) for d in self.directions), need_dx=need_dx)
