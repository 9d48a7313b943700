"""How fast all ranks are together when one of them is slow: every algorithm beside the same ranks without exchange."""

import math
from dataclasses import dataclass, replace

import numpy as np

from hpcasr.algorithms import ALGORITHMS
from hpcasr.bench.algorithms import COLUMNS as OF_STEPS
from hpcasr.bench.algorithms import ROUNDING, VECTORS, Runner, can, crowd, prepare
from hpcasr.bench.paired import order, ratio
from hpcasr.bench.step import Shape, refuse_too_large
from hpcasr.bench.table import table
from hpcasr.bench.variants import Variant, several_nodes, variants
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.data.work import CounterWork, get_work
from hpcasr.errors import BadInput
from hpcasr.experiment import checksum
from hpcasr.journal import Journal
from hpcasr.model.presets import resolve
from hpcasr.optim.clip import norm2
from hpcasr.pace import Asleep, Slowness

USUAL = ('sync-allreduce', 'delay-by-one', 'sync-decentralized', 'async-ps', 'async-decentralized', 'easgd',
         'hierarchical', 'hogwild')
ALONE = Variant('sync-allreduce')  # of a learner without peers: plain SGD
FEWEST = 3  # steps of a rank in a run of synchronous algorithms, however slow it is
GOAL = 0.9  # of the samples/s without exchange
COLUMNS = {'label': ('algorithm', ''), 'slow': ('slow', ''), 'samples_per_second': ('samples/s', ',.1f'),
           'ratio': ('of off', '.1%'), 'low': ('low', '.1%'), 'high': ('high', '.1%'),
           **{key: OF_STEPS[key] for key in ('exchange', 'waiting')}, 'stale': ('staleness', ''),
           'stale_slow': ('of the slow', '')}


@dataclass
class Trial:
    """algos: names, () for the usual ones; slow: factors; `blocks` runs of each, of so many `steps` of a usual rank.

    dim, targets   features and classes
    """

    algos: tuple = ()
    slow: tuple = (1.0, 2.0, 4.0, 10.0)
    blocks: int = 7
    steps: int = 20
    dim: int = 40
    targets: int = 72


def bench(comm, config, trial, progress=iter):
    """The figures, a dict, the same on every rank.

    Ranks sleep in place of computing, the last one `slow` times as long.  Asynchronous algorithms, and ranks without
    exchange, take their work from a shared counter; synchronous ones have fixed shares.  Raises BadInput, and Wrong
    where work or the model has got lost, on all ranks alike.
    """
    comm.compare(config.flat() | vars(trial))
    comm.together(refuse, config)
    comm.together(comm.arrange, config.exchange.node_size)
    config = config.with_values({'checkpoint.every': 0}, 'bench')
    chosen, left_out = comm.together(choose, comm, config, trial)
    prepare(comm, chosen, config)
    shape = Shape(config.data.batch, config.data.chunk, trial.dim, trial.targets, config.train.dtype)
    comm.together(refuse_too_large, resolve(config.model), shape, VECTORS*(len(chosen) + 1), crowd(comm.nodes),
                  'fewer --algo, ')
    racers = comm.together(lambda: [alone(comm, config, shape), *(together(comm, v, config, shape) for v in chosen)])
    figures = race(comm, racers, trial, progress)
    finish(comm, racers)
    return {'model': racers[0].runner.network.describe(), 'library': comm.library, 'ranks': comm.size,
            'batch': shape.batch, 'blocks': trial.blocks, 'steps': trial.steps, 'pace': config.simulate.pace,
            'progress': config.exchange.progress, 'left_out': left_out,
            'off': [off(figures, k, slow, comm.size) for k, slow in enumerate(trial.slow)],
            'algorithms': [row(racer, figures, r, k, slow) for r, racer in enumerate(racers) if r
                           for k, slow in enumerate(trial.slow)]}


def refuse(config):
    """Raise BadInput for what cannot be meant."""
    if not config.simulate.pace:
        raise BadInput('--pace 0: the ranks sleep in place of computing; give milliseconds of a step')
    if config.simulate.slow_rank:
        raise BadInput('simulate.slow_rank: the last rank is the slow one here; give --slow')


