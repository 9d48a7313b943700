"""The fully connected layer, without nonlinearity: also the bottleneck."""

from hpcasr.model.layer import Layer, glorot


class Affine(Layer):
    """y = x W + b, with W [dim_in, dim_out].  Init: Glorot times the `gain` of the activation that follows."""

    def __init__(self, name, dim_in, dim_out, gain=1.0):
        super().__init__(name, dim_out, {'W': (dim_in, dim_out), 'b': (dim_out,)})
        self.gain = gain

    def init(self, rng, p):
        W, b = self.weights(p)
        W[...] = glorot(rng, *W.shape, self.gain)
        b[...] = 0

    def forward(self, ops, p, x, context):
        y, backward = ops.affine(x, *self.weights(p))
        return y, lambda g, dy, need_dx=True: backward(dy, *self.weights(g), need_dx=need_dx)
