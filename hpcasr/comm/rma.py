"""Windows over MPI, in memory that the library allocates.

One passive epoch for the window's life (`Lock_all`, which excludes nobody) and a flush after each operation: 0.05 to
0.2 ms while the target computes, where memory of our own, or an epoch for each operation, waits for the target.
"""

import math
import shutil
from contextlib import contextmanager
from time import perf_counter, sleep

import numpy as np
from mpi4py import MPI

from hpcasr.comm import ticket
from hpcasr.comm.memory import LINE
from hpcasr.comm.onesided import Window, never
from hpcasr.errors import AgreedBadInput, BadInput
from hpcasr.watch import flight

PIECE = 2**30  # bytes of one operation; MPI before version 4 counts to 2^31 - 1
BACK_OFF = 50e-6  # seconds between two looks at a counter
SLACK = 64*1024  # bytes, more than what the library keeps beside the entries of a learner
SHM = '/dev/shm'


class MPIWindow(Window):
    """As Window.  Counters lie before the entries, both begin on a cache line, sizes are multiples of one.

    (MPICH 4.0.2 lets parts of other sizes overlap.)  Raises BadInput on every learner if there is too little memory.
    """

    def allocate(self, n):
        comm, self.header = self.comm, lines(self.counters*8)
        nbytes = self.header + lines(n*self.dtype.itemsize)
        require_shm(comm, nbytes)
        self.win = comm.together(create, comm.mpi, nbytes)
        memory = np.frombuffer(self.win.tomemory(), np.uint8)
        memory[:] = 0  # and now the pages are taken, so whoever asks what is free is told the truth
        self.argument, self.new, self.old = np.zeros((3, 1), np.int64)
        self.win.Lock_all(MPI.MODE_NOCHECK)
        self.win.Sync()
        comm.barrier()
        entries = memory[self.header:self.header + n*self.dtype.itemsize]
        return entries.view(self.dtype), memory[:self.counters*8].view(np.int64)

    # entries

    def get(self, rank, out, lo=0):
        self.require_inside(rank, out, lo)
        if rank == self.comm.rank:
            self.win.Sync()
            out[:] = self.own[lo:lo + out.size]
        else:
            self.move(flight.GET, self.win.Get, rank, out, lo)

    def put(self, rank, x, lo=0):
        self.require_inside(rank, x, lo)
        if rank == self.comm.rank:
            self.own[lo:lo + x.size] = x
            self.win.Sync()
        else:
            self.move(flight.PUT, self.win.Put, rank, x, lo)

    def add(self, rank, x, lo=0):
        self.require_summable()
        self.require_inside(rank, x, lo)
        self.move(flight.ADD, self.win.Accumulate, rank, x, lo, MPI.SUM)

    def move(self, verb, call, rank, x, lo, *op):
        """call(...) for every piece of `x`; bytes where nothing is computed, for MPI does not know every type."""
        mark, tic = self.mark(verb, rank), perf_counter()
        kind, unit = (MPI.Datatype.fromcode(x.dtype.char), x.itemsize) if op else (MPI.BYTE, 1)
        x, step = (x, PIECE//unit) if op else (x.view(np.uint8), PIECE)
        at = self.header + lo*self.dtype.itemsize
        for a in range(0, x.size, step):
            piece = x[a:a + step]
            call([piece, kind], rank, (at + a*unit, piece.size, kind), *op)
        self.win.Flush(rank)
        flight.end(mark)
        if rank != self.comm.rank:
            self.comm.charge(x.nbytes, x.size > 0, perf_counter() - tic)

    # counters

    def fetch_add(self, rank, k, v):
        return self.fetch(rank, k, v, MPI.SUM)

    def lower(self, rank, k, v):
        return self.fetch(rank, k, v, MPI.MIN)

    def write(self, rank, k, v):
        return self.fetch(rank, k, v, MPI.REPLACE)

    def read(self, rank, k):
        return self.fetch(rank, k, 0, MPI.NO_OP)

    def fetch(self, rank, k, v, op):
        mark, tic = self.mark(flight.COUNTER, rank), perf_counter()
        old = self.fetched(rank, k, v, op)
        flight.end(mark)
        self.comm.charge(seconds=perf_counter() - tic)
        return old

    def fetched(self, rank, k, v, op):
        self.require_learner(rank)
        self.argument[0] = v
        self.win.Fetch_and_op(self.argument, self.old, rank, self.place(k), op)
        self.win.Flush(rank)
        return int(self.old[0])

    def compare_and_swap(self, rank, k, expected, new):
        self.require_learner(rank)
        mark, tic = self.mark(flight.COUNTER, rank), perf_counter()
        self.argument[0], self.new[0] = expected, new
        self.win.Compare_and_swap(self.new, self.argument, self.old, rank, self.place(k))
        self.win.Flush(rank)
        flight.end(mark)
        self.comm.charge(seconds=perf_counter() - tic)
        return int(self.old[0])

    def place(self, k):
        """Where counter `k` is, in bytes; those that count from the end are negative."""
        return 8*range(self.counters)[k]

    def wait(self, rank, k, least, what='', stop=never):
        mark = self.mark(flight.TICKET if k == ticket.SERVED else flight.AWAIT, rank, least)
        tic, value = perf_counter(), self.fetched(rank, k, 0, MPI.NO_OP)
        while value < least and not stop():
            self.comm.advance()
            sleep(BACK_OFF)
            value = self.fetched(rank, k, 0, MPI.NO_OP)
        late = perf_counter() - tic
        flight.end(mark)
        self.comm.charge(seconds=late, waited=late)
        return value

    @contextmanager
    def lock(self, ranks, turns=None, stop=never):
        with super().lock(ranks, turns, stop) as tickets, flight.holding(self.comm.members[r] for r in tickets):
            yield tickets

    def mark(self, kind, rank, n=0):
        """Begin a verb on the part of `rank` in the flight recorder."""
        return flight.begin(kind, self.comm.number, flight.pack((rank,)), n)

    def sync(self):
        self.win.Sync()

    def close(self):
        if self.own is None:
            return
        super().close()
        self.comm.barrier()  # what follows blocks: whoever is behind must have finished what he needs us for
        self.win.Unlock_all()
        self.win.Free()
        self.comm.exposed.remove(self)


def lines(nbytes):
    """Rounded up to whole cache lines."""
    return -(-nbytes//LINE)*LINE


def create(mpi, nbytes):
    try:
        win = MPI.Win.Allocate(nbytes, 1, comm=mpi)
    except (MPI.Exception, MemoryError, OverflowError) as e:
        raise BadInput(f'MPI gives no window of {nbytes/1e6:,.0f} MB ({str(e).splitlines()[0]}); use a smaller model, '
                       'or a synchronous algorithm') from None
    if win.Get_attr(MPI.WIN_MODEL) != MPI.WIN_UNIFIED:
        raise BadInput('this MPI keeps two copies of a window\'s memory (MPI_WIN_SEPARATE); use a synchronous '
                       'algorithm, or MPICH 5 or Open MPI 5')
    return win


def require_shm(comm, nbytes):
    """Raise BadInput on every learner if /dev/shm of some machine is too small for what its learners ask for.

    The library takes the memory of a window from there where a machine has several learners, and says nothing if there
    is too little: whoever writes first dies of SIGBUS.
    """
    asked = comm.allgather((nbytes + SLACK, free()))
    for machine in sorted(set(comm.machines)):
        here = [rank for rank in range(comm.size) if comm.machines[rank] == machine]
        need, there = sum(asked[rank][0] for rank in here), min(asked[rank][1] for rank in here)
        if len(here) > 1 and need > there:
            raise AgreedBadInput(f'the windows of {len(here)} ranks on the machine of rank {here[0]} need '
                                 f'{need/1e6:,.1f} MB in {SHM}, {there/1e6:,.1f} MB are free; enlarge it (docker run '
                                 f'--shm-size, or mount -o remount,size=... {SHM}), delete what killed jobs left '
                                 'there, start fewer ranks per machine, or use a synchronous algorithm')


def free():
    """Bytes that are free in /dev/shm; infinite where there is none."""
    try:
        return shutil.disk_usage(SHM).free
    except OSError:
        return math.inf
