"""The nonlinearities of a feed-forward network."""

from math import sqrt

from hpcasr.model.layer import Layer

GAIN = {  # of the weights below: keeps the variance of the gradient from layer to layer
    'sigmoid': 4.0,  # 1/σ'(0): Glorot and Bengio, AISTATS 2010
    'tanh': 1.0,
    'relu': sqrt(2),  # half of the units are silent: He et al., ICCV 2015
}


class Activation(Layer):
    """y = σ(x), max(x, 0) or tanh(x), as `function` says."""

    def __init__(self, name, dim, function):
        super().__init__(name, dim)
        self.function = function

    def forward(self, ops, p, x, context):
        y, backward = ops.activation(self.function, x)
        return y, lambda g, dy, need_dx=True: backward(dy)
