"""The first rank reaches into the memory of the last one, which is idle or computes.

put_latency get_latency acc_latency put_bw get_bw acc_bw fop_latency cas_latency ticket
"""

import math
from time import perf_counter

import numpy as np

from hpcasr.bench.wire import pattern
from hpcasr.bench.wire.access import PASSIVE, get_access
from hpcasr.bench.wire.pairs import Pair
from hpcasr.bench.wire.test import TIMES, WRONG, rate
from hpcasr.comm import rma
from hpcasr.errors import AgreedBadInput, BadInput

BUSY, SPAN = 0.2, 0.1  # seconds: the target computes, and in this part of them a reach may begin
SQUARE = 192  # rows of the matrices that it multiplies, some 0.3 ms each
DRAWS = 10  # of a counter, checked at once


class OneSided(Pair):
    """A reach of pair rank 0 into the part of rank 1, `verb` being put, get or add."""

    columns = ('Latency (us)', 'mean_us', '.2f'), *TIMES, WRONG
    verb, window = '', 1

    @classmethod
    def require(cls, ranks, options):
        super().require(ranks, options)
        if options.kind != 'numpy':
            raise BadInput(f'{cls.name}: one-sided calls take no device memory; leave -d out')
        if options.target == 'computing' and options.sync not in PASSIVE:
            raise BadInput(f'--sync {options.sync} needs the target\'s own calls, so it cannot compute meanwhile; take '
                           '--sync lock or lock_all, or --target idle')

    @classmethod
    def limit(cls, comm, options):
        """MPI takes the memory of a window from /dev/shm, where both of its ranks are on one machine."""
        free = min(comm.allgather(rma.free()))
        together = comm.machines[0] == comm.machines[-1]
        if options.window_kind == 'shared' and not together:
            raise AgreedBadInput(f'{cls.name}: --window shared is memory of one machine, the first rank and the last '
                                 'are on two; leave shared out')
        return math.inf if options.window_kind == 'create' or not together else free/2 - 2*rma.SLACK

    def reserve(self, n):
        o = self.options
        self.access = get_access(self.pair, o.window_kind, o.sync, n, self.dtype, o.plain)
        self.x = self.array(n)

    def allocate(self, n):
        super().allocate(n)
        self.turns = {'window': self.options.window_kind, 'sync': self.options.sync, 'target': self.options.target}
        self.bounded = self.options.target == 'computing'

    def set(self, n):
        if self.active:
            self.vector = self.x[:n]
            self.reach = self.access.verb(self.verb, self.vector)

    def work(self):
        reach = self.reach
        for _ in range(self.window):
            reach()

    def run(self):
        if self.first:
            self.access.epoch(self.work)
        else:
            self.access.partner()

    def sample(self, count):
        """Seconds of up to `count` runs, [0 or more], on the origin; else []."""
        if not self.active:
            return []
        if self.bounded:
            return self.while_computing(count)
        found = self.timed_runs(count) if self.first else self.stand_by(count)
        self.pair.mpi.Barrier()  # the target is inside MPI all the time
        return found

    def timed_runs(self, count, end=np.inf):
        found, tic = [], perf_counter()
        while len(found) < count and tic < end:
            self.run()
            toc = perf_counter()
            found.append(toc - tic)
            tic = toc
        return found

    def stand_by(self, count):
        if self.options.sync not in PASSIVE:
            for _ in range(count):
                self.run()
        return []

    def while_computing(self, count):
        """The origin's runs that begin while the target, which has just left a barrier, calls nothing."""
        self.pair.mpi.Barrier()
        now = perf_counter()
        found = self.timed_runs(count, now + SPAN) if self.first else compute(now + BUSY)
        self.pair.mpi.Barrier()
        return found

    def check(self, turn):
        if not self.active:
            return 0
        pattern.fill(self.vector, self.pair.rank, turn)
        with self.access.exposed():
            self.prepare(turn)
        self.pair.mpi.Barrier()
        self.run()
        self.pair.mpi.Barrier()
        with self.access.exposed():
            return self.bad(turn)

    def prepare(self, turn):
        self.access.own[:self.n] = pattern.UNTOUCHED

    def bad(self, turn):
        """What came into the target's part; the origin's own must be as it was."""
        if self.first:
            return int((self.access.own[:self.n] != pattern.UNTOUCHED).sum())
        return pattern.wrong(self.access.own[:self.n], [0], turn)

    def close(self):
        if self.active:
            self.access.close()


