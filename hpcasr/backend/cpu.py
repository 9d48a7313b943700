"""The operations of a layer on processors with wide vectors, in float32; all else is left to NumPy."""

import numpy as np

from hpcasr.aligned import zeros
from hpcasr.backend.arena import Arena
from hpcasr.backend.base import Ops
from hpcasr.backend.cpu_packing import CpuPacking, fits
from hpcasr.kernels.cpu import activation, affine, gemm, lstm, mix, softmax_ce, update
from hpcasr.kernels.cpu.processor import BF16, LANES
from hpcasr.kernels.cpu.tile import PANEL


class CpuOps(CpuPacking, Ops):
    """As Ops; a second backward of an LSTM raises RuntimeError.

    Where the processor does not know bf16, products are those of float32, of rounded factors: as exact, but not faster.
    """

    name = 'cpu'

    def __init__(self, precision='fp32'):
        super().__init__(precision)
        self.half = precision == 'bf16'
        self.arena, self.work, self.scratch = Arena(), zeros(gemm.WORK, np.float32), zeros(0, np.float32)

    def describe(self):
        """`Numba, vectors of 16 float32, products of bf16`."""
        how = '' if BF16 else ', emulated: this processor has no avx512_bf16'
        return f'Numba, vectors of {LANES} float32' + f', products of bf16{how}'*self.half

    def begin(self):
        self.arena.begin()

    def end(self):
        self.arena.end()

    def gemm(self, A, B, out, bias=None, add=False):
        """out ← A B, + bias in every row, or + out."""
        start = gemm.SUM if add else gemm.ZERO if bias is None else gemm.BIAS
        N = B.shape[1]
        gemm.gemm(turned(A), turned(B), out, self.room(N)[:N] if bias is None else bias, start,
                  self.half, self.work)
        return out

    def affine(self, x, W, b):
        if x.dtype != np.float32:
            return super().affine(x, W, b)
        x2 = x.reshape(-1, len(W))
        y = self.gemm(x2, W, self.arena.take(len(x2), len(b)), b)

        def backward(dy, dW, db, need_dx=True):
            dy2 = plain(dy.reshape(-1, len(b)))
            self.gemm(x2.T, dy2, dW)
            affine.sum_rows(dy2, db)
            return self.gemm(dy2, W.T, self.arena.take(*x2.shape)).reshape(x.shape) if need_dx else None
        return y.reshape(*x.shape[:-1], len(b)), backward

    def activation(self, function, x):
        if x.dtype != np.float32:
            return super().activation(function, x)
        number, y = activation.FUNCTIONS[function], self.arena.take(*x.shape)
        activation.forward(number, plain(x).reshape(-1), y.reshape(-1))

        def backward(dy):
            dx = self.arena.take(*y.shape)
            activation.backward(number, plain(dy).reshape(-1), y.reshape(-1), dx.reshape(-1))
            return dx
        return y, backward

    def lstm(self, x, Wx, Wh, b, mask=None, reverse=False):
        if x.dtype != np.float32:
            return super().lstm(x, Wx, Wh, b, mask, reverse)
        h = self.arena.take(*x.shape[:2], len(Wh))
        back = self.direction(plain(x), Wx, Wh, b, self.open(mask, x), reverse, h)

        def backward(dh, dWx, dWh, db, need_dx=True):
            return back(dh, dWx, dWh, db, self.arena.take(*x.shape) if need_dx else None, False)
        return h, backward

    def blstm(self, x, ahead, back, mask=None):
        if x.dtype != np.float32:
            return super().blstm(x, ahead, back, mask)
        x, H, there = plain(x), len(ahead[1]), self.open(mask, x)
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
        there = self.arena.take(*x.shape[:2])
        there[...] = 1 if mask is None else mask
        return there

    def direction(self, x, Wx, Wh, b, mask, reverse, h):
        """h [T, B, H] ← the states of one direction; backward(dh, dWx, dWh, db, dx, add), where dx may be None.

        The kernels know cells in whole panels: others are filled up with cells that stay zero.
        """
        (T, B, D), H = x.shape, len(Wh)
        full, x2 = whole(H), x.reshape(T*B, D)
        if full != H:
            Wx, Wh, b = self.wide(Wx, full), self.tall(self.wide(Wh, full), full), self.wide(b, full)
        z, c, tanh_c = (self.arena.take(T, B, n) for n in (4*full, full, full))
        own = h if h.shape[2] == full else self.arena.take(T, B, full)
        self.gemm(x2, Wx, z.reshape(T*B, 4*full), b)
        lstm.forward(z, Wh, mask, own, c, tanh_c, reverse, self.half, self.room(lstm.room(B, full)))
        if own is not h:
            h[...] = own[..., :H]
        tape = z, own, c, tanh_c

        def backward(dh, dWx, dWh, db, dx, add):
            nonlocal tape
            if tape is None:
                raise RuntimeError('the backward of an LSTM may be called once: the memory of its forward is used up')
            (z, own, c, tanh_c), tape = tape, None
            dh = rows(dh) if full == H else self.wide(dh, full, 1)
            lstm.backward(z, Wh, dh, c, tanh_c, reverse, self.half, self.room(lstm.room(B, full)))
            dz, states, n = z.reshape(T*B, 4*full), own.reshape(T*B, full), (T - 1)*B
            before, after = (slice(B, None), slice(0, n)) if reverse else (slice(0, n), slice(B, None))
            grads = (dWx, dWh, db) if full == H else [self.arena.take(*W.shape) for W in (Wx, Wh, b)]
            self.gemm(x2.T, dz, grads[0])
            self.gemm(states[before].T, dz[after], grads[1])
            affine.sum_rows(dz, grads[2])
            if full != H:
                for grad, out in zip(grads, (dWx, dWh, db), strict=True):
                    narrow(grad, full, out)
            return None if dx is None else self.gemm(dz, Wx.T, dx.reshape(T*B, D), add=add).reshape(x.shape)
        return backward

    def wide(self, W, full, gates=4):
        """W [..., gates·H] with zeros behind every gate: [..., gates·full]."""
        H, out = W.shape[-1]//gates, self.arena.take(*W.shape[:-1], gates*full)
        for q in range(gates):
            out[..., q*full:q*full + H] = W[..., q*H:(q + 1)*H]
            out[..., q*full + H:(q + 1)*full] = 0
        return out

    def tall(self, W, full):
        """W with rows of zeros behind it: [full, ...]."""
        out = self.arena.take(full, W.shape[1])
        out[:len(W)], out[len(W):] = W, 0
        return out

    def room(self, size):
        """[size] that the next call overwrites."""
        if self.scratch.size < size:
            self.scratch = zeros(size, np.float32)
        return self.scratch

    def softmax_ce(self, logits, targets, mask=None):
        if logits.dtype != np.float32:
            return super().softmax_ce(logits, targets, mask)
        z, classes = logits.reshape(-1, logits.shape[-1]), plain(targets, np.int32).reshape(-1)
        if len(z) and not 0 <= classes.min() <= classes.max() < z.shape[1]:  # the kernel would write beside a row
            raise IndexError(f'targets {classes.min()} to {classes.max()}, but {z.shape[1]} classes')
        keep = np.ones(len(z), bool) if mask is None else plain(mask, bool).reshape(-1)
        loss, errors = softmax_ce.softmax_ce(z, classes, keep)
        return loss, errors, logits

    def log_softmax(self, logits):
        if logits.dtype != np.float32:
            return super().log_softmax(logits)
        softmax_ce.log_softmax(logits.reshape(-1, logits.shape[-1]), np.empty(logits.shape[-1], np.float32))
        return logits

    def sgd(self, x, g, v, lr, momentum, scratch):
        if not all(map(fits, (x, g, v))):
            return super().sgd(x, g, v, lr, momentum, scratch)
        if momentum:
            update.sgd(x, g, v, lr, momentum)
        else:  # nobody reads v, which stays what it is: a third of the memory that a step of plain SGD would move
            update.descend(x, g, lr)

    def mix(self, out, vectors, weights, scratch):
        kernel = {2: mix.two, 3: mix.three}.get(len(vectors))
        if not kernel or not all(map(fits, (out, *vectors))):
            return super().mix(out, vectors, weights, scratch)
        kernel(out, *vectors, *weights)


def whole(H):
    """Cells in whole panels."""
    return -(-H//PANEL)*PANEL


def narrow(W, full, out, gates=4):
    """out [n, gates·H] ← W [n or more, gates·full] without what `wide` and `tall` put behind; or both without n."""
    H = out.shape[-1]//gates
    for q in range(gates):
        out[..., q*H:(q + 1)*H] = W[..., q*full:q*full + H][tuple(map(slice, out.shape))]


def turned(A):
    """A as the products take it: contiguous along one of its axes."""
    return A if 4 in A.strides and A.flags.behaved else plain(A)


def rows(x):
    """x with a contiguous last axis."""
    return x if x.strides[-1] == 4 and x.flags.behaved else plain(x)


def plain(x, dtype=np.float32):
    """x as the kernels take it: contiguous; and writable, without which Numba calls it another type."""
    return np.require(x, dtype, ['C', 'W', 'A'])
