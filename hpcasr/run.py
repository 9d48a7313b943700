"""One training run of one learner: everything the loop in train.py needs, made from the configuration."""

import os
import pathlib
from dataclasses import asdict, dataclass
from functools import partial

from hpcasr import experiment, resume
from hpcasr.acoustic.card import card
from hpcasr.algorithms import get_algorithm
from hpcasr.algorithms.about import in_bytes, unused
from hpcasr.backend import get_backend
from hpcasr.checkpoint import Checkpoints, part, prefixed, read_h5, verify
from hpcasr.clock import Clock
from hpcasr.comm import selftest
from hpcasr.comm.base import arrangement
from hpcasr.compress.warmup import settled
from hpcasr.data.augment import get_masks
from hpcasr.data.loader import Loader
from hpcasr.data.task import open_task
from hpcasr.data.work import StaticWork, get_work
from hpcasr.drill import get_drill
from hpcasr.errors import BadInput, Diverged
from hpcasr.evaluate import Scores, evaluate
from hpcasr.finite import finite
from hpcasr.grace import Grace
from hpcasr.journal import facts, get_journal
from hpcasr.model.network import build
from hpcasr.model.params import ERRORS, FAULT, FRAMES, LOSS, STOP
from hpcasr.model.presets import resolve
from hpcasr.optim import get_optimizer
from hpcasr.optim.schedules import get_schedule
from hpcasr.pace import pace, remarks
from hpcasr.recorder import get_recorder
from hpcasr.skips import Skips, utterances
from hpcasr.watch import flight


@dataclass
class Request:
    """What the command line asks for.

    store, dev   paths of stores; store None: the built-in task; dev None: some speakers are held out
    out          directory of the experiment
    resume       '' start anew; 'auto' the newest good checkpoint in `out`, if any; else the path of a checkpoint
    force        replace an experiment that is in `out`, and a record
    record       path of a file to which the order of all changes is written
    replay       path of such a file, which is repeated
    """

    store: str | None
    dev: str | None
    out: str
    resume: str = ''
    force: bool = False
    record: str = ''
    replay: str = ''


