"""A learner on the GPU beside the same one in float64 on the processor, from the same weights and on the same data."""

import math

import numpy as np

from hpcasr.backend.base import Ops
from hpcasr.bench.algorithms import Runner
from hpcasr.bench.gpu.data import away, spoil
from hpcasr.bench.step import LR, Shape
from hpcasr.bench.variants import Variant
from hpcasr.comm.base import Comm
from hpcasr.config import resolve
from hpcasr.data.batch import Batch
from hpcasr.model.network import build
from hpcasr.model.params import FRAMES, LOSS

OURS = Variant('sync-allreduce')
MOMENTUM = 0.9


def config(case, precision):
    """The configuration of training a bench.cpu.Case on a GPU."""
    values = {f'model.{key}': value for key, value in case.model}
    return resolve(options=values | {'train.backend': 'cuda', 'train.precision': precision, 'data.batch': case.batch,
                                     'data.chunk': case.chunk, 'optim.momentum': MOMENTUM})


def learner(case, precision):
    """A Runner of the plainest algorithm, alone: what training does in a step."""
    return Runner(Comm(), OURS, config(case, precision), case.shape)


def batches(case, rng, count, ragged=False):
    """`count` fresh Batches of full chunks; ragged: of 1, 2, ... frames, so that there is a mask."""
    T, B = case.chunk, case.batch
    lengths = np.minimum(np.arange(B) + 1, T) if ragged else np.full(B, T)
    past = np.arange(T)[:, None] >= lengths
    for _ in range(count):
        x = rng.standard_normal((T, B, case.dim)).astype(np.float32)
        y = rng.integers(0, case.targets, (T, B), np.int32)
        x[past], y[past] = 0, 0
        yield Batch(x, y, lengths)


class Exact:
    """SGD with momentum in float64, by the plain NumPy of the reference: v ← μ v + g;  x ← x − lr v, g the mean."""

    def __init__(self, case, params):
        """params [n]: where it starts."""
        shape = Shape(case.batch, case.chunk, case.dim, case.targets)
        self.network = build(config(case, 'fp32').model, shape.dim, shape.targets, 'float64', Ops())
        self.network.params.data[:] = params
        self.v = np.zeros(len(params))

    def step(self, batch):
        """(mean loss, mean gradient [n] of the parameters before this step, those behind it [n]), copies."""
        p = self.network.params
        loss = self.network.loss_and_grad(batch)/batch.frames
        g = p.grad/batch.frames
        self.v = MOMENTUM*self.v + g
        p.data -= LR*self.v
        return loss, g, p.data.copy()


def drawn(ours, case, rng):
    """The parameters of a learner, which were drawn, and biases that were zero are not; they are loaded."""
    p = ours.network.params
    x = ours.network.ops.host(p.data).copy()
    x += 0.05*rng.standard_normal(len(x)).astype(np.float32)*(x == 0)
    p.load({'params': x})
    return x


def poison(ours):
    """Whatever a step writes is NaN before it."""
    for block in ours.network.ops.arena.blocks:
        spoil(block)
    spoil(ours.network.params.grad)


def step(ours, batch):
    """(mean loss, mean gradient [n]) of a step of training, into memory that was poisoned."""
    poison(ours)
    ours.batch = batch
    ours.run(ours.network, 1)
    p = ours.network.params
    return p.slots[LOSS]/(p.slots[FRAMES] or math.nan), ours.network.ops.host(p.grad)


def worst(ours, found, exact):
    """(how far off the gradient of one tensor is at most, its name)."""
    return max((away(found[lo:hi], exact[lo:hi]), name) for name, (lo, hi) in ours.network.params.spans.items())
