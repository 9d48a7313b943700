"""Faults that a user orders, to see that a job survives them: HPCASR_FAULT="kill:rank=2:step=40;enospc:step=10".

Several are separated by `;`.  A fault is KIND[:rank=R][:step=N][:seconds=S][:every]: it befalls rank R (default 0; a
virtual learner, too) before it computes step N (default 1, counted from the start of the process), or at the first
checkpoint after that.  It happens once: a job that is started again with --resume auto is spared, unless it says
`every`.
"""

import difflib
import errno
import os
import pathlib
import signal
from time import sleep

import numpy as np

from hpcasr.errors import BadInput

VARIABLE = 'HPCASR_FAULT'
FOLDER = '.drill'  # in the experiment: which faults have happened
NUMBERS = {'rank': int, 'step': int, 'seconds': float}


class Fault:
    """One fault.  `where` it befalls: 'step', 'write' or 'committed', with what these verbs of a Drill are given."""

    name, where, lasting = '', 'step', False
    rank, step, seconds, every, text = 0, 1, 0.1, False, ''

    def befall(self, *what):
        """Happen."""

    def possible(self, *what):
        """Whether it can happen now; else it waits for the next time."""
        return True

    def refuse(self, run):
        """Raise BadInput where it can never happen."""


class Kill(Fault):
    """SIGKILL: no last words."""

    name = 'kill'

    def befall(self, run, batch):
        os.kill(os.getpid(), signal.SIGKILL)


class Exc(Fault):
    """An exception that nobody expects."""

    name = 'exc'

    def befall(self, run, batch):
        raise RuntimeError(f'{VARIABLE}={self.text}')


class Exit0(Fault):
    """The process ends as if all were well, deep inside."""

    name = 'exit0'

    def befall(self, run, batch):
        os._exit(0)


class Hang(Fault):
    """The rank does not come to the next exchange, nor to any other."""

    name = 'hang'

    def befall(self, run, batch):
        while True:
            sleep(1)


class Stop(Fault):
    """SIGSTOP: the process stays, and does nothing."""

    name = 'stop'

    def befall(self, run, batch):
        os.kill(os.getpid(), signal.SIGSTOP)


class Slow(Fault):
    """From now on every step takes `seconds` more (default 0.1), on the clock of a virtual learner, too."""

    name, lasting = 'slow', True

    def befall(self, run, batch):
        run.comm.sleep(self.seconds)


class Sigterm(Fault):
    """What a scheduler sends before it takes the machine away."""

    name = 'sigterm'

    def befall(self, run, batch):
        os.kill(os.getpid(), signal.SIGTERM)


class NaN(Fault):
    """One gradient of the rank is not a number."""

    name = 'nan'

    def befall(self, run, batch):
        batch.x[:] = np.nan

    def possible(self, run, batch):
        return batch.samples > 0


class CorruptRecord(Fault):
    """One bit of the next utterance that is read from the store is another."""

    name = 'corrupt-record'

    def befall(self, run, batch):
        corpus, touch = run.task.corpus, run.task.corpus.touch

        def rotten(u):
            corpus.touch = touch
            flip(corpus, u)
            touch(u)
        corpus.touch = rotten

    def refuse(self, run):
        if not hasattr(run.task.corpus, 'frames_crc'):
            raise BadInput(f'{VARIABLE}: corrupt-record needs a store; the built-in task is none')


def flip(corpus, u):
    """One bit of utterance u is another, in this process alone, and is not known to be right."""
    dtype, shape, start = corpus._places['frames']
    corpus.frames = np.memmap(corpus.path, dtype, 'c', start, shape)
    corpus.frames[corpus.offsets[u]].view(np.uint8)[0] ^= 1
    corpus._checked[u] = False