def choose(comm, config, trial):
    """([Variant], labels of those that cannot run here unless they were named).  Raises BadInput."""
    names = trial.algos or [name for name in USUAL if name in ALGORITHMS]
    found = [v for name in names for v in variants((name,), varied(name, comm.size), config)]
    able = [v for v in found if trial.algos or can(comm, v, config)]
    return able, [v.label for v in found if v not in able]


def varied(name, ranks):
    """What an algorithm is run with: synchronous ones wait on every topology."""
    free = several_nodes(name, ranks)
    return free and {'exchange.topology': ('ring', 'random-ring'), **free}


class Racer:
    """A Runner with its work, run after run.

    free   whether no learner waits for another
    stale  {slow: [(mean staleness, that of the slow learner)] of its runs}
    """

    def __init__(self, comm, runner, work, config):
        self.comm, self.runner, self.work, self.config = comm, runner, work, config
        self.free, self.stale = runner.algorithm.asynchronous or runner.algorithm.comm.size == 1, {}
        self.begin = runner.network.ops.host(runner.network.params.data).copy()

    def samples(self, slow, steps):
        """Of a run of all ranks: where the slow one is waited for, so many less that it takes as long."""
        rounds = steps if isinstance(self.work, CounterWork) else max(math.ceil(steps/slow), FEWEST)
        return rounds*self.comm.size*self.config.data.batch

    def run(self, slow, steps):
        """[samples, seconds, of these in exchanges, of those waiting] of this rank."""
        comm, work, done = self.comm, self.work, 0
        self.arrange()
        work.total, network = self.samples(slow, steps), self.asleep(slow)
        comm.barrier()
        before = read(comm)
        for claim in work.rest():
            self.runner.run(network, 1)
            work.finish(claim)
            done += claim.hi - claim.lo
        self.runner.arrive()
        spent = read(comm) - before
        self.meet(slow)
        if sum(comm.allgather(done)) != work.total:
            raise Wrong(f'{self.runner.variant.label}: {work.total} samples were handed out, not all of them were done')
        return [done, *spent]

    def arrange(self):
        self.comm.arrange(self.config.exchange.node_size)

    def asleep(self, slow):
        """The network, whose gradient takes the time it should, and is zero."""
        simulate, comm = self.config.simulate, self.comm
        slowness = Slowness(replace(simulate, slow_rank=f'{comm.size - 1}={slow}'), comm.rank, comm.size)
        return Asleep(self.runner.network, comm, slowness, simulate.pace/1000/self.config.data.batch)

    def meet(self, slow):
        """As at the end of an epoch of training."""
        self.runner.settle()
        self.work.meet()
        self.work.next_epoch()
        algorithm = self.runner.algorithm
        told = algorithm.told()
        if 'staleness' in told:  # of a crew, the first one tells
            of_slow = told['staleness'].get(str(self.comm.size - algorithm.crew.size), {'mean': math.nan})['mean']
            self.stale.setdefault(slow, []).append((told['staleness_mean'], of_slow))


def together(comm, variant, config, shape):
    """The Racer of an algorithm."""
    own = variant.config(config)
    comm.arrange(own.exchange.node_size)
    runner = Runner(comm, variant, config, shape)
    return Racer(comm, runner, get_work(runner.algorithm, comm.size*shape.batch, own, comm), own)


def alone(comm, config, shape):
    """The Racer of ranks that have the counter of their work in common, and nothing else."""
    runner = Runner(Comm(), ALONE, config, shape)
    return Racer(comm, runner, CounterWork(comm.size*shape.batch, shape.batch, 0, comm, Journal(), Comm()), config)


def race(comm, racers, trial, progress):
    """[ranks, blocks, factors, racers, 4], as Racer.run gives them; in an order that is drawn anew for every block."""
    mine = np.empty((trial.blocks, len(trial.slow), len(racers), 4))
    turns = [(block, k) for block in range(trial.blocks) for k in order(len(trial.slow), block)]
    for turn, (block, k) in enumerate(progress(turns)):
        for r in order(len(racers), turn):
            mine[block, k, r] = racers[r].run(trial.slow[k], trial.steps)
    return np.array(comm.allgather(mine.tolist()))


def read(comm):
    return np.array([comm.now(), comm.seconds, comm.waited])


