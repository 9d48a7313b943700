"""One training run of one learner: everything the loop in train.py needs, made from the configuration."""

import pathlib
from dataclasses import asdict, dataclass

import numpy as np

from hpcasr import experiment, resume
from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.checkpoint import Checkpoints, part, prefixed, verify
from hpcasr.clock import Clock
from hpcasr.data import builtin
from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks, hold_out
from hpcasr.data.store import Store
from hpcasr.data.work import StaticWork
from hpcasr.errors import BadInput, CheckFailed
from hpcasr.evaluate import Scores, evaluate, prior
from hpcasr.faults import StopRequest
from hpcasr.model.network import build
from hpcasr.model.params import ERRORS, FAULT, FRAMES, LOSS, NONFINITE
from hpcasr.model.presets import resolve
from hpcasr.optim import get_optimizer
from hpcasr.optim.schedules import get_schedule
from hpcasr.recorder import get_recorder


@dataclass
class Request:
    """What the command line asks for.

    store, dev   paths of stores; store None: the built-in task; dev None: some speakers are held out
    out          directory of the experiment
    resume       '' start anew; 'auto' the newest good checkpoint in `out`, if any; else the path of a checkpoint
    """

    store: str | None
    dev: str | None
    out: str
    resume: str = ''
    force: bool = False