class Run:
    """A training run, ready to start.  Raises BadInput, on all learners alike, for anything a user can mend.

    stop   true once this process was asked to stop (faults.StopRequest)
    """

    def __init__(self, request, config, comm, stop):
        self.request, self.config, self.comm, self.stop = request, config, comm, stop
        self.out, self.fault, self.met = pathlib.Path(request.out), None, 0  # the latter: meeting points so far
        self.saved = None  # global samples of the newest checkpoint
        self.regrouped = ''  # what has become of the states of other learners, in words
        self.versions = experiment.versions() | {'ranks': comm.size}
        comm.compare({**self.versions, **config.flat(), **asdict(request)})
        train = config.train
        self.ops = comm.together(get_backend, train.backend, train.precision, train.dtype, comm.place)
        comm.compare({'train.backend': self.ops.where})
        comm.together(self.choose)
        self.versions['nodes'] = arrangement(comm.nodes)
        self.versions['backend'] = '; '.join(dict.fromkeys(comm.allgather(self.ops.describe())))
        if self.algorithm.asynchronous and not comm.simulated:
            selftest.run(comm)
        comm.serve(config.exchange.progress)
        self.task = comm.together(open_task, request.store, request.dev, config.data, comm.size)
        comm.together(self.build)
        comm.compare({'store': self.task.corpus.digest, 'dev store': self.task.dev.digest, **self.network.shape()})
        comm.first(experiment.claim, request)
        comm.watch(self.out, config.train.hang_timeout)
        start = self.find_start()
        self.journal.begin(comm, self.recorded(), self.met, request)
        # from here on something is written
        comm.first(experiment.describe, request, *self.description())
        self.recorder = get_recorder(comm, self.out, config.report, config.train.epochs*self.work.total)
        self.announce(*start)
        self.clock = Clock(comm, self.loader)

    def choose(self):
        """Look up what the configuration names, before anything is made of it."""
        resolve(self.config.model)
        self.comm.arrange(self.config.exchange.node_size)
        algorithm = get_algorithm(self.config.train.algo)
        resident = algorithm.resident and self.config.compress.method == 'none'  # codes are made on the host
        self.algorithm = algorithm(self.ops.reach(self.comm, resident), self.config)
        self.grace = Grace(self.config.checkpoint.grace)
        self.journal = self.algorithm.journal = get_journal(self.request)
        if (self.request.record or self.request.replay) and not self.algorithm.asynchronous:
            raise BadInput(f'--record and --replay: {self.algorithm.name} takes the same steps in every run; leave '
                           'them out')

    def build(self):
        """Model, optimizer, schedule, and who reads what."""
        config, task, dtype = self.config, self.task, self.config.train.dtype
        try:
            network = build(config.model, task.corpus.dim, task.corpus.num_targets, dtype, self.ops,
                            self.algorithm.allocate, self.algorithm.allocate_gradient)
        except (MemoryError, ValueError, OverflowError):  # what NumPy says of sizes that no machine has
            raise BadInput('such a model does not fit into memory; choose fewer model.cells or layers') from None
        network.init(config.data.seed)
        self.network = pace(network, self.comm, config)
        p, self.algorithm.config = self.network.params, settled(config, len(task.chunks))
        self.algorithm.bind(p, get_optimizer(config.optim, p.size, dtype, self.ops))
        self.network.reserve(config.data.chunk, config.data.batch)
        self.schedule = get_schedule(config.optim, config.data.batch*self.comm.size, len(task.chunks))
        self.work = get_work(self.algorithm, len(task.chunks), config, self.comm)
        self.loader = Loader(task.corpus, task.chunks, self.work, config.data.seed, config.data.ahead, dtype,
                             self.comm.now, get_masks(config.data, task.corpus), self.ops.page)
        self.dev_loader = Loader(task.dev, task.dev_chunks, self.share(task.dev_chunks), None, config.data.ahead, dtype,
                                 zeros=self.ops.page)
        self.checkpoints = Checkpoints(self.out, self.comm, config.checkpoint.keep, config.checkpoint.background)
        self.drill = self.checkpoints.drill = get_drill(os.environ, self)
        self.skips = Skips(self.comm, partial(utterances, self.loader), config.train.max_skipped)
        self.scores, self.began = Scores(), 0  # the latter: samples of this epoch that an earlier run consumed

    def share(self, chunks):
        return StaticWork(len(chunks), self.config.data.batch, self.comm.rank, self.comm.size)

    def find_start(self):
        """Load the checkpoint to go on from: (its path or None, its manifest, complaints about damaged ones)."""
        if not self.request.resume:
            return None, None, []
        if self.request.resume == 'auto':
            path, manifest, complaints = self.checkpoints.newest()
        else:
            path, complaints = pathlib.Path(self.request.resume), []
            manifest = self.comm.together(verify, path)
        if path:
            moved = resume.moved(manifest, self.versions, self.algorithm)
            self.comm.together(self.load, path, manifest, moved)
            if moved:
                former = self.comm.together(resume.Former, path, manifest, self.comm, 'algorithm', self.ops)
                self.regrouped = self.algorithm.regroup(former)
        return path, manifest, complaints

    def load(self, path, manifest, moved):
        """Take up what the checkpoint holds; if the learners have `moved`, only what they all share."""
        resume.require_same_shape(path, manifest, self.network)
        resume.require_same_order(path, manifest, self.config, self.task)
        if moved:
            state = read_h5(path/'shared.h5')
        else:
            shared, own = self.checkpoints.load(path, self.algorithm.keeper)
            state = shared | own
        self.network.params.load(part(state, 'params'))
        if not moved or not self.algorithm.own_state:
            self.algorithm.load(self.ops.vectors(part(state, 'algorithm')))
        self.schedule.load(part(state, 'schedule'))
        self.work.load(part(state, 'work'))
        self.scores = Scores(**part(state, 'scores'))
        self.began, self.met = self.work.consumed, manifest.get('met', 0)
        self.saved = self.work.samples
        self.skips.total = manifest.get('skipped', 0)

    def description(self):
        """What the directory of the experiment says of it."""
        return (self.config, self.versions | {'mpi': self.comm.library},
                card(self.task.corpus, self.config.data.chunk, self.network.model.kind != 'dnn'))

    def recorded(self):
        """What the head of a record says of this run."""
        return facts(self.config, self.task, self.versions) | {k: self.versions[k] for k in self.algorithm.placed_by}

    def announce(self, start, manifest, complaints):
        """Show what is about to happen."""
        note, task, data = self.recorder.note, self.task, self.config.data
        note(f'data      {task.chunks.frames:,} frames of {task.corpus.path}, {task.dev_chunks.frames:,} held out; '
             f'prior alone: {task.prior}')
        note(f'model     {self.network.describe()}; {self.algorithm.name}, {self.ranks} x {data.batch} samples of '
             f'{data.chunk} frames')
        note(f'backend   {self.versions["backend"]}')
        for line in self.algorithm.describe() + self.journal.describe() + remarks(self.comm, self.config):
            note(line)
        for option in unused(type(self.algorithm), self.config):
            note(f'note      {option} means nothing to {self.algorithm.name}')
        for complaint in complaints:
            note(f'warning: {complaint}; falling back to the checkpoint before it')
        if start:
            differences = resume.not_bit_for_bit(manifest, self.versions, self.config, task)
            note(f'resume    {start} at epoch {self.epoch:.2f}{differences}')
            if self.regrouped:
                note(f'regroup   {self.regrouped}')
        elif self.request.resume:
            note(f'resume    no checkpoint in {self.out}; starting anew')
        self.recorder.rewind(self.work.samples)

    @property
    def ranks(self):
        kind = 'virtual learner' if self.comm.simulated else 'rank'
        return f'{self.comm.size} {kind}{"s"[:self.comm.size > 1]}'

    @property
    def epoch(self):
        return self.work.samples/self.work.total

    def computed(self, claim, batch):
        """Before the exchange: this learner's votes, and what it could not learn from."""
        slots = self.network.params.slots
        self.fault = self.fault or batch.fault
        slots[STOP], slots[FAULT] = bool(self.stop), bool(self.fault or self.checkpoints.fault)
        self.skips.see(claim, slots)

    def record(self, claim):
        """Note one step.  Raises as `refuse`."""
        flight.step(self.work.samples)
        self.skips.step(self.algorithm.in_a_row)
        self.refuse()
        self.recorder.step(samples=self.work.samples, epoch=self.epoch,
                           lr=self.schedule.rate(claim.at), told=self.told(),
                           **self.clock.split())
        self.tell_checkpoints()

    def refuse(self):
        """Hear what the slots say of any learner, all together.

        Raises, on all of them, BadInput where one could not read or write, Diverged where too many steps in a row were
        not finite.  The checkpoint under way is finished before.
        """
        if self.network.params.slots[FAULT]:
            self.finish_checkpoint()
            self.comm.together(self.raise_fault)
        n = self.algorithm.skipped(self.network.params.slots)
        if n:
            self.skip(n)

    def raise_fault(self):
        if self.fault:
            raise self.fault

    def skip(self, n):
        """Say of n updates that were left out which they were.  Raises Diverged, on all learners, if it is too much."""
        batches, in_a_row = self.skips.tell(n)
        self.recorder.skip(samples=self.work.samples, epoch=round(self.epoch, 4), skipped=self.skips.total,
                           batches=batches, text=self.skips.describe(n, batches))
        if self.algorithm.hopeless or in_a_row > self.config.train.max_skipped:
            self.diverged('the loss or the gradient is')

    def told(self):
        """What the slots hold of all learners, for the recorder."""
        slots = self.network.params.slots
        return {'frames': float(slots[FRAMES]), 'loss': float(slots[LOSS]), 'errors': float(slots[ERRORS]),
                'distance': self.algorithm.distance, 'behind': self.algorithm.behind}

    def settle(self):
        """Hear what the other learners have not told yet.  Raises as `refuse`."""
        p = self.network.params
        self.algorithm.settle(p.data, p.slots)
        self.refuse()
        self.recorder.hear(**self.told(), **self.clock.split())

    def diverged(self, what):
        """Raise Diverged, on all learners, when the checkpoint under way has been finished."""
        self.finish_checkpoint()
        raise Diverged(f'{what} not finite at sample {self.work.samples} (epoch {self.epoch:.2f}); every checkpoint in '
                       f'{self.out} is good: lower --lr, or set optim.clip, and start again')

    def meet(self):
        """What all learners do at a meeting point: agree, score, checkpoint; whether they stop here."""
        slots = self.network.params.slots
        self.algorithm.arrive(self.network.params.data)
        self.work.await_others(lambda: bool(self.stop))
        stop, slots[STOP] = bool(slots[STOP]), bool(self.stop)  # the latter for who had nothing to do up to here
        self.settle()
        stop = stop or bool(slots[STOP])
        self.work.meet()
        self.journal.meet(self.comm)
        self.met += 1
        if self.work.over and not stop:
            self.end_epoch()
        elif self.work.samples != self.saved:
            self.save()
        if stop:
            self.pause()
        return stop

    def save(self, ce=None):
        """Begin a checkpoint, with the held-out cross-entropy of just these parameters if it is known.

        Raises Diverged, on all learners, rather than save parameters that are not finite.
        """
        self.finish_checkpoint()
        self.restore()
        self.recorder.flush(samples=self.work.samples, epoch=round(self.epoch, 4))
        x = self.consensus()
        if not all(self.comm.allgather(finite(x) and finite(self.ops.host(self.network.params.data)))):
            self.diverged('the parameters are')
        shared = prefixed(params={'params': x}, work=self.work.state(), schedule=self.schedule.state(),
                          scores=asdict(self.scores))
        exchange = prefixed(algorithm={name: self.ops.host(v) for name, v in self.algorithm.state().items()})
        apart = prefixed(algorithm=self.algorithm.apart())
        alone = self.algorithm.own_state and self.algorithm.keeper == self.comm.rank
        own = exchange | prefixed(params=self.network.params.state()) if alone else {}
        facts = self.facts() | {'ce': ce, 'met': self.met, 'skipped': self.skips.total}
        self.checkpoints.begin(self.work.samples, shared if own else shared | exchange, own | apart, facts)
        self.saved = self.work.samples
        self.clock.split()

    def consensus(self):
        """The parameters to save, on the host."""
        return self.ops.host(self.algorithm.consensus(self.network.params.data))

    def restore(self):
        """Make the directory of the experiment anew if somebody has removed it; whether that was so."""
        removed = self.comm.first(experiment.restore, self.out, *self.description())
        if removed:
            self.recorder.note(f'warning: {self.out} was removed under this run: it is made anew, from here on')
            self.recorder.reopen()
        return removed

    def leave(self):
        """Before the run ends: its last checkpoint is whole, and there."""
        self.finish_checkpoint()
        if self.restore():
            self.save()
            self.finish_checkpoint()

    def finish_checkpoint(self):
        """Wait for the checkpoint under way, if there is one.  Raises BadInput, on all learners, if it failed."""
        self.checkpoints.finish()
        self.tell_checkpoints()

    def tell_checkpoints(self):
        """Note those that have become whole, and what they took: learner 0 knows it."""
        while self.checkpoints.news:
            news = self.checkpoints.news.popleft()
            self.recorder.checkpoint(**news)
            if warning := self.grace.warning(news['seconds']):
                self.recorder.note(warning)

    def facts(self):
        """What a resumed run compares itself with."""
        return {'shape': self.network.shape(), 'config': self.config.flat(), 'versions': self.versions,
                'total': self.work.total, 'store': self.task.corpus.digest, 'dev': self.task.dev_digest}

    def end_epoch(self):
        """Score the held-out data, tell the schedule, checkpoint."""
        shares, told = self.clock.epoch(), self.algorithm.told()
        speed = self.task.chunks.frames*(1 - self.began/self.work.total)/max(shares.seconds, 1e-9)
        x = self.algorithm.consensus(self.network.params.data)
        self.scores = scores = evaluate(self.network, x, self.dev_loader, self.comm)
        self.schedule.observe(scores.ce)
        self.work.next_epoch()
        self.began = 0
        self.recorder.epoch(samples=self.work.samples, epoch=self.work.epoch, **asdict(scores), **told,
                            text=f'epoch {self.work.epoch}/{self.config.train.epochs}  held out {scores}  '
                                 f'{speed:,.0f} frames/s  {shares}{remark(told)}')
        self.save(scores.ce)
        self.clock.epoch()

    def pause(self):
        """Say that the run can go on, and how."""
        self.leave()
        self.recorder.note(f'stopped   by {self.stop.signal or "a signal to another rank"} at epoch {self.epoch:.2f}, '
                           f'checkpointed; go on with --out {self.out} --resume auto')
        self.recorder.close()
        self.comm.first(experiment.mark_paused, self.out, {'samples': self.work.samples, 'epoch': round(self.epoch, 4)})

    def finish(self):
        """Say on disk and on the screen that everything has succeeded."""
        self.leave()
        self.algorithm.close(self.network.params.data)
        facts = {'checksum': experiment.checksum(self.consensus()), 'samples': self.work.samples,
                 'epochs': self.work.epoch, 'ce': float(self.scores.ce), 'fer': float(self.scores.fer)}
        self.recorder.close()
        self.comm.first(experiment.mark_done, self.out, facts, self.checkpoints)
        self.recorder.result(f'train     {self.network.describe()}, {self.algorithm.name}, {self.ranks}, '
                             f'{self.work.epoch} epochs  held out {self.scores}')
        self.recorder.result(f'exp       {self.out}')


def remark(told):
    """What an algorithm has told of an epoch, behind the line of its scores."""
    words = []
    if 'staleness_mean' in told:
        words.append(f'staleness {told["staleness_mean"]:.1f}, at most {told["staleness_max"]}')
    if told.get('rejected'):
        words.append(f'{told["rejected"]} updates rejected, not finite')
    if 'compressed_bytes' in told:
        words.append(f'{in_bytes(told["compressed_bytes"])} of codes, residual {told["residual_norm"]:.3g}')
    return ''.join(f'  {word}' for word in words)
