"""The time of one training step without data and without peers: loss, gradient and update."""

import os
from dataclasses import dataclass, replace
from math import prod
from statistics import median
from time import perf_counter

import numpy as np

from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm
from hpcasr.config import Config
from hpcasr.data.batch import Batch
from hpcasr.errors import BadInput, CheckFailed
from hpcasr.model.network import build, parameters
from hpcasr.model.presets import resolve
from hpcasr.optim import get_optimizer

LR = 0.01
SQUARE = 1024  # rows of the matrices whose product is the ceiling: 12 MB in float32, beyond the L2 cache
CLOSE = 1e-6  # relative error of the gradient in float64; a wrong one is off by 1e-3 or more


@dataclass
class Shape:
    """batch [samples] of chunk [frames] with dim features and `targets` classes, in `dtype`."""

    batch: int = 32
    chunk: int = 21
    dim: int = 40
    targets: int = 72
    dtype: str = 'float32'

    @property
    def frames(self):
        return self.batch*self.chunk

    def random(self, seed=0):
        """A Batch of full chunks."""
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((self.chunk, self.batch, self.dim)).astype(self.dtype)
        y = rng.integers(0, self.targets, x.shape[:2], np.int32)
        return Batch(x, y, np.full(self.batch, self.chunk))


def bench(presets, shape, repeats, backend='auto', progress=list):
    """Rows, one dict per preset, after its gradient was checked.  Raises CheckFailed, BadInput."""
    models = [resolve(replace(Config().model, preset=preset)) for preset in presets]
    for model in models:
        refuse_too_large(model, shape)
    ops = get_backend(backend)
    for model in models:
        check(model, ops)
    ceiling = product_speed(shape.dtype, repeats)
    return [row(model, shape, ops, repeats, ceiling) for model in progress(models)]


def refuse_too_large(model, shape, vectors=3, processes=1, advice=''):
    """BadInput where vectors of the model's size, input and softmax alone are more than this machine's memory.

    vectors     of a process: parameters, gradient, momentum ...
    processes   on this machine
    advice      what else helps than what is said anyway
    """
    weights = sum(prod(s) for s in parameters(model, shape.dim, shape.targets).values())
    entries = vectors*weights + shape.frames*(shape.dim + 2*shape.targets)
    needed = processes*np.dtype(shape.dtype).itemsize*entries
    there = os.sysconf('SC_PHYS_PAGES')*os.sysconf('SC_PAGE_SIZE')
    if needed > there:
        raise BadInput(f'{model.preset}: needs more than {needed/1e9:.0f} GB, this machine has {there/1e9:.0f} GB; '
                       f'give {advice}a smaller model, --batch or --chunk, or fewer features or targets')


def check(model, ops, step=1e-5):
    """g · d = (f(x + step d) − f(x − step d))/2 step for a random d, in float64, on a small model of the same kind.

    Raises CheckFailed.
    """
    small = replace(model, layers=min(model.layers, 2), cells=6, bottleneck=min(model.bottleneck, 5))
    shape = Shape(batch=4, chunk=5, dim=5, targets=7, dtype='float64')
    network, batch = build(small, shape.dim, shape.targets, shape.dtype, ops), ragged(shape.random())
    network.init(0)
    x, d = network.params.data, np.random.default_rng(1).standard_normal(network.params.size)
    network.loss_and_grad(batch)
    analytic = network.params.grad @ d
    x += step*d
    above = network.evaluate(batch)[0]
    x -= 2*step*d
    numeric = (above - network.evaluate(batch)[0])/(2*step)
    if not abs(analytic - numeric) <= CLOSE*abs(numeric):
        raise CheckFailed(f'{model.preset} on backend {ops.name}: the gradient along a random direction is '
                          f'{analytic:.9g}, but the central difference {numeric:.9g}; not timed')


def ragged(batch):
    """The same with chunks of 1, 2, ... frames: the mask is checked too."""
    lengths = np.minimum(np.arange(batch.samples) + 1, len(batch.x))
    past = np.arange(len(batch.x))[:, None] >= lengths
    batch.x[past], batch.targets[past] = 0, 0
    return Batch(batch.x, batch.targets, lengths)


def product_speed(dtype, repeats):
    """GFLOP/s of one large matrix product by this process's BLAS: the ceiling."""
    a, b = np.random.default_rng(0).standard_normal((2, SQUARE, SQUARE)).astype(dtype)
    out = np.empty_like(a)
    seconds = times(lambda: np.matmul(a, b, out=out), repeats)
    return 2*SQUARE**3/median(seconds)/1e9


def row(model, shape, ops, repeats, ceiling):
    network = build(model, shape.dim, shape.targets, shape.dtype, ops)
    network.init(0)
    seconds = times(stepper(network, shape), repeats)
    if not np.isfinite(network.params.data).all():
        raise CheckFailed(f'{model.preset}: parameters are not finite after {repeats} steps')
    typical, work = median(seconds), flops(network, shape.frames)
    return {'model': model.preset, 'parameters': network.params.size, 'ms': 1e3*typical, 'min_ms': 1e3*min(seconds),
            'frames_per_second': shape.frames/typical, 'gflop': work/1e9, 'gflops': work/typical/1e9,
            'gemm_gflops': ceiling, 'share': work/typical/1e9/ceiling}


def stepper(network, shape):
    """One step of training by a learner alone, as a function."""
    p, batch = network.params, shape.random()
    config = Config()
    algorithm = get_algorithm(config.train.algo)(Comm(), config)
    algorithm.bind(p, get_optimizer(config.optim, p.size, p.dtype, network.ops))

    def step():
        algorithm.begin(p.data)
        network.loss_and_grad(batch, ready=algorithm.ready)
        algorithm.step(p.data, p.gradient, LR)
        network.ops.synchronize()
    return step


def times(work, repeats, warmup=2):
    """Seconds of each of `repeats` calls, after some that do not count."""
    seconds = []
    for _ in range(warmup + repeats):
        tic = perf_counter()
        work()
        seconds.append(perf_counter() - tic)
    return seconds[warmup:]


def flops(network, frames):
    """Of the matrix products of one step: 2·frames·weights forward, as much for dW, and as much for dx.

    dx of the first layer is not computed; what its recurrent weights Wh pass on is.
    """
    weights = sum(size(shape) for shape in network.params.shapes.values())
    first = sum(size(shape) for name, shape in network.layers[0].shapes.items() if not name.endswith('.Wh'))
    return 2*frames*(3*weights - first)


def size(shape):
    """Entries of a matrix; 0 for a bias."""
    return shape[0]*shape[1] if len(shape) == 2 else 0
