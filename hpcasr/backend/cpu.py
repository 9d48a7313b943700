"""The operations of a layer on processors with wide vectors, in float32; all else is left to NumPy."""

import numpy as np

from hpcasr.backend.arena import Arena
from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput
from hpcasr.kernels.cpu import activation, affine, gemm, lstm, mix, softmax_ce, update
from hpcasr.kernels.cpu.processor import LANES, SUPPORTED
from hpcasr.kernels.cpu.tile import PANEL


class CpuOps(Ops):
    """As Ops.  A backward may be called once: it computes in the memory of its forward."""

    name = 'cpu'

    def __init__(self):
        if not SUPPORTED:
            raise BadInput('train.backend = cpu: this processor has neither AVX-512 nor AVX2; use reference')
        self.arena, self.work, self.scratch = Arena(), np.empty(gemm.WORK, np.float32), np.empty(0, np.float32)

    def describe(self):
        """`Numba, vectors of 16 float32`."""
        return f'Numba, vectors of {LANES} float32'

    def begin(self):
        self.arena.begin()

    def end(self):
        self.arena.end()

    def gemm(self, A, B, out, bias=None, add=False):
        """out ← A B, + bias in every row, or + out."""
        start = gemm.SUM if add else gemm.ZERO if bias is None else gemm.BIAS
        gemm.gemm(turned(A), turned(B), out, np.empty(B.shape[1], np.float32) if bias is None else bias, start, self.work)
        return out

    def affine(self, x, W, b):
        if x.dtype != np.float32:
            return super().affine(x, W, b)
        x2 = x.reshape(-1, len(W))
        y = self.gemm(x2, W, self.arena.take(len(x2), len(b)), b)

        def backward(dy, dW, db, need_dx=True):
            dy2 = np.ascontiguousarray(dy.reshape(-1, len(b)))
            self.gemm(x2.T, dy2, dW)
            affine.sum_rows(dy2, db)
            return self.gemm(dy2, W.T, self.arena.take(*x2.shape)).reshape(x.shape) if need_dx else None
        return y.reshape(*x.shape[:-1], len(b)), backward

    def activation(self, function, x):
        if x.dtype != np.float32:
            return super().activation(function, x)
        number, y = activation.FUNCTIONS[function], self.arena.take(*x.shape)
        activation.forward(number, np.ascontiguousarray(x).reshape(-1), y.reshape(-1))

        def backward(dy):
            dx = self.arena.take(*y.shape)
            activation.backward(number, np.ascontiguousarray(dy).reshape(-1), y.reshape(-1), dx.reshape(-1))
            return dx
        return y, backward

    def lstm(self, x, Wx, Wh, b, mask=None, reverse=False):
        if x.dtype != np.float32:
            return super().lstm(x, Wx, Wh, b, mask, reverse)
        h = self.arena.take(*x.shape[:2], len(Wh))
        back = self.direction(np.ascontiguousarray(x), Wx, Wh, b, self.open(mask, x), reverse, h)

        def backward(dh, dWx, dWh, db, need_dx=True):
            return back(dh, dWx, dWh, db, self.arena.take(*x.shape) if need_dx else None, False)
        return h, backward

    def blstm(self, x, ahead, back, mask=None):
        if x.dtype != np.float32:
            return super().blstm(x, ahead, back, mask)
        x, H, there = np.ascontiguousarray(x), len(ahead[1]), self.open(mask, x)
        y = self.arena.take(*x.shape[:2], 2*H)
        halves = y[..., :H], y[..., H:]
        both = [self.direction(x, *weights, there, reverse, half)
                for weights, reverse, half in zip((ahead, back), (False, True), halves, strict=True)]

        def backward(dy, d_ahead, d_back, need_dx=True):
            dx = self.arena.take(*x.shape) if need_dx else None
            for back, dh, gradients, add in zip(both, (dy[..., :H], dy[..., H:]), (d_ahead, d_back), (False, True),
                                                strict=True):
                back(dh, *gradients, dx, add)
            return dx
        return y, backward

    def open(self, mask, x):
        """[T, B] float32: 1 where there is a frame."""
        return np.ones(x.shape[:2], np.float32) if mask is None else mask.astype(np.float32)

    def direction(self, x, Wx, Wh, b, mask, reverse, h):
        """h [T, B, H] ← the states of one direction; backward(dh, dWx, dWh, db, dx, add), where dx may be None.

        The kernels know cells in whole panels: others are filled up with cells that stay zero.
        """
        (T, B, D), H = x.shape, len(Wh)
        full, x2 = whole(H), x.reshape(T*B, D)
        if full != H:
            Wx, Wh, b = wide(Wx, full), tall(wide(Wh, full), full), wide(b, full)
        z, c, tanh_c = (self.arena.take(T, B, n) for n in (4*full, full, full))
        own = h if h.shape[2] == full else self.arena.take(T, B, full)
        self.gemm(x2, Wx, z.reshape(T*B, -1), b)
        lstm.forward(z, Wh, mask, own, c, tanh_c, reverse, self.room(4*full*full + PANEL))
        if own is not h:
            h[...] = own[..., :H]

        def backward(dh, dWx, dWh, db, dx, add):
            dh = dh if full == H else wide(dh, full, 1)
            lstm.backward(z, Wh, dh, c, tanh_c, reverse, self.room(4*full*full + B*full + PANEL))
            dz, states, n = z.reshape(T*B, -1), own.reshape(T*B, full), (T - 1)*B
            before, after = (slice(B, None), slice(0, n)) if reverse else (slice(0, n), slice(B, None))
            grads = (dWx, dWh, db) if full == H else [np.empty(W.shape, np.float32) for W in (Wx, Wh, b)]
            self.gemm(x2.T, dz, grads[0])
            self.gemm(states[before].T, dz[after], grads[1])
            affine.sum_rows(dz, grads[2])
            if full != H:
                for grad, out in zip(grads, (dWx, dWh, db), strict=True):
                    out[...] = narrow(grad, full, H)[:len(out)]
            return None if dx is None else self.gemm(dz, Wx.T, dx.reshape(T*B, D), add=add).reshape(x.shape)
        return backward

    def room(self, size):
        """[size] that the next call overwrites."""
        if self.scratch.size < size:
            self.scratch = np.empty(size, np.float32)
        return self.scratch

    def softmax_ce(self, logits, targets, mask=None):
        if logits.dtype != np.float32:
            return super().softmax_ce(logits, targets, mask)
        rows = logits.reshape(-1, logits.shape[-1])
        keep = np.ones(len(rows), bool) if mask is None else np.ascontiguousarray(mask).reshape(-1)
        loss, errors = softmax_ce.softmax_ce(rows, np.ascontiguousarray(targets, np.int32).reshape(-1), keep)
        return loss, errors, logits

    def log_softmax(self, logits):
        if logits.dtype != np.float32:
            return super().log_softmax(logits)
        softmax_ce.log_softmax(logits.reshape(-1, logits.shape[-1]), np.empty(logits.shape[-1], np.float32))
        return logits

    def sgd(self, x, g, v, lr, momentum, scratch):
        if x.dtype != np.float32:
            return super().sgd(x, g, v, lr, momentum, scratch)
        update.sgd(x, g, v, lr, momentum)

    def mix(self, out, vectors, weights, scratch):
        kernel = {2: mix.two, 3: mix.three}.get(len(vectors))
        if out.dtype != np.float32 or not kernel:
            return super().mix(out, vectors, weights, scratch)
        kernel(out, *vectors, *weights)


def whole(H):
    """Cells in whole panels."""
    return -(-H//PANEL)*PANEL


def wide(W, full, gates=4):
    """W [..., gates·H] with zeros behind every gate: [..., gates·full]."""
    H = W.shape[-1]//gates
    out = np.zeros((*W.shape[:-1], gates, full), np.float32)
    out[..., :H] = W.reshape(*W.shape[:-1], gates, H)
    return out.reshape(*W.shape[:-1], gates*full)


def tall(W, full):
    """W with rows of zeros behind it: [full, ...]."""
    return np.vstack([W, np.zeros((full - len(W), W.shape[1]), np.float32)])


def narrow(W, full, H):
    """W [..., 4·full] without what `wide` put behind every gate: [..., 4·H]."""
    return W.reshape(*W.shape[:-1], 4, full)[..., :H].reshape(*W.shape[:-1], 4*H)


def turned(A):
    """A as the products take it: contiguous along one of its axes."""
    return A if 4 in A.strides else np.ascontiguousarray(A)
