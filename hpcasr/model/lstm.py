"""Long short-term memory in one direction (Hochreiter and Schmidhuber 1997; forget gate: Gers et al. 2000)."""

import numpy as np

from hpcasr.model.layer import Layer, glorot


class Lstm(Layer):
    """z_t = x_t Wx + h_{t-1} Wh + b;  c_t = σ(f) c_{t-1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t);  y = h.

    Wx [D, 4H], Wh [H, 4H], b [4H], gates in the order i, f, g, o.  `reverse` runs from the last frame to the first.
    h and c are zero at masked frames, so in either direction a chunk starts from zero at its own first or last frame.
    """

    def __init__(self, name, dim_in, cells, reverse=False):
        super().__init__(name, cells, {'Wx': (dim_in, 4*cells), 'Wh': (cells, 4*cells), 'b': (4*cells,)})
        self.reverse = reverse

    def init(self, rng, p):
        """Glorot per gate, forget bias 1 (Jozefowicz et al. 2015).

        Wh has the spectral radius of an orthogonal matrix, about 1, but needs no factorization, whose rounding would
        differ between the BLAS libraries of two nodes: with the generator alone all ranks start from the same bits.
        """
        Wx, Wh, b = self.weights(p)
        for W in Wx, Wh:
            W[...] = np.hstack([glorot(rng, len(W), self.dim_out) for _ in range(4)])
        i, f, g, o = np.split(b, 4)
        f[...], i[...], g[...], o[...] = 1, 0, 0, 0

    def forward(self, ops, p, x, context):
        h, backward = ops.lstm(x, *self.weights(p), context.mask, self.reverse)
        return h, lambda g, dh, need_dx=True: backward(dh, *self.weights(g), need_dx=need_dx)