def finish(comm, racers):
    """Finish what is under way.  Raises Wrong unless all ranks have the model with which they began: nobody learns."""
    for racer in racers:
        racer.arrange()
        x, label = racer.runner.consensus(), racer.runner.variant.label
        away = norm2(x - racer.begin)/norm2(racer.begin)
        sums = len(set(comm.allgather(checksum(x))))
        racer.runner.algorithm.close(racer.runner.network.params.data)
        if sums > 1:
            raise Wrong(f'{label}: the ranks have {sums} different consensus models')
        if not away <= ROUNDING:  # NaN is not
            raise Wrong(f'{label}: the consensus has moved by {away:.3g} of its length, and nobody has learnt anything')


def speeds(figures, free):
    """[blocks] samples/s of all ranks together; figures [ranks, blocks, 4].

    Of ranks that are `free` the sum of what each did in its own time: at the end of a run some wait for the last one,
    as they do in training once an epoch.  Of others all samples over the longest time.
    """
    samples, seconds = figures[..., 0], np.maximum(figures[..., 1], 1e-9)
    return (samples/seconds).sum(0) if free else samples.sum(0)/seconds.max(0)


def off(figures, k, slow, ranks):
    """The run without exchange; at_slowest: what is left of its speed if all ranks go at the pace of the slow one."""
    return {'slow': slow, 'samples_per_second': float(np.median(speeds(figures[:, :, k, 0], True))),
            'at_slowest': ranks/slow/(ranks - 1 + 1/slow)}


def row(racer, figures, r, k, slow):
    """The figures of one algorithm beside one slow rank; exchange and waiting are shares of the time of all ranks."""
    variant, speed = racer.runner.variant, speeds(figures[:, :, k, r], racer.free)
    _, seconds, exchange, waiting = figures[:, :, k, r].sum((0, 1))
    mean, of_slow = (mean_of(column) for column in zip(*racer.stale.get(slow, [(math.nan,)*2]), strict=True))
    return {'label': variant.label, 'algo': variant.algo, 'options': dict(variant.values), 'slow': slow,
            'waits': not racer.free,
            'samples_per_second': float(np.median(speed)), **ratio(speed, speeds(figures[:, :, k, 0], True)),
            'exchange': float((exchange - waiting)/seconds), 'waiting': float(waiting/seconds),
            'staleness': mean, 'staleness_slow': of_slow}


def mean_of(values):
    """Of those that are known; None: there are none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else None


def lines(found):
    """The figures as text."""
    L = found['ranks']
    yield (f'{found["model"]}; {L} rank{"s"[:L > 1]} x {found["batch"]} samples, {found["library"]}; a step sleeps '
           f'{found["pace"]:g} ms in place of computing, the last rank `slow` times as long; --progress '
           f'{found["progress"]}')
    yield (f'{found["blocks"]} alternating runs of {found["steps"]} steps a rank; of off: samples/s over those of the '
           'same ranks without exchange, median and its 95 % interval')
    if found['left_out']:
        yield f'not possible on these nodes: {", ".join(found["left_out"])}'
    yield table([shown(row) for row in found['algorithms']], COLUMNS)
    for off in found['off']:
        yield judged(off, [row for row in found['algorithms'] if row['slow'] == off['slow']])


def shown(row):
    stale = {key: '' if row[name] is None else f'{row[name]:.1f}'
             for key, name in (('stale', 'staleness'), ('stale_slow', 'staleness_slow'))}
    return row | {'slow': f'{row["slow"]:g}x'} | stale


def judged(off, rows):
    """Which asynchronous algorithms reach the goal, and where the others are."""
    free = [row for row in rows if not row['waits']]
    kept = [row['label'] for row in free if row['ratio'] >= GOAL]
    lost = [f'{row["label"]} {row["ratio"]:.1%}' for row in free if row['ratio'] < GOAL]
    waiting = [f'{row["label"]} {row["ratio"]:.1%}' for row in rows if row['waits']]
    return (f'slow {off["slow"]:g}x: {off["samples_per_second"]:,.1f} samples/s without exchange, '
            f'{off["at_slowest"]:.1%} of it if all go at the pace of the slow rank\n'
            f'  keep {GOAL:.0%}: {", ".join(kept) or "none"}; do not: {", ".join(lost) or "none"}\n'
            f'  wait for each other: {", ".join(waiting) or "none"}')