class TornCheckpoint(Fault):
    """A checkpoint that is half there, as after a power failure.  It is found when the run is resumed."""

    name, where = 'torn-checkpoint', 'committed'

    def befall(self, path):
        os.truncate(path/'shared.h5', (path/'shared.h5').stat().st_size//2)

    def refuse(self, run):
        if self.rank:
            raise BadInput(f'{VARIABLE}: {self.text!r}: rank 0 completes the checkpoints; leave rank= out')


class NoSpace(Fault):
    """The disk is full when a checkpoint is written."""

    name, where = 'enospc', 'write'

    def befall(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


KINDS = {kind.name: kind for kind in [Kill, Exc, Exit0, Hang, Stop, Slow, Sigterm, NaN, CorruptRecord, TornCheckpoint,
                                      NoSpace]}


def parse(text):
    """[Fault] of the value of HPCASR_FAULT.  Raises BadInput for what it does not know."""
    return [parse_one(part.strip()) for part in text.split(';') if part.strip()]


def parse_one(text):
    name, *words = text.split(':')
    fault = known(name, KINDS, text)()
    fault.text = text
    for word in words:
        key, equals, value = word.partition('=')
        if key == 'every' and not equals:
            fault.every = True
        else:
            setattr(fault, key, number(known(key, NUMBERS, text), value, text))
    return fault


def known(name, names, text):
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, 1, 0)[0]
    raise BadInput(f'{VARIABLE}: {text!r}: there is no {name!r}; did you mean {near}? '
                   f'(there are: {", ".join(names)}{", every"*(names is NUMBERS)})')


def number(kind, value, text):
    try:
        found = kind(value)
    except ValueError:
        found = -1
    if not 0 <= found < 1e9:
        raise BadInput(f'{VARIABLE}: {text!r}: {value!r} is no number that makes sense there; write '
                       'kill:rank=2:step=40, for example')
    return found


class Quiet:
    """No drill."""

    def step(self, run, batch):
        """Called before a step is computed."""

    def write(self):
        """Called before a checkpoint is written; may raise OSError."""

    def committed(self, path):
        """Called when the checkpoint at `path` exists."""


NO_DRILL = Quiet()


class Drill(Quiet):
    """The `faults` of one learner, in the experiment `out`; steps are counted from 1."""

    def __init__(self, faults, out, rank):
        self.faults, self.steps, self.lasting = faults, 0, []
        self.marks = pathlib.Path(out)/FOLDER/f'rank{rank:04d}'

    def step(self, run, batch):
        self.steps += 1
        self.happen('step', run, batch)
        for fault in self.lasting:
            fault.befall(run, batch)

    def write(self):
        self.happen('write')

    def committed(self, path):
        self.happen('committed', path)

    def happen(self, where, *what):
        """Whatever is due; each fault is taken off, and noted before it befalls."""
        for fault in [f for f in self.faults if f.where == where and f.step <= self.steps and f.possible(*what)]:
            self.faults.remove(fault)
            if not (fault.every or self.first_time(fault)):
                continue
            if fault.lasting:
                self.lasting.append(fault)
            else:
                fault.befall(*what)

    def first_time(self, fault):
        """Whether it has not happened in this experiment before; note that it has."""
        before = self.marks.read_text().splitlines() if self.marks.exists() else []
        if fault.text in before:
            return False
        self.marks.parent.mkdir(parents=True, exist_ok=True)
        with open(self.marks, 'a') as file:
            file.write(fault.text + '\n')
            file.flush()
            os.fsync(file.fileno())
        return True


def get_drill(environment, run):
    """The Drill of the learner of a Run; NO_DRILL where nothing is ordered for it.  Raises BadInput."""
    faults, comm = parse(environment.get(VARIABLE, '')), run.comm
    for fault in faults:
        fault.refuse(run)
        if fault.rank >= comm.size:
            raise BadInput(f'{VARIABLE}: {fault.text!r}: there is no rank {fault.rank} among {comm.size}')
    mine = [fault for fault in faults if fault.rank == comm.rank]
    return Drill(mine, run.out, comm.rank) if mine else NO_DRILL