class Run:
    """A training run, ready to start.  Raises BadInput, on all learners alike, for anything a user can mend."""

    def __init__(self, request, config, comm):
        self.request, self.config, self.comm = request, config, comm
        self.out = pathlib.Path(request.out)
        self.stop = StopRequest()
        self.versions = experiment.versions() | {'ranks': comm.size}
        comm.compare(self.asked_for())
        comm.together(self.choose)
        corpus, dev, chunks, dev_chunks = comm.together(self.open_data)
        self.build(corpus, chunks)
        comm.compare({'store': corpus.digest, 'dev store': dev.digest, **self.network.shape()})
        self.make_loaders(corpus, dev, chunks, dev_chunks)
        self.checkpoints = Checkpoints(self.out, comm, config.checkpoint.keep)
        self.scores, self.began = Scores(), 0  # the latter: samples of this epoch that an earlier run consumed
        start = self.find_start()
        comm.together(self.open_directory)  # from here on something is written
        self.recorder = get_recorder(comm, self.out, config.report, config.train.epochs*self.work.total)
        self.announce(corpus, dev, *start)
        self.clock = Clock(comm, self.loader)

    def open_data(self):
        """Corpora and their chunks: training, held out."""
        data, seed = self.config.data, self.config.data.seed
        corpus = builtin.corpus() if self.request.store is None else Store(self.request.store)
        require_targets(corpus)
        if self.request.dev is not None:
            dev = Store(self.request.dev)
            require_targets(dev)
            require_same(corpus, dev)
            parts = None, None
        else:
            dev, parts = corpus, hold_out(corpus, data.holdout, seed)
        chunks, dev_chunks = (Chunks(c, data.chunk, part) for c, part in zip((corpus, dev), parts, strict=True))
        if len(chunks) < self.comm.size:
            raise BadInput(f'{corpus.path}: {len(chunks)} chunks of {data.chunk} frames for {self.comm.size} ranks; '
                           'start fewer ranks, or cut shorter chunks (--chunk N)')
        return corpus, dev, chunks, dev_chunks

    def choose(self):
        """Look up what the configuration names, before anything collective is made of it."""
        resolve(self.config.model)
        self.ops = get_backend(self.config.train.backend)
        self.algorithm = get_algorithm(self.config.train.algo)(self.comm, self.config)

    def build(self, corpus, chunks):
        config, dtype = self.config, self.config.train.dtype
        self.network = build(config.model, corpus.dim, corpus.num_targets, dtype, self.ops, self.algorithm.allocate)
        self.network.init(config.data.seed)
        p = self.network.params
        self.algorithm.bind(p, get_optimizer(config.optim, p.size, dtype, self.ops))
        self.work = StaticWork(len(chunks), config.data.batch, self.comm.rank, self.comm.size)
        self.schedule = get_schedule(config.optim, config.data.batch*self.comm.size, len(chunks))

    def make_loaders(self, corpus, dev, chunks, dev_chunks):
        data, dtype = self.config.data, self.config.train.dtype
        self.loader = Loader(corpus, chunks, self.work, data.seed, data.ahead, dtype)
        dev_work = StaticWork(len(dev_chunks), data.batch, self.comm.rank, self.comm.size)
        self.dev_loader = Loader(dev, dev_chunks, dev_work, None, data.ahead, dtype)

    def asked_for(self):
        """What has to be the same on every rank before anything is made of it, field by field."""
        return {**self.versions, **self.config.flat(), **asdict(self.request)}

    def open_directory(self):
        if self.comm.rank == 0:
            experiment.open_directory(self.out, self.request.resume == 'auto', self.request.force)
            experiment.describe(self.out, self.config, self.versions)

    def announce(self, corpus, dev, start, manifest, complaints):
        held_out = self.dev_loader.chunks.counts(dev)
        priors = prior(corpus.counts() - held_out*(dev is corpus), held_out)
        self.recorder.note(f'data      {self.loader.chunks.frames:,} frames of {corpus.path}, '
                           f'{self.dev_loader.chunks.frames:,} held out; prior alone: {priors}')
        ranks, data = f'{self.comm.size} rank{"s"[:self.comm.size > 1]}', self.config.data
        self.recorder.note(f'model     {self.network.describe()}; {self.config.train.algo}, {ranks} x {data.batch} '
                           f'samples of {data.chunk} frames')
        for complaint in complaints:
            self.recorder.note(f'warning: {complaint}; falling back to the checkpoint before it')
        if start:
            self.recorder.note(f'resume    {start} at epoch {self.epoch:.2f}'
                               f'{resume.not_bit_for_bit(manifest, self.versions, self.config)}')
        elif self.request.resume:
            self.recorder.note(f'resume    no checkpoint in {self.out}; starting anew')
        self.recorder.rewind(self.work.samples)

    def find_start(self):
        """Load the checkpoint to go on from: (its path or None, its manifest, complaints about damaged ones)."""
        if not self.request.resume:
            return None, None, []
        if self.request.resume == 'auto':
            path, manifest, complaints = self.checkpoints.newest()
        else:
            path = pathlib.Path(self.request.resume)
            manifest, complaints = self.comm.together(verify, path), []
        if path:
            self.comm.together(self.load, path, manifest)
        return path, manifest, complaints

    def load(self, path, manifest):
        resume.require_same_shape(path, manifest, self.network)
        resume.require_same_order(path, manifest, self.config, self.loader.corpus)
        shared, own = self.checkpoints.load(path)
        state = shared | own
        self.network.params.load(part(state, 'params'))
        self.algorithm.load(part(state, 'algorithm'))
        self.schedule.load(part(state, 'schedule'))
        self.work.load(part(state, 'work'))
        self.scores = Scores(**part(state, 'scores'))
        self.began = self.work.consumed

    @property
    def epoch(self):
        return self.work.samples/self.work.total

    def record(self, claim, batch):
        """Note one step.  Raises, on all learners, BadInput if one could not read, CheckFailed if the loss is NaN."""
        slots = self.network.params.slots
        if slots[FAULT]:
            self.comm.together(batch.check)
        if slots[NONFINITE]:
            raise CheckFailed(self.diverged('the loss is'))
        self.recorder.step(samples=self.work.samples, epoch=self.epoch,
                           lr=self.schedule.rate(self.work.samples - claim.samples), frames=float(slots[FRAMES]),
                           loss=float(slots[LOSS]), errors=float(slots[ERRORS]), **self.clock.split())

    def diverged(self, what):
        return (f'{what} not finite at sample {self.work.samples} (epoch {self.epoch:.2f}); every checkpoint in '
                f'{self.out} is good: lower --lr, or set optim.clip, and start again')

    def due(self, claim):
        """Whether this step reaches the next checkpoint: a function of global samples, never of local time or steps."""
        every, samples = self.config.checkpoint.every, self.work.samples
        crossed = every and samples//every > (samples - claim.samples)//every
        return crossed and self.work.consumed < self.work.total  # at an epoch's end there will be one anyway

    def save(self, ce=None):
        """Checkpoint, with the held-out cross-entropy of just these parameters if it is known.

        Raises CheckFailed, on all learners, rather than save parameters that are not finite.
        """
        p, algorithm = self.network.params, self.algorithm
        consensus = algorithm.consensus(p.data)
        if not np.isfinite(consensus).all():
            raise CheckFailed(self.diverged('the parameters are'))
        state = prefixed(params={'params': consensus}, work=self.work.state(),
                         schedule=self.schedule.state(), scores=asdict(self.scores))
        exchange = prefixed(algorithm=algorithm.state())
        self.checkpoints.save(
            self.work.samples, *((state, exchange | prefixed(params=p.state())) if algorithm.own_state
                                 else (state | exchange, {})),
            {'shape': self.network.shape(), 'config': self.config.flat(), 'versions': self.versions,
             'store': self.loader.corpus.digest, 'ce': ce})
        self.clock.split()

    def end_epoch(self):
        """Score the held-out data, tell the schedule, checkpoint."""
        x = self.algorithm.consensus(self.network.params.data)
        self.scores = scores = evaluate(self.network, x, self.dev_loader, self.comm)
        self.schedule.observe(scores.ce)
        self.work.next_epoch()
        shares = self.clock.epoch()
        speed = self.loader.chunks.frames*(1 - self.began/self.work.total)/shares.seconds
        self.began = 0
        self.recorder.epoch(samples=self.work.samples, epoch=self.work.epoch, ce=scores.ce, fer=scores.fer,
                            frames=scores.frames, text=f'epoch {self.work.epoch}/{self.config.train.epochs}  held out '
                            f'{scores}  {speed:,.0f} frames/s  {shares}')
        self.save(self.scores.ce)

    def pause(self):
        """Say that the run can go on, and how."""
        self.recorder.note(f'stopped   by {self.stop.signal or "a signal to another rank"} at epoch {self.epoch:.2f}, '
                           f'checkpointed; go on with --out {self.out} --resume auto')
        self.recorder.close()

    def finish(self):
        """Say on disk and on the screen that everything has succeeded."""
        self.algorithm.close(self.network.params.data)
        facts = {'checksum': experiment.checksum(self.algorithm.consensus(self.network.params.data)),
                 'samples': self.work.samples, 'epochs': self.work.epoch, 'ce': float(self.scores.ce),
                 'fer': float(self.scores.fer)}
        self.comm.together(self.mark, facts)
        self.recorder.close()
        self.recorder.result(f'train     {self.network.describe()}, {self.algorithm.name}, {self.comm.size} '
                             f'rank{"s"[:self.comm.size > 1]}, {self.work.epoch} epochs  held out {self.scores}')
        self.recorder.result(f'exp       {self.out}')

    def mark(self, facts):
        if self.comm.rank == 0:
            best = self.checkpoints.best()
            experiment.mark_done(self.out, facts | {'best': best and best.name})


def require_targets(corpus):
    if corpus.targets is None:
        raise BadInput(f'{corpus.path}: has no targets; give it some: '
                       f'hpcasr align equal {corpus.path} --lexicon LEXICON')


def require_same(corpus, dev):
    for what in 'dim', 'num_targets':
        ours, theirs = getattr(corpus, what), getattr(dev, what)
        if ours != theirs:
            raise BadInput(f'{dev.path}: {what} is {theirs}, but that of {corpus.path} is {ours}; '
                           'import and align both alike')
