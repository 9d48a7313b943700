"""How many samples per second ranks do together on links of a given speed, with every method of --compress.

The ranks are virtual: compute and links take the time they are given, and what a method computes is added to it.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from time import thread_time

import numpy as np

from hpcasr.bench.algorithms import VECTORS, Runner
from hpcasr.bench.compress import vector
from hpcasr.bench.convergence import refuse_ranks
from hpcasr.bench.step import Shape, refuse_too_large
from hpcasr.bench.table import table
from hpcasr.bench.variants import Variant
from hpcasr.comm.virtual import World
from hpcasr.compress.takes import METHODS
from hpcasr.errors import BadInput
from hpcasr.model.presets import resolve
from hpcasr.pace import Asleep, Slowness, fill, spans

ALGO, PLAIN = 'sync-allreduce', 'none'
BETWEEN = 4  # steps in which the speeds that are told are tried, from one to the next
WARM_UP = 2  # steps that do not count


@dataclass
class Trial:
    """`ranks` virtual learners, whose links carry `gbps` Gb/s each; dim, targets: features and classes."""

    ranks: int = 4
    gbps: tuple = (0.1, 1.0, 10.0, 100.0)
    dim: int = 40
    targets: int = 72


class Given(Asleep):
    """Lets time pass in place of computing; the gradient is `g`, with another sign in every step."""

    def __init__(self, network, comm, config, g):
        super().__init__(network, comm, Slowness(config.simulate, comm.rank, comm.size),
                         config.simulate.pace/1000/config.data.batch)
        self.g = g

    def loss_and_grad(self, batch, ready, seed=0):
        share = self.slow.draw()*self.seconds*batch.samples/(2*len(self.network.layers))
        fill(self.network.params, batch)
        np.negative(self.g, out=self.g)
        self.network.params.grad[:] = self.g
        for lo, hi in spans(self.network):
            self.comm.sleep(share)
            ready(lo, hi)
        return 0.0


def bench(config, trial, progress=iter):
    """The figures, a dict.  Raises BadInput."""
    refuse_ranks()
    if not config.simulate.pace:
        raise BadInput('--pace 0: virtual learners need a time for a step of compute; give milliseconds')
    shape = Shape(config.data.batch, config.data.chunk, trial.dim, trial.targets, config.train.dtype)
    refuse_too_large(resolve(config.model), shape, 2*VECTORS, trial.ranks, 'fewer --ranks, ')
    speeds = tried(trial.gbps)
    found = {method: timed(method, config, shape, trial.ranks, speeds) for method in progress((PLAIN, *METHODS))}
    plain = found[PLAIN]
    return {'ranks': trial.ranks, 'batch': shape.batch, 'pace': config.simulate.pace, 'algo': ALGO,
            'model': config.model.preset, 'bytes': plain['bytes'], 'latency': config.simulate.latency,
            'gbps': sorted(set(trial.gbps)),
            'methods': [row(method, each, plain, trial, speeds, shape.batch) for method, each in found.items()]}


def tried(gbps):
    """[speed], ascending: those that are told, and some between each two."""
    told = sorted(set(gbps))
    between = [np.geomspace(a, b, BETWEEN, endpoint=False)[1:].tolist() for a, b in pairwise(told)]
    return sorted({*told, *(speed for each in between for speed in each)})


def timed(method, config, shape, ranks, speeds):
    """{seconds: [speeds] of a step on simulated clocks; cpu: seconds that a learner computes in it; bytes, of one}."""
    variant = Variant(ALGO, (('compress.method', method),))
    lives = World(ranks).run(lambda comm: live(comm, variant, config, shape, speeds))
    seconds, cpu, sent = np.moveaxis(np.array(lives), 2, 0)
    return {'seconds': seconds.max(0), 'cpu': float(cpu.mean(0)[WARM_UP:].min()), 'bytes': float(sent.mean())}


def live(comm, variant, config, shape, speeds):
    """[speeds, 3] of one learner: seconds of a step at each speed, those in which it computed, bytes it sent."""
    runner = Runner(comm, variant, config, shape)
    network = Given(runner.network, comm, config,
                    vector(comm.rank, runner.network.params.size, config.compress))
    found = []
    for speed in (*speeds[:1]*WARM_UP, *speeds):
        comm.simulate(replace(config.simulate, bandwidth=speed/8))
        before = np.array([comm.now(), thread_time(), comm.bytes_sent])
        runner.run(network, 1)
        found.append(np.array([comm.now(), thread_time(), comm.bytes_sent]) - before)
    return found


def row(method, found, plain, trial, speeds, batch):
    """The figures of one method."""
    cost = max(0.0, found['cpu'] - plain['cpu'])
    seconds, of_plain = found['seconds'][WARM_UP:] + cost, plain['seconds'][WARM_UP:]
    rate = {speed: trial.ranks*batch/each for speed, each in zip(speeds, seconds.tolist(), strict=True)}
    below, always = faster_below(speeds, seconds - of_plain)
    return {'name': method, 'cost_ms': 1e3*cost, 'fewer': plain['bytes']/found['bytes'] if found['bytes'] else 1.0,
            'samples_per_second': {f'{speed:g}': rate[speed] for speed in sorted(set(trial.gbps))},
            'faster_below_gbps': below, 'faster_on_all': always}


def faster_below(speeds, late):
    """(speed below which a method is faster, None: on no link; whether it is on all); late [speeds]: s, < 0: faster."""
    faster = np.flatnonzero(late < 0)
    if not len(faster):
        return None, False
    k = faster[-1]
    if k == len(speeds) - 1:
        return speeds[-1], True
    share = late[k]/(late[k] - late[k + 1])
    return float(speeds[k]*(speeds[k + 1]/speeds[k])**share), False


def lines(found):
    """The figures as text."""
    yield (f'{found["model"]}, {found["bytes"]/1e6:.2f} MB sent by a rank uncompressed; {found["ranks"]} virtual '
           f'learners x {found["batch"]} samples, {found["algo"]}; a step computes for {found["pace"]:g} ms, messages '
           f'take {found["latency"]:g} µs')
    yield ('samples/s of all by the speed of their links; cost: what a rank computes more for it, added to each step; '
           'pays: faster than none on slower links')
    columns = {f'{speed:g}': (f'{speed:g} Gb/s', ',.1f') for speed in found['gbps']}
    yield table([shown(row) for row in found['methods']],
                {'name': ('method', ''), 'cost_ms': ('cost ms', '.2f'), 'fewer': ('fewer', '.1f'), **columns,
                 'pays': ('pays below', '')})


def shown(row):
    below = row['faster_below_gbps']
    pays = '' if row['name'] == PLAIN else 'nowhere' if below is None else 'all' if row['faster_on_all'] else (
        f'{below:.3g} Gb/s')
    return row | row['samples_per_second'] | {'pays': pays}