def compute(end):
    """Multiply matrices until then, without calling MPI."""
    a, b = np.random.default_rng(0).standard_normal((2, SQUARE, SQUARE)).astype(np.float32)
    out = np.empty_like(a)
    while perf_counter() < end:
        np.matmul(a, b, out=out)
    return []


class Put(OneSided):
    name, title, verb = 'put_latency', 'MPI_Put Latency Test', 'put'


class Get(OneSided):
    name, title, verb = 'get_latency', 'MPI_Get Latency Test', 'get'

    def prepare(self, turn):
        pattern.fill(self.access.own[:self.n], self.pair.rank, turn)
        self.vector[:] = pattern.UNTOUCHED

    def bad(self, turn):
        return pattern.wrong(self.vector, [1], turn) if self.first else 0


class Accumulate(OneSided):
    name, title, verb, sums = 'acc_latency', 'MPI_Accumulate Latency Test', 'add', True

    def prepare(self, turn):
        self.access.own[:self.n] = 0

    def bad(self, turn):
        wrong = pattern.wrong(self.access.own[:self.n], [0], turn, times=0 if self.first else self.window)
        self.access.own[:self.n] = 0
        if self.first:
            self.vector[:] = 0  # sums of it stay finite
        return wrong


class Windows:
    """`-W` reaches in one epoch."""

    iterations = 100, 20
    columns = ('Bandwidth (MB/s)', 'mb_s', '.2f'), *TIMES, WRONG

    def set(self, n):
        super().set(n)
        self.window = self.options.window

    def figures(self, row):
        carried = self.window*row['size']
        return {'mb_s': rate(carried, row['mean_us']), 'p50_mb_s': rate(carried, row['p50_us']),
                'messages_s': 1e6*self.window/row['mean_us']}


class PutBandwidth(Windows, Put):
    name, title = 'put_bw', 'MPI_Put Bandwidth Test'


class GetBandwidth(Windows, Get):
    name, title = 'get_bw', 'MPI_Get Bandwidth Test'


class AccumulateBandwidth(Windows, Accumulate):
    name, title = 'acc_bw', 'MPI_Accumulate Bandwidth Test'


class Counter(OneSided):
    """Draws of a number, one after the other: 8 bytes."""

    fixed = 8,

    def run(self):
        if self.first:
            self.drawn.append(self.draw())
            del self.drawn[:-DRAWS]
        else:
            self.access.partner()

    def set(self, n):
        self.drawn, self.last = [], 0

    def check(self, turn):
        """Every draw is 1 more than the one before."""
        if not self.active:
            return 0
        self.drawn = self.drawn[-1:]
        for _ in range(DRAWS):
            self.run()
        return int((np.diff(self.drawn) != 1).sum())


class FetchAndOp(Counter):
    name, title = 'fop_latency', 'MPI_Fetch_and_op Latency Test'

    def draw(self):
        return self.access.fetch_add()


class CompareAndSwap(Counter):
    name, title = 'cas_latency', 'MPI_Compare_and_swap Latency Test'

    def draw(self):
        found = self.access.swap(self.last, self.last + 1)
        self.last += 1
        return found


class Ticket(Counter):
    """The lock of training's windows, taken and given back by one rank."""

    name, title = 'ticket', 'hpcasr Ticket Lock Latency Test (the lock of training)'

    @classmethod
    def require(cls, ranks, options):
        super().require(ranks, options)
        if (options.window_kind, options.sync) != ('allocate', 'lock_all'):
            raise BadInput('ticket is the lock of training\'s windows: --window allocate --sync lock_all')

    def draw(self):
        return self.access.ticket()
