"""The operations of a layer, in plain NumPy: correct and readable, the oracle of the other backends."""

import numpy as np

from hpcasr.backend.packing import Packing
from hpcasr.kernels.reference import activation, affine, bf16, lstm, mix, softmax_ce, update
from hpcasr.model.params import Params


class Ops(Packing):
    """Operations with a gradient return (y, backward); backward(dy, *gradients) assigns `gradients` and returns dx.

    A backward is called once: a backend may compute it in the memory of its forward.

    precision   'fp32', or 'bf16': the factors of all products of matrices are rounded to it; sums, gates, softmax,
                parameters and gradients stay float32
    """

    name = 'reference'
    where = 'the processor'
    block = 1 << 15  # entries of flat vectors to work on at a time: the next operation finds them in the cache

    def __init__(self, precision='fp32'):
        self.taken = bf16.rounded if precision == 'bf16' else bf16.same  # what products take for a factor

    def describe(self):
        """A few words: what computes."""
        return 'NumPy' + ', products of bf16, emulated'*(self.taken is bf16.rounded)

    def reach(self, comm, resident):
        """`comm` for an algorithm; resident: it works with vectors that lie wherever this backend computes."""
        return comm

    def params(self, shapes, dtype, buffer, memory):
        """The Params of an algorithm that was given `reach`; arguments as of Params."""
        return Params(shapes, dtype, buffer, memory)

    def network(self, network):
        """A Network over these `params`, as this backend computes it."""
        return network

    def begin(self):
        """A training step begins: what the last one has given may be overwritten."""

    def end(self):
        """It ends: from here on results stay."""

    def asarray(self, x, dtype=None):
        """`x`, from the host, where this backend computes."""
        return np.asarray(x, dtype)

    def vector(self, n, dtype):
        """[n] zeros where the parameters are."""
        return np.zeros(n, dtype)

    def page(self, shape, dtype):
        """Zeros on the host, where `asarray` takes them up fast; called by any thread."""
        return np.zeros(shape, dtype)

    def host(self, x):
        """`x`, which lies where the parameters are or on the host, on the host; perhaps not a copy."""
        return x

    def assign(self, out, x):
        """out ← x, of which x lies on the host and `out` where the parameters are."""
        if out is not x:
            out[:] = x

    def vectors(self, state):
        """The arrays of a checkpoint, {name: array}, with its vectors where the parameters are."""
        return state

    def scale(self, x, r):
        """x r, entry by entry, r as `asarray` gives it."""
        return x*r

    def affine(self, x, W, b):
        """x W + b; backward(dy, dW, db, need_dx=True)."""
        def backward(dy, dW, db, need_dx=True):
            return affine.backward(dy, x, W, dW, db, need_dx, self.taken)
        return affine.forward(x, W, b, self.taken), backward

    def activation(self, function, x):
        """'sigmoid', 'relu' or 'tanh' of x; backward(dy)."""
        y = activation.forward(function, x)
        return y, lambda dy: activation.backward(function, dy, y)

    def lstm(self, x, Wx, Wh, b, mask=None, reverse=False):
        """h [T, B, H] of a sequence x [T, B, D], from its end if `reverse`; backward(dh, dWx, dWh, db, need_dx=True).

        mask [T, B] bool: h and c are zero, and so is dx, where it is False; None: True everywhere.
        """
        flip = slice(None, None, -1 if reverse else 1)
        h, tape = lstm.forward(x[flip], Wx, Wh, b, None if mask is None else mask[flip], self.taken)

        def backward(dh, dWx, dWh, db, need_dx=True):
            dx = lstm.backward(dh[flip], tape, Wx, Wh, dWx, dWh, db, need_dx, self.taken)
            return dx[flip] if need_dx else None

        return h[flip], backward

    def blstm(self, x, ahead, back, mask=None):
        """[h of the LSTM with the weights `ahead`, h of the reverse one with `back`] of a sequence x, [T, B, 2H].

        ahead, back   (Wx, Wh, b);  backward(dy, their gradients, those of `back`, need_dx=True)
        """
        h, backwards = zip(self.lstm(x, *ahead, mask), self.lstm(x, *back, mask, True), strict=True)

        def backward(dy, d_ahead, d_back, need_dx=True):
            dh = np.split(dy, 2, axis=-1)
            dx = [part(d, *g, need_dx=need_dx) for part, d, g in zip(backwards, dh, (d_ahead, d_back), strict=True)]
            return dx[0] + dx[1] if need_dx else None
        return np.concatenate(h, axis=-1), backward

    def softmax_ce(self, logits, targets, mask=None):
        """(Σ cross-entropy in nats, frame errors, d logits of that sum) over all frames; overwrites logits."""
        return softmax_ce.softmax_ce(logits, targets, mask)

    def log_softmax(self, logits):
        """ln softmax over the last axis, in place."""
        return softmax_ce.log_softmax(logits)

    def sgd(self, x, g, v, lr, momentum, scratch):
        """Update x and v [n] in place; `scratch` [any length] is overwritten.  Momentum 0: v may stay what it is."""
        update.sgd(x, g, v, lr, momentum, scratch)

    def adam(self, x, g, m, v, t, lr, beta1, beta2, epsilon, scratch):
        """Update x, m and v [n] in place with step count t, from 1; `scratch` [any length] is overwritten."""
        update.adam(x, g, m, v, t, lr, beta1, beta2, epsilon, scratch)

    def mix(self, out, vectors, weights, scratch):
        """out ← Σ_k weights[k] vectors[k] [n], summed in that order; `out` may be one of the vectors.

        `scratch` [2, any length] is overwritten.
        """
        mix.mix(out, vectors, weights, scratch)

    def synchronize(self):
        """Wait until all results can be read by the host."""
