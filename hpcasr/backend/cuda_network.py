"""A network that computes on a GPU what it is asked for on the host."""

import numpy as np

from hpcasr.backend.cuda_counting import Counting
from hpcasr.backend.cuda_graphs import Graphs
from hpcasr.errors import BadInput
from hpcasr.model.dropout import Dropout
from hpcasr.model.layer import Context
from hpcasr.model.network import Network, nothing, step
from hpcasr.model.params import SLOTS, Params, count

INPUTS = 8  # shapes of batches whose memory is kept


class DeviceNetwork:
    """A Network in all but where it computes.

    Where the algorithm works with vectors on the device (ops.resident), params are there, DeviceParams.  For others,
    those whose model lies in windows that all reach, params are on the host: MPI takes the memory of GPUs only where it
    was built for it, and never in one-sided calls.  Then a step copies the parameters to the device before the forward
    pass; and each part of the gradient is copied back, on a stream of its own, behind the layer that finishes it, while
    the layers below it are computed.

    params   what algorithms see
    there    Params on the device: these, or copies
    """

    def __init__(self, network, ops):
        self.network, self.ops, self.device = network, ops, ops.device
        p = network.params
        self.there = p if ops.resident else self.counterpart(p)
        self.sums, self.inputs = self.device.pinned(3, np.float32), {}
        still = not any(isinstance(layer, Dropout) for layer in network.layers)
        self.graphs = Graphs(self.device, ops.arena, still)

    def counterpart(self, p):
        """Params on the device for those on the host, which copies are made from and to."""
        self.device.pin(p.data)
        self.device.pin(p.gradient)
        return Params(p.shapes, p.dtype, self.device.zeros(p.size), self.device.zeros(p.size + SLOTS))

    def __getattr__(self, name):
        return getattr(self.network, name)

    def init(self, seed):
        """As Network.init."""
        n, p = self.network, Params(self.there.shapes)
        Network(n.model, n.dim, n.layers, p, n.ops).init(seed)
        n.params.load({'params': p.data})

    def loss_and_grad(self, batch, ready=nothing, seed=0):
        """As Network.loss_and_grad; but see `learn_here` of the slots."""
        context = Context(rng=np.random.default_rng([seed, batch.epoch, batch.position]))
        self.send_params()
        inputs = self.send(batch)
        learn = self.learn_here if self.ops.resident else self.learn_there
        return learn(batch, ('step', *inputs.key), lambda cut: self.learn(inputs, context, cut), ready)

    def learn_there(self, batch, key, work, ready):
        """All is given to the device at once, and copied back part by part."""
        parts = []
        self.graphs.run(key, work, lambda sums, lo, hi: parts.append((self.fetch(sums, lo, hi), lo, hi)))
        self.ascend(ready)
        parts[0][0].synchronize()
        loss = self.fill_slots(batch)
        for mark, lo, hi in parts:
            mark.synchronize()
            self.network.look_at(lo, hi)
            ready(lo, hi)
        return loss

    def learn_here(self, batch, key, work, ready):
        """A part is final, as far as `ready` is told, when all that was asked of the device before is done.

        The slots are assigned at the end: the loss is not waited for.
        """
        marks = []

        def cut(sums, lo, hi):
            if not lo:
                marks.append(self.fetch(sums, 0, 0))
                self.ascend(ready)
            ready(lo, hi)
        self.graphs.run(key, work, cut)
        marks[0].synchronize()
        return self.fill_slots(batch)

    def ascend(self, ready):
        for _ in self.network.layers:
            ready(0, 0)

    def evaluate(self, batch):
        """As Network.evaluate."""
        self.send_params()
        inputs, marks = self.send(batch), []
        self.graphs.run(('score', *inputs.key), lambda cut: self.score(inputs, cut),
                        lambda sums, lo, hi: marks.append(self.fetch(sums, 0, 0)))
        marks[0].synchronize()
        loss, errors, _ = self.sums.tolist()
        return loss, int(errors), batch.frames

    def log_posteriors(self, x, mask=None):
        """As Network.log_posteriors, on the host."""
        self.send_params()
        asarray, p = self.ops.asarray, self.there
        x = asarray(x, np.float32)
        context = Context(None if mask is None else asarray(mask))
        for layer in self.network.layers:
            x, _ = layer.forward(self.ops, p, x, context)
        return self.device.host(self.network.layers[-1].log_posteriors(self.ops, x))

    # there and back

    def send_params(self):
        """Compute with the parameters as they are now."""
        if not self.ops.resident:
            self.device.upload(self.there.data, self.network.params.data)
        self.ops.hold(self.there)

    def send(self, batch):
        """The Inputs of a batch, on the device."""
        key = (*batch.x.shape[:2], batch.mask is not None)
        if key not in self.inputs:
            if len(self.inputs) == INPUTS:
                self.inputs.pop(next(iter(self.inputs)))
                self.graphs.forget()
            self.inputs[key] = Inputs(key, batch.x.shape[-1], self.device)
        self.inputs[key].load(batch)
        return self.inputs[key]

    def fetch(self, sums, lo, hi):
        """Begin copying the sums and entries lo:hi of the gradient to the host; a Mark of when it is done."""
        device = self.device
        device.after(device.mark(), device.side)
        if not lo:
            device.download(self.sums, sums, device.side)
        if hi > lo:
            device.download(self.network.params.grad[lo:hi], self.there.grad[lo:hi], device.side)
        return device.mark(device.side)

    def fill_slots(self, batch):
        loss, errors, _ = self.sums.tolist()
        self.network.fill_slots(batch, loss, int(errors) if errors == errors else batch.frames)
        return loss

    # on the device

    def learn(self, inputs, context, cut):
        """Compute the loss and all gradients; cut(sums, lo, hi) wherever entries lo:hi have become final."""
        p, layers = self.there, self.network.layers
        with step(self.ops):
            x, tape = self.climb(inputs, context)
            sums, dy = self.ops.head(x, *layers[-1].weights(p), inputs.targets, inputs.mask, layers[-1].weights(p.g))
            hi = count(layers[-1].shapes)
            cut(sums, 0, hi)
            while tape:
                layer, backward = tape.pop()
                dy = backward(p.g, dy, need_dx=bool(tape))
                lo, hi = hi, hi + count(layer.shapes)
                cut(sums, lo, hi)

    def score(self, inputs, cut):
        """Compute the loss; then cut(sums, 0, 0)."""
        with step(self.ops):
            x, _ = self.climb(inputs, Context())
            last = self.network.layers[-1]
            sums, _ = self.ops.head(x, *last.weights(self.there), inputs.targets, inputs.mask)
            cut(sums, 0, 0)

    def climb(self, inputs, context):
        """What the last layer gets, and the layers below it with their backward functions."""
        x, tape = inputs.x, []
        context = Context(inputs.mask, context.rng)
        for layer in self.network.layers[:-1]:
            x, backward = layer.forward(self.ops, self.there, x, context)
            tape.append((layer, backward))
        return x, tape

    # memory

    def reserve(self, T, B):
        """Raise BadInput unless steps of B samples of T frames fit into the memory of the GPU; nothing is allocated."""
        need = self.needs(T, B)
        if need > self.device.free():
            fits = largest(B, lambda fewer: self.needs(T, fewer) <= self.device.free())
            advice = f'data.batch = {fits} would fit' if fits else 'choose fewer model.cells or layers'
            raise BadInput(f'{self.network.describe()}: data.batch = {B} needs {need/1e9:,.2f} GB of GPU memory, '
                           f'{self.device.free()/1e9:,.2f} GB are free; {advice}')

    def needs(self, T, B):
        """Bytes that a step takes beside the parameters."""
        ops, counting = self.ops, Counting()
        ops.device, ops.arena, held = counting, counting, (ops.device, ops.arena)
        try:
            inputs = Inputs((T, B, True), self.network.dim, counting)
            taken = counting.nbytes
            self.learn(inputs, Context(rng=np.random.default_rng(0)), nothing_final)
        finally:
            ops.device, ops.arena = held
        return taken + counting.nbytes


