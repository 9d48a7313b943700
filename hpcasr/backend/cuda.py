"""The operations of a layer on a GPU: products by cuBLAS, all between them by the kernels of kernels/cuda."""

import numpy as np

from hpcasr.backend.base import Ops
from hpcasr.backend.cuda_arena import DeviceArena
from hpcasr.backend.cuda_network import DeviceNetwork, fixed, require
from hpcasr.backend.cuda_params import DeviceParams
from hpcasr.backend.cuda_recurrence import Recurrence
from hpcasr.comm.staged import Staged
from hpcasr.kernels.cuda import activation, affine, lstm, mix, pack, persistent, softmax_ce, update
from hpcasr.model.params import Params, count

NEAR = 28 << 20  # bytes of logits that are worked on at a time: they stay in the L2 cache, of 40 MB or more
SCALARS = 8  # float32, of the rates of an optimizer
EVERYTHING = 1 << 62  # entries: the GPU works on whole vectors


class CudaOps(Ops):
    """As Ops, on arrays of `device` (cuda_device.Gpu); vectors that lie on the host are updated there, by `host`.

    precision   fp32; tf32: products of factors rounded to 10 bits by the GPU; bf16: of factors kept in 16 bits

    In bf16 the states of an LSTM leave it as bf16 (uint16), and so do logits; all else between layers is float32.
    """

    name = 'cuda'

    def __init__(self, device, precision, host):
        self.device, self.precision, self.fallback = device, precision, host
        self.where = 'a simulated GPU' if device.simulated else 'a GPU'
        self.half = precision == 'bf16'
        self.kind = np.dtype(np.uint16 if self.half else np.float32)
        self.arena, self.block, self.resident = DeviceArena(device), host.block, False
        self.weights = self.halves = None
        self.recurrence = Recurrence(device, self.half)
        self.rates, self.one, self.no = device.zeros(SCALARS), device.zeros(1) + 1, device.zeros(1)

    def describe(self):
        how = {'fp32': '', 'tf32': ', products of tf32', 'bf16': ', products of bf16'}[self.precision]
        return (f'{self.device.describe()}{how}, {self.recurrence.describe()}; on the host '
                f'{self.fallback.describe()}')

    def begin(self):
        self.arena.begin()

    def end(self):
        self.arena.end()

    def synchronize(self):
        self.device.synchronize()

    def reach(self, comm, resident):
        self.recurrence.reach(comm)
        self.resident = resident
        self.block = EVERYTHING if resident else self.fallback.block
        return Staged(comm, self.device) if resident else comm

    def params(self, shapes, dtype, buffer, memory):
        n = count(shapes)
        require(self.device, fixed(n, self.half), f'{n/1e6:,.1f} M parameters')
        return DeviceParams(shapes, self.device, buffer, memory) if self.resident else Params(
            shapes, dtype, buffer, memory)

    def network(self, network):
        return DeviceNetwork(network, self)

    def vector(self, n, dtype):
        return self.device.zeros(n, dtype) if self.resident else np.zeros(n, dtype)

    def page(self, shape, dtype):
        x = self.device.pinned(shape, dtype)
        x[...] = 0
        return x

    def host(self, x):
        return x if on_host(x) else self.device.host(x)

    def assign(self, out, x):
        if on_host(out):
            return super().assign(out, x)
        self.device.upload(out, np.ascontiguousarray(x, out.dtype))
        self.device.synchronize()

    def vectors(self, state):
        return {name: self.asarray(x) if self.resident and x.ndim else x for name, x in state.items()}

    def asarray(self, x, dtype=None):
        """`x` as it is if it lies on the device, else a copy of it there."""
        if not on_host(x):
            return x
        x = np.ascontiguousarray(x, dtype)
        out = self.device.empty(x.shape, x.dtype)
        self.device.upload(out, x)
        return out

    # what products take

    def hold(self, params):
        """Compute with the weights of these Params, on the device, as they are now; called after every change."""
        self.weights = params.data
        if self.half:
            if self.halves is None or self.halves.size != params.data.size:
                self.halves = self.device.empty(params.data.size, np.uint16)
            self.device.do(pack.pack, params.data, self.halves)

    def weight(self, W):
        """A view of the parameters as a factor."""
        if not self.half:
            return W
        lo = (self.device.address(W) - self.device.address(self.weights))//4
        return self.halves[lo:lo + W.size].reshape(W.shape)

    def factor(self, x):
        """x [...] as a factor, [rows, columns]."""
        x = x.reshape(-1, x.shape[-1])
        if x.dtype == self.kind:
            return x
        out = self.arena.take(*x.shape, dtype=np.uint16)
        self.device.do(pack.pack, x.reshape(-1), out.reshape(-1))
        return out

    def wide(self, x):
        """x as float32."""
        if x.dtype == np.float32:
            return x
        out = self.arena.take(*x.shape)
        self.device.do(pack.unpack, x.reshape(-1), out.reshape(-1))
        return out

    def pair(self, arrays):
        """[K, ...] of K = 1 or 2 arrays of one memory."""
        return self.device.batch(*arrays) if len(arrays) == 2 else arrays[0][None]

    def sum_rows(self, x, out):
        self.device.do(affine.sum_rows, x, out, self.arena.take(affine.parts(len(x)), x.shape[1]))

    # layers

    def scale(self, x, r):
        return self.wide(x)*r

    def affine(self, x, W, b):
        gemm, take = self.device.gemm, self.arena.take
        x2, W2 = self.factor(x), self.weight(W)
        y = take(len(x2), len(b))
        gemm(x2, W2, y)
        self.device.do(affine.add_bias, y, b)

        def backward(dy, dW, db, need_dx=True):
            rows = dy.reshape(-1, len(b))
            factor = self.factor(rows)
            gemm(x2.T, factor, dW)
            self.sum_rows(rows, db)
            if not need_dx:
                return None
            dx = take(*x2.shape)
            gemm(factor, W2.T, dx)
            return dx.reshape(x.shape)
        return y.reshape(*x.shape[:-1], len(b)), backward

    def activation(self, function, x):
        y = self.arena.take(*x.shape)
        self.device.do(activation.forward, function, x.reshape(-1), y.reshape(-1))

        def backward(dy):
            dx = self.arena.take(*y.shape)
            self.device.do(activation.backward, function, dy.reshape(-1), y.reshape(-1), dx.reshape(-1))
            return dx
        return y, backward

    def lstm(self, x, Wx, Wh, b, mask=None, reverse=False):
        y, back = self.recur(x, [(Wx, Wh, b)], mask, reverse)
        return y, lambda dh, dWx, dWh, db, need_dx=True: back(dh, [(dWx, dWh, db)], need_dx)

    def blstm(self, x, ahead, back, mask=None):
        y, backward = self.recur(x, [ahead, back], mask)
        return y, lambda dy, d_ahead, d_back, need_dx=True: backward(dy, [d_ahead, d_back], need_dx)

    def recur(self, x, directions, mask, reverse=False):
        """y [T, B, K H] of K directions, each (Wx, Wh, b), the second one in reverse; backward(dy, gradients, need_dx).

        All steps and both directions of x Wx are one product; so are both of h Wh in a step, which lie at places of z
        and of the parameters that are apart by a stride.
        """
        device, take, (T, B, D) = self.device, self.arena.take, x.shape
        Wx, Wh = ([self.weight(d[k]) for d in directions] for k in range(2))
        bias, K, H = [b for *_, b in directions], len(directions), len(Wh[0])
        plan = self.recurrence.plan(T, B, H, K)
        x2 = self.factor(x)
        z, c, y = take(K, T, B, 4*H), take(K, T, B, H), take(T, B, K*H, dtype=self.kind)
        device.gemm(device.every(x2, K), self.pair(Wx), z.reshape(K, T*B, 4*H))
        if plan:
            device.do(persistent.forward, plan, Wh, bias, mask, z, c, y, self.recurrence.counters(plan, K),
                      reverse=reverse)
        else:
            self.step_through(z, c, y, Wh, bias, mask, reverse)

        def backward(dy, gradients, need_dx):
            dz = take(*z.shape, dtype=self.kind) if self.half else z
            if plan:
                device.do(persistent.backward, plan, Wh, z, c, self.wide(dy), take(K, B, H), dz,
                          self.recurrence.counters(plan, K), reverse=reverse)
            else:
                self.step_back(z, c, dy, dz, self.pair([W.T for W in Wh]), reverse)
            self.gradients(x2, y, dz, gradients, reverse)
            if not need_dx:
                return None
            dx = take(T*B, D)
            for k in range(K):
                device.gemm(dz[k].reshape(T*B, 4*H), Wx[k].T, dx, add=k > 0)
            return dx.reshape(T, B, D)
        return y, backward

    def step_through(self, z, c, y, Wh, bias, mask, reverse):
        """y ← the states, from the first step to the last; z holds x Wx, and then the gates."""
        K, T, B, H = c.shape
        last, recurrent = self.arena.take(K, B, H, dtype=self.kind), self.arena.take(K, B, 4*H)
        for s in range(T if B else 0):
            if s:
                self.device.gemm(last, self.pair(Wh), recurrent)
            self.device.do(lstm.forward, s, z, recurrent, bias, mask, c, y, last, reverse=reverse)

    def step_back(self, z, c, dy, dz, WhT, reverse):
        """dz ← the derivatives by what went into the gates, from the last step to the first."""
        K, T, B, H = c.shape
        recurrent, dc = self.arena.take(K, B, H), self.arena.take(K, B, H)
        for s in reversed(range(T if B else 0)):
            if s < T - 1:
                places = T - 2 - s if reverse else s + 1, T - 2 - s  # the frames of step s + 1
                self.device.gemm(self.pair([dz[k, places[k]] for k in range(K)]), WhT, recurrent)
            self.device.do(lstm.backward, s, z, c, dy, recurrent, dc, dz, reverse=reverse)

    def gradients(self, x2, y, dz, gradients, reverse):
        """Assign the gradients (dWx, dWh, db) of every direction: products over all steps."""
        K, T, B, H4 = dz.shape
        rows, states, n = dz.reshape(K, T*B, H4), y.reshape(T*B, K*H4//4), (T - 1)*B
        self.device.gemm(self.device.every(x2.T, K), rows, self.pair([dWx for dWx, *_ in gradients]))
        for k, (_, dWh, db) in enumerate(gradients):
            before, after = (slice(B, None), slice(0, n)) if k or reverse else (slice(0, n), slice(B, None))
            own = states[:, k*H4//4:(k + 1)*H4//4]
            self.device.gemm(own[before].T, rows[k, after], dWh)
            self.sum_rows(rows[k], db)

    def head(self, x, W, b, targets, mask, gradients=None):
        """Softmax layer and cross-entropy in one, some frames at a time, so that no logits go through memory.

        x [T, B, D], targets [T, B] int32, mask [T, B] bool or None -> ([3]: Σ cross-entropy in nats, frame errors,
        whether the former is not finite; dx).  gradients: (dW, db), which are assigned; None: dx is None.
        """
        x2, W2 = self.factor(x), self.weight(W)
        N, classes = len(x2), len(b)
        losses, errors, sums = self.arena.take(N), self.arena.take(N), self.arena.take(3)
        chunk = max(1, min(N, NEAR//(classes*self.kind.itemsize)))
        logits = self.arena.take(chunk, classes, dtype=self.kind)
        dx, parts = (self.arena.take(*x2.shape), self.arena.take(-(-N//chunk), classes)) if gradients else (None, None)
        targets, keep = targets.reshape(-1), None if mask is None else mask.reshape(-1)
        for k, lo in enumerate(range(0, N, chunk)):
            own = slice(lo, min(lo + chunk, N))
            z = logits[:own.stop - lo]
            self.device.gemm(x2[own], W2, z)
            self.device.do(softmax_ce.softmax_ce, z, targets[own], None if keep is None else keep[own], losses[own],
                           errors[own], b)
            if gradients:
                self.device.gemm(x2[own].T, z, gradients[0], add=lo > 0)
                self.device.gemm(z, W2.T, dx[own])
                self.sum_rows(z, parts[k])
        if gradients:
            self.finish_head(x2, parts, *gradients)
        self.device.do(softmax_ce.totals, losses, errors, sums)
        return sums, None if dx is None else dx.reshape(x.shape)

    def finish_head(self, x2, parts, dW, db):
        if not len(x2):
            self.device.gemm(x2.T, self.arena.take(0, len(db), dtype=self.kind), dW)
        self.sum_rows(parts, db)

    def softmax_ce(self, logits, targets, mask=None):
        z = logits.reshape(-1, logits.shape[-1])
        losses, errors, sums = self.arena.take(len(z)), self.arena.take(len(z)), self.arena.take(3)
        keep = None if mask is None else mask.reshape(-1)
        self.device.do(softmax_ce.softmax_ce, z, targets.reshape(-1), keep, losses, errors)
        self.device.do(softmax_ce.totals, losses, errors, sums)
        loss, wrong, _ = self.device.host(sums).tolist()
        return loss, int(wrong), logits

    def log_softmax(self, logits):
        self.device.do(softmax_ce.log_softmax, logits.reshape(-1, logits.shape[-1]))
        return logits

    # flat vectors

    def sgd(self, x, g, v, lr, momentum, scratch):
        if on_host(x):
            return self.fallback.sgd(x, g, v, lr, momentum, scratch)
        self.device.do(update.sgd, x, g, v, self.steer(lr, momentum), self.one, self.no)

    def adam(self, x, g, m, v, t, lr, beta1, beta2, epsilon, scratch):
        if on_host(x):
            return self.fallback.adam(x, g, m, v, t, lr, beta1, beta2, epsilon, scratch)
        rates = self.steer(*update.adam_rates(t, lr, beta1, beta2, epsilon))
        self.device.do(update.adam, x, g, m, v, rates, self.one, self.no)

    def mix(self, out, vectors, weights, scratch):
        if on_host(out):
            return self.fallback.mix(out, vectors, weights, scratch)
        self.device.do(mix.mix, out, list(vectors), weights)

    def steer(self, *rates):
        """`rates` in device memory, in the order of the stream."""
        out = self.rates[:len(rates)]
        self.device.upload(out, np.array(rates, np.float32))
        return out


def on_host(x):
    """Whether x is an array of NumPy's own."""
    return type(x) is np.ndarray
