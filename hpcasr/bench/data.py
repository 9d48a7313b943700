"""How long training waits for its data, from a store that is on the disk and not in memory."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.bench import cache
from hpcasr.bench.step import Shape, refuse_too_large
from hpcasr.bench.synthetic import LONGEST
from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks
from hpcasr.data.store import Store
from hpcasr.data.work import StaticWork
from hpcasr.drill import NO_DRILL
from hpcasr.errors import BadInput
from hpcasr.model.network import build
from hpcasr.model.params import NONFINITE, STOP
from hpcasr.model.presets import resolve
from hpcasr.optim import get_optimizer
from hpcasr.optim.schedules import get_schedule
from hpcasr.train import train

DIM, TARGETS = 40, 72  # as the built-in task
FIRST = 10  # steps shown apart: the queue of the loader is empty at the start
AGAIN, WARM_UP = 25, 5  # steps without reading, of which so many do not count
SPARE = 64 << 20  # bytes that the disk should have beyond the store


@dataclass
class Trial:
    """size [bytes] of the store; folder it is made in, '' for a temporary one; keep it afterwards; steps to train."""

    size: int
    folder: str = ''
    keep: bool = False
    steps: int = 200


def bench(comm, config, trial, note):
    """The figures, a dict, the same on every rank.  `note` takes lines for whoever watches.  Raises BadInput."""
    comm.together(choose, config)
    comm.together(comm.arrange, config.exchange.node_size)
    with folder(comm, trial) as path:
        store = comm.first(make, path/'store.h5', trial, note)
        run = comm.together(ShortRun, path/'store.h5', config, comm, trial.steps)
        before = cache.anonymous_memory(), cache.bytes_read()
        train(run)
        facts = run.facts()
        after = cache.anonymous_memory(), cache.bytes_read()
        mine = Figures(np.diff(run.marks, axis=0), before, after, without_reading(run))
        return store | facts | summary(comm.allgather(mine))


def choose(config):
    """Look up what the configuration names and needs, before a large store is made for it."""
    refuse_too_large(resolve(config.model), Shape(config.data.batch, min(config.data.chunk, LONGEST), DIM, TARGETS))
    get_algorithm(config.train.algo)


@contextmanager
def folder(comm, trial):
    """A folder that all ranks know, and that is gone afterwards unless it is to be kept."""
    path = pathlib.Path(comm.first(open_folder, trial))
    try:
        yield path
        comm.barrier()
    finally:
        if comm.rank == 0 and not trial.keep:
            shutil.rmtree(path, ignore_errors=True)


def open_folder(trial):
    """A new folder inside the one asked for; BadInput where there is none, or not enough room."""
    inside = trial.folder or tempfile.gettempdir()
    try:
        free = shutil.disk_usage(inside).free
        if free < trial.size + SPARE:
            raise BadInput(f'{inside}: {free/1e9:.1f} GB free, {(trial.size + SPARE)/1e9:.1f} GB needed; '
                           'make room, or give --dir or a smaller --size')
        return tempfile.mkdtemp(prefix='hpcasr-bench-', dir=inside)
    except OSError as e:
        raise BadInput(f'{inside}: {e.strerror}; give a folder as --dir') from None


def make(path, trial, note):
    """The store, on the disk and nowhere else; returns what was seen on the way."""
    note(f'store     making {trial.size/1e9:.2f} GB in {path.parent}')
    tic = perf_counter()
    in_another_process(path, trial.size)
    seconds = perf_counter() - tic
    made = cache.resident(path)
    cache.drop(path)
    return {'bytes': os.path.getsize(path), 'make_seconds': seconds, 'resident_made': made,
            'resident_dropped': cache.resident(path), 'path': str(path) if trial.keep else ''}


def in_another_process(path, size):
    """Make the store where its memory is not counted as that of training; the process ends when this one is told to."""
    done = subprocess.run([sys.executable, '-m', 'hpcasr.bench.synthetic', path, *map(str, (size, DIM, TARGETS))],
                          stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise BadInput(done.stderr.strip().splitlines()[-1])


def without_reading(run):
    """Seconds [N] of more steps, all on one batch in memory, with nothing read beside them."""
    run.marks, run.steps = [], AGAIN
    run.loader = Again(read_one(run), run.work)
    run.mark()
    train(run)
    return np.diff(run.marks, axis=0)[WARM_UP:, 0]


def read_one(run):
    """The first batch of the epoch."""
    return run.loader.read(*run.loader.announce(run.work.claim(0)))


class Again:
    """A loader of one batch."""

    seconds = 0.0

    def __init__(self, batch, work):
        self.batch, self.work = batch, work

    def __iter__(self):
        return ((claim, self.batch) for claim in self.work.rest())


class ShortRun:
    """What train.train asks of a run.Run, without held-out data or checkpoints.

    steps   after which to stop; where learners do not meet in every step, at the meeting that tells all of it
    marks   [(time, seconds waited for data so far)], at the start and after every step
    """

    drill = NO_DRILL

    def __init__(self, path, config, comm, steps):
        config = replace(config, train=replace(config.train, epochs=sys.maxsize))
        self.config, self.comm, self.steps, self.marks = config, comm, steps, []
        store = Store(str(path))
        chunks = Chunks(store, config.data.chunk)
        self.work = StaticWork(len(chunks), config.data.batch, comm.rank, comm.size)
        self.loader = Loader(store, chunks, self.work, config.data.seed, config.data.ahead, config.train.dtype)
        train, algorithm = config.train, get_algorithm(config.train.algo)
        ops = get_backend(train.backend, train.precision, train.dtype, comm.place)
        self.algorithm = algorithm(ops.reach(comm, algorithm.resident), config)
        self.network = build(config.model, store.dim, store.num_targets, train.dtype, ops, self.algorithm.allocate,
                             self.algorithm.allocate_gradient)
        self.network.init(config.data.seed)
        p = self.network.params
        self.algorithm.bind(p, get_optimizer(config.optim, p.size, p.dtype, self.network.ops))
        self.schedule = get_schedule(config.optim, config.data.batch*comm.size, len(chunks))
        self.mark()

    def facts(self):
        data, store = self.config.data, self.loader.corpus
        return {'utterances': store.num_utterances, 'frames': store.num_frames, 'model': self.network.describe(),
                'algo': self.config.train.algo, 'ranks': self.comm.size, 'batch': data.batch, 'chunk': data.chunk,
                'ahead': data.ahead, 'steps': len(self.marks) - 1}

    @property
    def stop(self):
        """Whether the step under way is the last."""
        return len(self.marks) >= self.steps

    def mark(self):
        self.marks.append((perf_counter(), self.loader.seconds))

    def computed(self, claim, batch):
        """As Run.computed."""
        batch.check()
        self.network.params.slots[STOP] = self.stop

    def record(self, claim):
        assert not self.network.params.slots[NONFINITE], 'random data of unit variance cannot make the loss infinite'
        self.mark()

    def meet(self):
        """All learners agree whether to stop, at the end of an epoch or before; whether they do."""
        slots = self.network.params.slots
        stop = bool(slots[STOP])
        self.algorithm.settle(self.network.params.data, slots)
        if self.work.over:
            self.work.next_epoch()
        return stop or bool(slots[STOP])


@dataclass
class Figures:
    """Of one rank.

    steps           [N, 2] seconds, and those spent waiting for data
    before, after   anonymous memory and bytes read so far, at the start and at the end
    alone           [N] seconds of steps without reading
    """

    steps: np.ndarray
    before: tuple
    after: tuple
    alone: np.ndarray


def summary(ranks):
    """One dict: the slowest rank's waiting, the largest memory, the sum of what was read."""
    first = min(FIRST, len(ranks[0].steps)//2)
    begin, rest = [r.steps[:first] for r in ranks], [r.steps[first:] for r in ranks]
    seconds = max(float(r.steps[:, 0].sum()) for r in ranks)
    read = sum(r.after[1] - r.before[1] for r in ranks)
    return {'first_steps': first, 'first_wait_share': max(map(mean_share, begin)),
            'first_wait_ms': 1e3*max(float(s[:, 1].sum()) for s in begin),
            'wait_share_median': max(float(np.median(s[:, 1]/s[:, 0])) for s in rest),
            'wait_share_mean': max(map(mean_share, rest)),
            'wait_share_largest': max(float((s[:, 1]/s[:, 0]).max()) for s in rest),
            'step_ms': 1e3*max(float(np.median(s[:, 0])) for s in rest),
            'step_ms_without_reading': 1e3*max(float(np.median(r.alone)) for r in ranks), 'seconds': seconds,
            'read_bytes': read, 'read_bytes_per_second': read/seconds,
            'memory_start': max(r.before[0] for r in ranks), 'memory_end': max(r.after[0] for r in ranks)}


def mean_share(steps):
    """Σ waiting / Σ time."""
    return float(steps[:, 1].sum()/steps[:, 0].sum())


def lines(r):
    """The figures as text."""
    yield (f'store     {r["bytes"]/1e9:.2f} GB, {r["utterances"]:,} utterances, {r["frames"]:,} frames; made in '
           f'{r["make_seconds"]:.0f} s; in memory {percent(r["resident_made"])}, after dropping it '
           f'{percent(r["resident_dropped"])}')
    yield (f'model     {r["model"]}; {r["algo"]}, {r["ranks"]} rank{"s"[:r["ranks"] > 1]} x {r["batch"]} samples of '
           f'{r["chunk"]} frames, {r["ahead"]} batches ahead')
    yield (f'first     {r["first_steps"]} steps waited {r["first_wait_ms"]:.1f} ms for data, '
           f'{100*r["first_wait_share"]:.1f} % of their time')
    yield (f'then      {r["steps"] - r["first_steps"]} steps of {r["step_ms"]:.1f} ms waited '
           f'{100*r["wait_share_median"]:.2f} % (median), {100*r["wait_share_mean"]:.2f} % (mean), '
           f'{100*r["wait_share_largest"]:.1f} % (largest)')
    yield f'alone     steps of {r["step_ms_without_reading"]:.1f} ms on one batch in memory, with nothing read beside'
    yield f'disk      {r["read_bytes"]/1e6:,.0f} MB read, {r["read_bytes_per_second"]/1e6:,.0f} MB/s'
    yield (f'memory    {r["memory_start"]/1e6:.1f} MB anonymous at the start, {r["memory_end"]/1e6:.1f} MB at the end '
           '(largest rank)')
    if r['path']:
        yield f'kept      {r["path"]}'


def percent(share):
    return 'unknown' if share is None else f'{100*share:.1f} %'