class Inputs:
    """Where the batches of one shape lie on the device; `key` is (T, B, whether there are masks)."""

    def __init__(self, key, dim, device):
        T, B, masked = key
        self.key, self.device = key, device
        self.x, self.targets = device.empty((T, B, dim), np.float32), device.empty((T, B), np.int32)
        self.mask = device.empty((T, B), np.bool_) if masked else None

    def load(self, batch):
        """Copy a batch; it may not be changed before the step has ended."""
        self.device.upload(self.x, np.ascontiguousarray(batch.x))
        self.device.upload(self.targets, np.ascontiguousarray(batch.targets))
        if self.mask is not None:
            self.device.upload(self.mask, np.ascontiguousarray(batch.mask))


def nothing_final(sums, lo, hi):
    """Nobody waits for the gradient."""


def require(device, nbytes, what):
    """Raise BadInput unless the device has so much memory left."""
    if nbytes > device.free():
        raise BadInput(f'{what} need {nbytes/1e9:,.2f} GB of GPU memory, {device.free()/1e9:,.2f} GB are free; choose '
                       'fewer model.cells or layers')


def fixed(n, half):
    """Bytes of n parameters, their gradient, and their copy in 16 bits."""
    return 4*(2*n + SLOTS) + 2*n*half


def largest(B, fits):
    """The largest batch below B that fits; 0: none does."""
    low, high = 0, B  # low fits, or is 0; high does not
    while high - low > 1:
        middle = (low + high)//2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
