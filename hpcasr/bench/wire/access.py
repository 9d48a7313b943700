"""Reaches into the memory of another rank: by a window of training, or by MPI's own calls on other kinds of window.

Both have LINE bytes of counters before the entries.  `epoch(work)` is what the origin does, `partner()` what the target
must do meanwhile, once for every epoch.
"""

from contextlib import contextmanager
from functools import partial

import numpy as np
from mpi4py import MPI

from hpcasr.comm.memory import LINE
from hpcasr.comm.rma import lines, require_shm

DRAWN, SWAPPED = 0, 1  # counters
KINDS, SYNCS = ('create', 'allocate', 'shared'), ('lock', 'lock_all', 'fence', 'pscw')
PASSIVE = 'lock', 'lock_all'  # synchronizations in which the target does nothing


def get_access(pair, kind, sync, n, dtype, plain=False):
    """Both ranks of `pair` together; n entries of each.  plain: MPI's own calls, also where training has a window."""
    if (kind, sync) == ('allocate', 'lock_all') and not plain:
        return Trained(pair, n, dtype)
    return SYNC[sync](pair, kind, n, dtype)


class Trained:
    """A window as algorithms make it: MPI's memory, one epoch for its life, a flush after every operation."""

    def __init__(self, pair, n, dtype):
        self.window = pair.window(n, dtype, counters=2)
        self.own, self.target = self.window.own, pair.size - 1

    def verb(self, name, x):
        """reach(): put, get or add `x`, at the first entry of the target."""
        return partial(getattr(self.window, name), self.target, x)

    def fetch_add(self):
        return self.window.fetch_add(self.target, DRAWN, 1)

    def swap(self, expected, new):
        return self.window.compare_and_swap(self.target, SWAPPED, expected, new)

    def ticket(self):
        with self.window.lock([self.target]) as held:
            return held[self.target]

    def epoch(self, work):
        work()

    def partner(self):
        """Nothing: it is passive."""

    @contextmanager
    def exposed(self):
        """A context in which `own` shows what the other one wrote, and afterwards shows him what we write."""
        self.window.sync()
        yield
        self.window.sync()

    def close(self):
        self.window.close()


class Raw:
    """MPI's calls on a window of some kind; a class for each synchronization."""

    def __init__(self, pair, kind, n, dtype):
        self.pair, self.kind, self.target = pair, MPI.Datatype.fromcode(np.dtype(dtype).char), pair.size - 1
        nbytes = LINE + lines(n*np.dtype(dtype).itemsize)
        if kind != 'create':
            require_shm(pair, nbytes)
        self.win, memory = MAKE[kind](nbytes, pair.mpi)
        memory[:] = 0
        self.own = memory[LINE:LINE + n*np.dtype(dtype).itemsize].view(dtype)
        self.argument, self.new, self.old = np.zeros((3, 1), np.int64)
        self.memory = memory  # of `create` nobody else holds it
        self.partners = pair.mpi.Get_group().Incl([1 - pair.rank])
        self.begin()
        pair.barrier()

    def verb(self, name, x):
        """reach(): put, get or add `x`, at the first entry of the target."""
        win, add = self.win, (MPI.SUM,)
        call, more = {'put': (win.Put, ()), 'get': (win.Get, ()), 'add': (win.Accumulate, add)}[name]
        return partial(call, (x, x.size, self.kind), self.target, (LINE, x.size, self.kind), *more)

    def fetch_add(self):
        self.argument[0] = 1
        self.epoch(lambda: self.win.Fetch_and_op(self.argument, self.old, self.target, 8*DRAWN, MPI.SUM))
        return int(self.old[0])

    def swap(self, expected, new):
        self.argument[0], self.new[0] = expected, new
        self.epoch(lambda: self.win.Compare_and_swap(self.new, self.argument, self.old, self.target, 8*SWAPPED))
        return int(self.old[0])

    def begin(self):
        """Once, when the window has been made."""

    def partner(self):
        """Nothing, where the target is passive."""

    @contextmanager
    def exposed(self):
        yield

    def close(self):
        self.partners.Free()
        self.win.Free()


class Locking(Raw):
    """A lock and its end for every epoch."""

    def epoch(self, work):
        self.win.Lock(self.target, MPI.LOCK_SHARED)
        work()
        self.win.Unlock(self.target)

    @contextmanager
    def exposed(self):
        self.win.Lock(self.pair.rank, MPI.LOCK_EXCLUSIVE)
        yield
        self.win.Unlock(self.pair.rank)


class Flushing(Raw):
    """One Lock_all, and a flush at the end of what is called an epoch."""

    def begin(self):
        self.win.Lock_all(MPI.MODE_NOCHECK)
        self.win.Sync()

    def epoch(self, work):
        work()
        self.win.Flush(self.target)

    @contextmanager
    def exposed(self):
        self.win.Sync()
        yield
        self.win.Sync()

    def close(self):
        self.win.Unlock_all()
        super().close()


class Fencing(Raw):
    """A fence of both ranks before and behind."""

    def epoch(self, work):
        self.win.Fence()
        work()
        self.win.Fence()

    def partner(self):
        self.win.Fence()
        self.win.Fence()

    def close(self):
        self.win.Fence(MPI.MODE_NOSUCCEED)
        super().close()


class Posting(Raw):
    """Start and Complete here, Post and Wait there."""

    def epoch(self, work):
        self.win.Start(self.partners)
        work()
        self.win.Complete()

    def partner(self):
        self.win.Post(self.partners)
        self.win.Wait()


def of_ours(nbytes, mpi):
    memory = np.zeros(nbytes, np.uint8)
    return MPI.Win.Create(memory, 1, comm=mpi), memory


def of_mpi(make):
    def made(nbytes, mpi):
        win = make(nbytes, 1, comm=mpi)
        return win, np.frombuffer(win.tomemory(), np.uint8)
    return made


MAKE = {'create': of_ours, 'allocate': of_mpi(MPI.Win.Allocate), 'shared': of_mpi(MPI.Win.Allocate_shared)}
SYNC = {'lock': Locking, 'lock_all': Flushing, 'fence': Fencing, 'pscw': Posting}
