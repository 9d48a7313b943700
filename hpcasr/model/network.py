"""An acoustic model: a stack of layers whose parameters are one flat vector."""

import math
from contextlib import contextmanager

import numpy as np

from hpcasr.finite import finite
from hpcasr.model.activation import GAIN, Activation
from hpcasr.model.affine import Affine
from hpcasr.model.blstm import Blstm
from hpcasr.model.dropout import Dropout
from hpcasr.model.layer import Context
from hpcasr.model.lstm import Lstm
from hpcasr.model.params import ERRORS, FRAMES, LOSS, NONFINITE, SAMPLES, SLOTS, count
from hpcasr.model.presets import resolve
from hpcasr.model.softmax import Softmax


def build(config, dim, num_targets, dtype, ops, buffer=None, gradient=None):
    """The Network of a config.Model: `dim` features in, `num_targets` posteriors out; parameters zero until `init`.

    buffer, gradient   memory for the n parameters and for their gradient with its slots (see Params), or functions
                       (n, dtype) that give it; None: any will do
    Raises BadInput for an unknown preset or an impossible shape.
    """
    model = resolve(config)
    layers = stack(model, dim, num_targets)
    named = shapes(layers)
    n = count(named)
    memory = buffer(n, dtype) if callable(buffer) else buffer
    gradient = gradient(n + SLOTS, dtype) if callable(gradient) else gradient
    return ops.network(Network(model, dim, layers, ops.params(named, dtype, memory, gradient), ops))


def parameters(config, dim, num_targets):
    """{name: shape} in the order of the flat vector, without allocating anything."""
    return shapes(stack(resolve(config), dim, num_targets))


def shapes(layers):
    """Last layer first: the order in which backward finishes them, so what is final is contiguous."""
    return {name: shape for layer in reversed(layers) for name, shape in layer.shapes.items()}


def stack(model, dim, num_targets):
    """The layers, input first, of a config.Model without sentinels."""
    layers = []
    for k in range(1, model.layers + 1):
        layers += HIDDEN[model.kind](model, k, dim)
        dim = layers[-1].dim_out
        if model.dropout:
            layers.append(Dropout(f'dropout{k}', dim, model.dropout))
    if model.bottleneck:
        layers.append(Affine('bottleneck', dim, model.bottleneck))
    return [*layers, Softmax('softmax', layers[-1].dim_out, num_targets)]


def dnn(model, k, dim):
    return [Affine(f'affine{k}', dim, model.cells, GAIN[model.activation]),
            Activation(f'{model.activation}{k}', model.cells, model.activation)]


HIDDEN = {
    'dnn': dnn,
    'lstm': lambda model, k, dim: [Lstm(f'lstm{k}', dim, model.cells)],
    'blstm': lambda model, k, dim: [Blstm(f'blstm{k}', dim, model.cells)],
}


def nothing(lo, hi):
    """The default of `ready`."""


@contextmanager
def step(ops):
    """What `ops` gives in here may be overwritten afterwards: nothing of it is kept.  Also where it is broken off."""
    ops.begin()
    try:
        yield
    finally:
        ops.end()


class Network:
    """Layers, input first, over one Params, computed by one Ops.  `model` is the config.Model without sentinels.

    Arithmetic that overflows does not warn: a model that diverged is counted in the slot NONFINITE.
    """

    def __init__(self, model, dim, layers, params, ops):
        self.model, self.dim, self.num_targets = model, dim, layers[-1].dim_out
        self.layers, self.params, self.ops = layers, params, ops

    def init(self, seed):
        """Draw all parameters: the same for a seed on every machine, and in float32 the rounded values of float64."""
        for k, layer in enumerate(layer for layer in self.layers if layer.shapes):
            layer.init(np.random.default_rng([seed, k]), self.params)

    @np.errstate(over='ignore', invalid='ignore')
    def loss_and_grad(self, batch, ready=nothing, seed=0):
        """Σ cross-entropy of a Batch over its frames, in nats; assign the gradient of that sum to `params.grad`.

        ready(lo, hi)   called with lo == hi after each layer's forward, then after each layer's backward with the next
                        part of the gradient that is final; together they cover [0, size).  The slots FRAMES, LOSS,
                        ERRORS and SAMPLES are assigned before the first such part, NONFINITE before the last; the
                        others are untouched
        seed            of dropout, with the batch's place in the order of the epoch
        """
        rng = np.random.default_rng([seed, batch.epoch, batch.position])
        with step(self.ops):
            logits, tape = self.forward(batch.x, Context(batch.mask, rng), ready)
            loss, errors, dlogits = self.layers[-1].cross_entropy(self.ops, logits, batch.targets, batch.mask)
            self.fill_slots(batch, loss, errors)
            self.backward(tape, dlogits, ready)
        return loss

    @np.errstate(over='ignore', invalid='ignore')
    def evaluate(self, batch):
        """(Σ cross-entropy in nats, frame errors, frames) of a Batch, without dropout; the gradient is untouched."""
        with step(self.ops):
            logits, _ = self.forward(batch.x, Context(batch.mask))
            loss, errors, _ = self.layers[-1].cross_entropy(self.ops, logits, batch.targets, batch.mask)
        return loss, errors, batch.frames

    def log_posteriors(self, x, mask=None):
        """ln p(s | x_t), [T, B, K], of features x [T, B, D]; meaningless where mask [T, B] is False."""
        logits, _ = self.forward(x, Context(mask))
        return self.layers[-1].log_posteriors(self.ops, logits)

    def forward(self, x, context, ready=nothing):
        """Logits [T, B, K], and the layers with their backward functions."""
        x, tape = self.ops.asarray(x, self.params.dtype), []
        for layer in self.layers:
            x, backward = layer.forward(self.ops, self.params, x, context)
            tape.append((layer, backward))
            ready(0, 0)
        return x, tape

    def backward(self, tape, dy, ready):
        """Empty the tape from its end: what a layer kept, if it is not the memory of all steps, is freed behind it."""
        hi = 0
        while tape:
            layer, backward = tape.pop()
            dy = backward(self.params.g, dy, need_dx=bool(tape))
            lo, hi = hi, hi + count(layer.shapes)
            self.look_at(lo, hi)
            ready(lo, hi)

    def look_at(self, lo, hi):
        """NONFINITE ← 1 if this part of the gradient is not finite: it just was written, so reading it costs little."""
        p = self.params
        p.slots[NONFINITE] = bool(p.slots[NONFINITE]) or not finite(p.grad[lo:hi])

    def fill_slots(self, batch, loss, errors):
        """Assign the slots; what overflows only in backward is seen there."""
        slots = self.params.slots
        slots[FRAMES], slots[SAMPLES] = batch.frames, batch.samples
        slots[LOSS], slots[ERRORS] = loss, errors
        slots[NONFINITE] = not math.isfinite(loss)

    def reserve(self, T, B):
        """Raise BadInput where it is known before that steps of B samples of T frames do not fit into memory."""

    def describe(self):
        """One line: `blstm 2x128, 40 -> 72 targets, 0.6 M parameters`."""
        m = self.model
        bottleneck = f', bottleneck {m.bottleneck}' if m.bottleneck else ''
        return (f'{m.kind} {m.layers}x{m.cells}{bottleneck}, {self.dim} -> {self.num_targets} targets, '
                f'{self.params.size/1e6:.1f} M parameters')

    def shape(self):
        """{'dim':, 'targets':, parameter: shape}, to compare ranks and checkpoints; equal after a trip through JSON."""
        return {'dim': self.dim, 'targets': self.num_targets} | {k: list(v) for k, v in self.params.shapes.items()}
