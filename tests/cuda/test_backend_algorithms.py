"""The algorithms that work with vectors on a device, against themselves on the host: the same bits."""

from functools import partial

import numpy as np
import pytest

from hpcasr.algorithms import get_algorithm
from hpcasr.backend.base import Ops
from hpcasr.backend.cuda import CudaOps
from hpcasr.backend.cuda_params import DeviceParams
from hpcasr.backend.cuda_simulated import Simulated, plain
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.model.params import SLOTS
from hpcasr.optim import get_optimizer
from tests.algorithms.problems import PLAIN, VARIANTS, Quadratic

RESIDENT = [(name, options) for name, options in VARIANTS if get_algorithm(name).resident]
IDS = [' '.join([name, *(f'{k.split(".")[1]}={v}' for k, v in options.items())]) for name, options in RESIDENT]
STEPS, LR = 5, 0.1


class Late(Simulated):
    """Copies on the stream of copies are done when somebody waits for them, or at some look at their mark."""

    def __init__(self, seed):
        super().__init__('fp32')
        self.side, self.rng, self.copies = object(), np.random.default_rng(seed), []

    def download(self, out, x, stream=None):
        work = partial(super().download, out, x)
        self.copies.append(work) if stream is self.side else work()

    def mark(self, stream=None):
        return LateMark(self, self.copies) if stream is self.side else self


class LateMark:
    def __init__(self, device, copies):
        self.device, self.copies = device, list(copies)

    @property
    def done(self):
        if self.device.rng.random() < 0.3:
            self.synchronize()
        return not self.copies

    def synchronize(self):
        for work in self.copies:
            if work in self.device.copies:
                self.device.copies.remove(work)
                work()
        self.copies = []


class HostArithmetic(CudaOps):
    """Vectors on a device, updated by the arithmetic of the host: the kernels have tests of their own."""

    def sgd(self, x, g, v, lr, momentum, scratch):
        self.fallback.sgd(*map(plain, (x, g, v)), lr, momentum, scratch)

    def adam(self, x, g, m, v, *options):
        self.fallback.adam(*map(plain, (x, g, m, v)), *options)

    def mix(self, out, vectors, weights, scratch):
        self.fallback.mix(plain(out), plain(list(vectors)), weights, scratch)


class There:
    """A learner of a Quadratic whose parameters are on a device."""

    def __init__(self, problem, comm, ops, algorithm):
        self.here = problem.learner(comm.rank, comm.size, 'float32')
        self.params = DeviceParams(self.here.params.shapes, ops.device, algorithm.allocate(problem.n, np.float32),
                                   algorithm.allocate_gradient(problem.n + SLOTS, np.float32))
        self.params.load({'params': self.here.params.data})
        self.device = ops.device

    def compute(self, t, ready):
        self.here.params.data[:] = self.device.host(self.params.data)
        self.here.compute(t, lambda lo, hi: None)
        self.device.upload(self.params.grad, self.here.params.grad)
        self.params.slots[:] = self.here.params.slots
        ready(0, 0)
        for lo in range(0, self.params.size, 7):
            ready(lo, min(lo + 7, self.params.size))


def live(comm, name, options, problem, device):
    """[steps + 1 vectors] of one learner: its models, then the consensus; slots; the state."""
    config = Config().with_values({**PLAIN, **options}, 'test')
    ops, cls = HostArithmetic(device, 'fp32', Ops()) if device else Ops(), get_algorithm(name)
    comm.arrange(config.exchange.node_size)
    algorithm = cls(ops.reach(comm, True), config)
    learner = There(problem, comm, ops, algorithm) if device else problem.learner(
        comm.rank, comm.size, 'float32', algorithm.allocate, algorithm.allocate_gradient)
    p, seen, slots = learner.params, [], []
    algorithm.bind(p, get_optimizer(config.optim, p.size, p.dtype, ops))
    for t in range(STEPS):
        algorithm.begin(p.data)
        learner.compute(t, algorithm.ready)
        algorithm.step(p.data, p.gradient, LR)
        seen.append(ops.host(p.data).copy())
        slots.append(p.slots.copy())
    algorithm.settle(p.data, p.slots)
    seen.append(ops.host(algorithm.consensus(p.data)).copy())
    state = {k: ops.host(v).copy() for k, v in algorithm.state().items()}
    algorithm.load(ops.vectors(state))
    algorithm.close(p.data)
    return seen, slots, algorithm.distance, state


@pytest.mark.parametrize('name, options', RESIDENT, ids=IDS)
@pytest.mark.parametrize('L', [1, 2, 4])
def test_algorithms_go_the_same_way_on_a_device(name, options, L):
    options = options | {'optim.momentum': 0.5, 'optim.clip': 3.0 if L == 2 else 0.0,
                         'optim.optimizer': 'adam' if L == 4 else 'sgd'}
    problem = Quadratic(bad={(0, 2)})
    runs = [World(L, schedule='random', seed=7, strict=True).run(
        lambda comm, late=late: live(comm, name, options, problem, late and Late(comm.rank))) for late in (False, True)]
    for here, there in zip(*runs, strict=True):
        assert np.array_equal(here[0], there[0], equal_nan=True) and np.array_equal(here[1], there[1], equal_nan=True)
        assert here[2] == there[2] and here[3].keys() == there[3].keys()
        assert all(np.array_equal(here[3][k], there[3][k]) for k in here[3])
