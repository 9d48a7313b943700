"""What the algorithms are tested on, and how one learner lives through it.

A problem has learner(rank, size, dtype, memory, gradient_memory) -> an object with `params` and compute(t, ready),
which assigns gradient and slots of step t as Network.loss_and_grad does.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from hpcasr.algorithms import SYNCHRONOUS, get_algorithm
from hpcasr.backend import get_backend
from hpcasr.config import Config
from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks
from hpcasr.data.work import StaticWork
from hpcasr.model.network import build, nothing
from hpcasr.model.params import FRAMES, LOSS, NONFINITE, SAMPLES, SLOTS, STOP, Params
from hpcasr.optim import get_optimizer
from tests.small import corpus

PLAIN = {'optim.momentum': 0.0, 'exchange.period': 3, 'train.bucket': 10, 'exchange.meet': 2}
TOPOLOGIES = 'ring', 'random-ring', 'pairs', 'exponential', 'torus', 'complete'
MORE = {  # what else than its defaults an algorithm is tested with
    'sync-allreduce': [{'exchange.reduce': 'mpi'}, {'train.bucket': 1000}],
    'sync-ps': [{'exchange.servers': 0}, {'exchange.servers': 0, 'train.bucket': 1000}],
    'local-sgd': [{'exchange.period': 1}],
    'bmuf': [{'exchange.block_update': 'classic'}, {'exchange.block_momentum': 0.4, 'exchange.block_rate': 0.8}],
    'sync-decentralized': [{'exchange.topology': t} for t in TOPOLOGIES[1:]],
    'push-sum': [{'exchange.push_delay': d} for d in (1, 3)],
}
FORMS = [('easgd', {'exchange.elastic_update': 'sync'}),  # synchronous forms of others
         ('easgd', {'exchange.elastic_update': 'sync', 'exchange.elastic': 0.15, 'exchange.period': 2})]
VARIANTS = [(name, options) for name in SYNCHRONOUS for options in [{}, *MORE.get(name, [])]] + FORMS
IDS = [' '.join([name, *(f'{k.split(".")[1]}={v}' for k, v in options.items())]) for name, options in VARIANTS]


@dataclass
class Quadratic:
    """Learner l pulls at step t with n_lt frames, sometimes none, towards c_lt: g = n_lt A (w − c_lt), A diagonal.

    empty    share of the steps in which a learner has no frames
    even     every learner has the same number of frames
    bad      {(rank, step)} where the gradient is not finite
    apart    learners start from different models
    pull     'drawn', 'constant' (g = n·1, wherever w is) or 'none'
    stride   entries of the gradient that become final at a time
    columns  of the matrix that the first n − 7 entries are
    """

    n: int = 37
    seed: int = 0
    empty: float = 0.2
    even: bool = False
    bad: set = field(default_factory=set)
    apart: bool = False
    pull: str = 'drawn'
    stride: int = 7
    columns: int = 1

    @property
    def shapes(self):
        return {'a': ((self.n - 7)//self.columns, self.columns), 'b': (7,)}

    def learner(self, *where):
        return Puller(self, *where)


class Puller:
    """One learner of a Quadratic."""

    def __init__(self, problem, rank, size, dtype, memory=nothing, gradient_memory=nothing):
        self.problem, self.rank = problem, rank
        n = problem.n
        self.params = Params(problem.shapes, dtype, memory(n, dtype), gradient_memory(n + SLOTS, dtype))
        self.params.data[:] = np.random.default_rng([problem.seed, problem.apart*rank]).normal(size=n)
        self.A = np.random.default_rng(problem.seed).uniform(0.3, 1.5, n).astype(dtype)

    def compute(self, t, ready=nothing):
        p, rng = self.params, np.random.default_rng([self.problem.seed, self.rank, t])
        frames = 0 if rng.random() < self.problem.empty else int(rng.integers(1, 10))
        frames = 5 if self.problem.even else frames
        p.grad[:] = frames*self.pull(rng.normal(size=p.size).astype(p.dtype))
        bad = (self.rank, t) in self.problem.bad
        p.grad[:] *= np.nan if bad else 1
        p.slots[:] = 0
        p.slots[[FRAMES, LOSS, SAMPLES, NONFINITE]] = frames, p.grad @ p.grad, self.rank + 1, bad
        ready(0, 0)
        for lo in range(0, p.size, self.problem.stride):
            ready(lo, min(lo + self.problem.stride, p.size))

    def pull(self, c):
        x = self.params.data
        return {'drawn': self.A*(x - c), 'constant': np.ones_like(x), 'none': np.zeros_like(x)}[self.problem.pull]


@dataclass
class Acoustic:
    """A small blstm on utterances of uneven lengths; `m` chunks for each learner in a step."""

    m: int = 2
    utterances: int = 20
    longest: int = 40

    def learner(self, *where):
        return Hearer(self, *where)


class Hearer:
    """One learner of an Acoustic."""

    def __init__(self, problem, rank, size, dtype, memory=nothing, gradient_memory=nothing):
        self.data = corpus(problem.utterances, longest=problem.longest)
        model = Config().with_values({'model.preset': 'tiny', 'model.cells': 4}, 'test').model
        self.network = build(model, self.data.dim, self.data.num_targets, dtype, get_backend('reference'), memory,
                             gradient_memory)
        self.network.init(0)
        self.params = self.network.params
        self.work = StaticWork(len(self.chunks), problem.m, rank, size)
        self.loader = Loader(self.data, self.chunks, self.work, 0, dtype=dtype)

    @cached_property
    def chunks(self):
        return Chunks(self.data, 7)

    def compute(self, t, ready=nothing):
        steps = -(-self.work.total//(self.work.batch*self.work.size))  # of an epoch
        self.work.epoch = t//steps
        claim = self.work.claim(t % steps*self.work.batch*self.work.size)
        self.params.slots[:] = 0
        self.network.loss_and_grad(self.loader.read(*self.loader.announce(claim)), ready)


@dataclass
class Life:
    """What one learner has lived through: models [steps, n] after each step, slots [steps, SLOTS], the consensus."""

    models: np.ndarray
    slots: np.ndarray
    consensus: np.ndarray
    distance: float | None

    def bits(self):
        """Models and consensus."""
        return self.models.tobytes() + self.consensus.tobytes()


@dataclass
class Player:
    """One learner of an algorithm.

    resume   steps before which it is saved, thrown away, and made anew from what was saved
    pause    pause(rank, t) -> seconds that compute takes
    targets  the digraph of push-sum; None: its own
    stop     steps in which this learner wants to stop
    journal  of an asynchronous one; None: its own
    """

    comm: object
    name: str
    problem: object
    dtype: str = 'float64'
    options: dict = field(default_factory=dict)
    resume: tuple = ()
    pause: object = None
    targets: object = None
    stop: tuple = ()
    lr: float = 0.1
    journal: object = None

    def __post_init__(self):
        comm, dtype = self.comm, self.dtype
        config = Config().with_values({'train.dtype': dtype, **PLAIN, **self.options}, 'test')
        self.algorithm = get_algorithm(self.name)(comm, config)
        self.algorithm.journal = self.journal or getattr(self.algorithm, 'journal', None)
        self.algorithm.targets = self.targets or getattr(self.algorithm, 'targets', None)
        self.learner = self.problem.learner(comm.rank, comm.size, dtype, self.algorithm.allocate,
                                            self.algorithm.allocate_gradient)
        self.params = self.learner.params
        self.algorithm.bind(self.params, get_optimizer(config.optim, self.params.size, dtype, get_backend('reference')))
        comm.barrier()  # nobody reads the window of a learner who has not filled it yet

    def live(self, steps):
        """`steps` steps, then the end."""
        player, models, slots = self, [], []
        for t in range(steps):
            player = player.again() if t in self.resume else player
            player.step(t)
            models.append(player.params.data.copy())
            slots.append(player.params.slots.copy())
        return player.end(np.array(models), np.array(slots))

    def step(self, t):
        p, algorithm = self.params, self.algorithm
        algorithm.samples = t  # as if a step had one
        algorithm.begin(p.data)
        if self.pause:
            self.comm.sleep(self.pause(self.comm.rank, t))
        self.learner.compute(t, algorithm.ready)
        p.slots[STOP] = t in self.stop
        algorithm.step(p.data, p.gradient, self.lr)

    def end(self, models, slots):
        p, algorithm = self.params, self.algorithm
        algorithm.settle(p.data, p.slots)
        slots = np.append(slots, [p.slots], 0)
        before = p.data.copy()
        consensus = algorithm.consensus(p.data).copy()
        algorithm.close(p.data)
        assert np.array_equal(algorithm.consensus(p.data), consensus)
        assert np.array_equal(p.data, before)
        return Life(models, slots, consensus, algorithm.distance)

    def again(self, **how):
        """A new Player that has only what this one has saved; this one goes on as if nothing had happened."""
        p = self.params
        self.algorithm.settle(p.data, p.slots)
        self.algorithm.consensus(p.data)
        state, x = self.algorithm.state() | self.algorithm.apart(), p.data.copy()
        state = {k: np.array(v) for k, v in state.items()}
        self.algorithm.close(p.data)
        other = replace(self, **how)
        other.params.data[:] = x
        other.algorithm.load(state)
        self.comm.barrier()
        return other


def live(comm, name, problem, steps, **how):
    """The Life of one learner."""
    return Player(comm, name, problem, **how).live(steps)
