"""The time of a training step of every algorithm, on all ranks; blocks of steps of one and the other alternate."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.bench.paired import order, ratio
from hpcasr.bench.step import LR, Shape, refuse_too_large
from hpcasr.bench.table import table
from hpcasr.bench.variants import Variant, variants
from hpcasr.bench.wrong import Wrong
from hpcasr.comm import selftest
from hpcasr.errors import BadInput
from hpcasr.experiment import checksum
from hpcasr.model.network import build
from hpcasr.model.presets import resolve
from hpcasr.optim import get_optimizer
from hpcasr.optim.clip import norm2
from hpcasr.pace import pace

REFERENCE = Variant('sync-allreduce', (('exchange.reduce', 'mpi'),))
VARIED = {'exchange.topology': ('ring', 'random-ring'), 'exchange.servers': (1, 0)}
PERIOD = 'exchange.period'
VECTORS = 4  # as long as the model, of a learner and algorithm: parameters, gradient, momentum, one of the exchange
ROUNDING = 1e-3  # of the way from the start: what another order of sums may change in some steps in float32
NEAR = 0.5  # of the way: other algorithms go the same way, to first order in the rate
SINE = 0.7  # of 45 degrees: and asynchronous ones go in the same direction,
FAR = 10  # but not so often as far or as short: a server's momentum counts pushes, and a centre follows slowly
COLUMNS = {'label': ('algorithm', ''), 'ms': ('ms/step', '.1f'), 'samples_per_second': ('samples/s', ',.0f'),
           'ratio': ('ratio', '.3f'), 'low': ('low', '.3f'), 'high': ('high', '.3f'), 'compute': ('compute', '.1%'),
           'exchange': ('exchange', '.1%'), 'waiting': ('waiting', '.1%'), 'megabytes': ('MB/step', '.2f'),
           'messages': ('messages', '.1f')}


@dataclass
class Trial:
    """algos: names, () for all; `blocks` of so many `steps` of each; dim, targets: features and classes."""

    algos: tuple = ()
    blocks: int = 7
    steps: int = 8
    dim: int = 40
    targets: int = 72


def bench(comm, config, trial, progress=iter):
    """The figures, a dict, the same on every rank, after the answers were checked.

    Raises BadInput, and Wrong for an answer that is not right, on all ranks alike.
    """
    comm.compare(config.flat() | vars(trial))
    comm.together(comm.arrange, config.exchange.node_size)
    chosen, left_out = comm.together(choose, comm, config, trial)
    prepare(comm, chosen, config)
    shape = Shape(config.data.batch, config.data.chunk, trial.dim, trial.targets, config.train.dtype)
    comm.together(refuse_too_large, resolve(config.model), shape, VECTORS*len(chosen), crowd(comm.nodes),
                  'fewer --algo, ')
    runners = comm.together(lambda: [Runner(comm, variant, config, shape) for variant in chosen])
    offs = check(comm, runners, check_steps(chosen, config, trial))
    seconds = race(comm, runners, trial, progress)
    finish(comm, runners)
    rows = [row(runner.variant, off, seconds, k, shape.batch, trial.steps)
            for k, (runner, off) in enumerate(zip(runners, offs, strict=True))]
    return {'model': runners[0].network.describe(), 'library': comm.library, 'ranks': comm.size,
            'nodes': len(set(comm.nodes)), 'batch': shape.batch, 'chunk': shape.chunk, 'blocks': trial.blocks,
            'steps': trial.steps, 'period': config.exchange.period, 'pace': config.simulate.pace,
            'slow_rank': config.simulate.slow_rank, 'left_out': left_out, 'algorithms': rows}


def choose(comm, config, trial):
    """([Variant], the reference first; labels of those that cannot run here, unless they were named).

    Raises BadInput.
    """
    found = [v for v in variants(trial.algos, VARIED, config) if v.config(config) != REFERENCE.config(config)]
    able = [v for v in found if trial.algos or can(comm, v, config)]
    refuse_torn_periods(able, config.exchange.period, trial)
    return [REFERENCE, *able], [v.label for v in found if v not in able]


def can(comm, variant, config):
    """Whether the algorithm can run on these learners."""
    try:
        get_algorithm(variant.algo)(comm, variant.config(config))
    except BadInput:
        return False
    return True


def refuse_torn_periods(chosen, period, trial):
    """Raise BadInput unless a block has whole periods."""
    for variant in chosen:
        if periodic(variant) and trial.steps % period:
            raise BadInput(f'--steps {trial.steps}: {variant.algo} averages every {period} steps; give a multiple of '
                           f'{period}, or --set {PERIOD}={trial.steps}')


def prepare(comm, chosen, config):
    """Serve the others as training would; raise BadInput where windows are needed and do not work."""
    comm.serve(config.exchange.progress)
    if any(get_algorithm(variant.algo).asynchronous for variant in chosen) and not comm.simulated:
        selftest.run(comm)


def periodic(variant):
    return PERIOD in get_algorithm(variant.algo).about.options


def crowd(nodes):
    """Learners of the fullest node."""
    return max(Counter(nodes).values())


class Runner:
    """One algorithm with a network of its own, and a batch that differs from rank to rank."""

    def __init__(self, comm, variant, config, shape):
        config = variant.config(config)
        self.variant, self.batch = variant, shape.random(comm.rank)
        ops = get_backend(config.train.backend, config.train.precision, shape.dtype, comm.place)
        algorithm = get_algorithm(variant.algo)
        self.algorithm = algorithm(ops.reach(comm, algorithm.resident), config)
        self.network = build(config.model, shape.dim, shape.targets, shape.dtype, ops,
                             self.algorithm.allocate, self.algorithm.allocate_gradient)
        self.network.init(config.data.seed)
        p = self.network.params
        self.algorithm.bind(p, get_optimizer(config.optim, p.size, p.dtype, self.network.ops))
        self.paced = pace(self.network, comm, config)

    def run(self, network, steps):
        """So many steps, as train.train takes them."""
        p, algorithm = self.network.params, self.algorithm
        for _ in range(steps):
            algorithm.begin(p.data)
            network.loss_and_grad(self.batch, ready=algorithm.ready)
            algorithm.step(p.data, p.gradient, LR)
        network.ops.synchronize()

    def arrive(self):
        """Do what is left of the steps that were taken: nobody waits for more."""
        self.algorithm.arrive(self.network.params.data)

    def settle(self):
        """As at a meeting point of training; called by all learners together."""
        self.algorithm.settle(self.network.params.data, self.network.params.slots)

    def consensus(self):
        self.settle()
        return self.network.ops.host(self.algorithm.consensus(self.network.params.data))


def check_steps(chosen, config, trial):
    """So many steps that every algorithm has come to a consensus."""
    return config.exchange.period if any(map(periodic, chosen)) else min(trial.steps, 4)


def check(comm, runners, steps):
    """How far off the consensus w̄ of every algorithm is after some steps from w̄_r, that of the first: [float].

    ‖w̄ − w̄_r‖/‖w̄_r − w_0‖, of asynchronous ones what `stray` says of their ways.  They compute, whatever the pace.
    Raises Wrong.
    """
    begin, aims, offs = runners[0].network.ops.host(runners[0].network.params.data).copy(), None, []
    for runner in runners:
        runner.run(runner.network, steps)
        x = runner.consensus()
        aims = x.copy() if aims is None else aims
        way, aim, free = x - begin, aims - begin, runner.algorithm.asynchronous
        off = stray(way, aim) if free else norm2(way - aim)/norm2(aim)
        refuse(comm.allgather((checksum(x), off)), runner.variant, free)
        offs.append(off)
    return offs


def stray(way, aim):
    """The sine of the angle between two ways, 1 from 90° on, infinite where one is FAR times as long as the other.

    Learners that do not wait for each other take their steps in any order, and go neither as far as those that do nor
    to the same place; but in the same direction.  NaN where there is no way.
    """
    went, goal = norm2(way), norm2(aim)
    cosine = np.divide(float(np.dot(way, aim)), went*goal) if went else np.nan
    if went > FAR*goal or goal > FAR*went > 0:
        return np.inf
    return float(np.sqrt(1 - min(cosine, 1.0)**2)) if not cosine <= 0 else 1.0


def refuse(found, variant, free):
    """Raise Wrong unless all ranks have the same consensus, and it is where it should be; found: [(checksum, off)].

    free   the algorithm is asynchronous
    """
    sums, off = {checksum for checksum, _ in found}, found[0][1]
    near = ROUNDING if variant.algo == REFERENCE.algo else SINE if free else NEAR
    if len(sums) > 1:
        raise Wrong(f'{variant.label}: the ranks have {len(sums)} different consensus models; not timed')
    if not off <= near:  # NaN is not
        raise Wrong(f'{variant.label}: the consensus is off by {off:.3g} of the way that {REFERENCE.label} went, more '
                    f'than {near:g}; not timed')


def race(comm, runners, trial, progress):
    """[ranks, blocks, algorithms, 5] of every block: seconds, those in exchanges, of them waiting; bytes, messages."""
    mine = np.empty((trial.blocks, len(runners), 5))
    for block in progress(range(trial.blocks)):
        for k in order(len(runners), block):
            comm.barrier()
            before = read(comm)
            runners[k].run(runners[k].paced, trial.steps)
            runners[k].arrive()
            mine[block, k] = read(comm) - before
            if runners[k].algorithm.asynchronous:
                runners[k].settle()
    return np.array(comm.allgather(mine))


def read(comm):
    return np.array([comm.now(), comm.seconds, comm.waited, comm.bytes_sent, comm.messages_sent])


def finish(comm, runners):
    """Finish what is under way.  Raises Wrong where parameters are not finite."""
    for runner in runners:
        x = runner.network.params.data
        runner.settle()
        runner.algorithm.close(x)
        if not all(comm.allgather(bool(np.isfinite(x).all()))):
            raise Wrong(f'{runner.variant.label}: parameters are not finite after the last step')


def row(variant, off, figures, k, batch, steps):
    """The figures of algorithm k; figures as `race` gives them.  Bytes and messages are those of the busiest rank."""
    slowest = figures[..., 0].max(0)  # [blocks, algorithms]
    seconds, exchange, waiting, sent, messages = figures[:, :, k].sum(1).T  # [ranks] each
    ms = 1e3*float(np.median(slowest[:, k]))/steps
    shares = {'exchange': (exchange - waiting).sum()/seconds.sum(), 'waiting': waiting.sum()/seconds.sum()}
    all_steps = len(slowest)*steps
    return {'label': variant.label, 'algo': variant.algo, 'options': dict(variant.values), 'ms': ms,
            'samples_per_second': 1e3*len(figures)*batch/ms, **ratio(slowest[:, 0], slowest[:, k]),
            'compute': float(1 - sum(shares.values())), **{name: float(s) for name, s in shares.items()},
            'bytes': float(sent.max()/all_steps), 'messages': float(messages.max()/all_steps), 'off': off}


def lines(found):
    """The figures as text."""
    paced = f'; a step sleeps {found["pace"]:g} ms in place of computing' if found['pace'] else ''
    slow = f'; slow ranks {found["slow_rank"]}' if found['slow_rank'] else ''
    yield (f'{found["model"]}; {found["ranks"]} rank{"s"[:found["ranks"] > 1]} x {found["batch"]} samples of '
           f'{found["chunk"]} frames, {found["nodes"]} node{"s"[:found["nodes"] > 1]}, {found["library"]}{paced}{slow}')
    yield (f'{found["blocks"]} alternating blocks of {found["steps"]} steps, averages every {found["period"]} where '
           f'there is a period; ratio: samples/s over those of {REFERENCE.label}, median of the blocks and its 95 % '
           'interval')
    if found['left_out']:
        yield f'not possible on these nodes: {", ".join(found["left_out"])}'
    yield table([row | {'megabytes': row['bytes']/1e6} for row in found['algorithms']], COLUMNS)
