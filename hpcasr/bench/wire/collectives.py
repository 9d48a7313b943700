"""All ranks at once: allreduce reduce_scatter allgather alltoall bcast barrier iallreduce, and our own sum_ordered.

The size is OSU's: of the buffer of a rank for allreduce, reduce_scatter and bcast, of what goes to or comes from each
rank for allgather and alltoall.  Algorithm and bus bandwidth are those of nccl-tests.
"""

from statistics import median
from time import perf_counter

import numpy as np

from hpcasr.bench.wire import pattern
from hpcasr.bench.wire.test import TIMES, WRONG, Test
from hpcasr.comm.base import cuts

SQUARE = 48  # rows of the matrices of iallreduce's compute, some microseconds each


class Collective(Test):
    """All ranks, behind a barrier before every run.

    factor(L)  bus bandwidth over algorithm bandwidth;  whole(L)  nccl-tests' size over OSU's
    """

    columns = (('Avg Latency(us)', 'mean_us', '.2f'), ('Min Latency(us)', 'min_us', '.2f'),
               ('Max Latency(us)', 'max_us', '.2f'), *TIMES, ('algbw (GB/s)', 'algbw_gb_s', '.4f'),
               ('busbw (GB/s)', 'busbw_gb_s', '.4f'), WRONG)
    iterations = 1000, 100

    def allocate(self, n):
        L = self.comm.size
        self.mpi, self.L, self.rank = self.comm.mpi.Dup(), L, self.comm.rank
        self.x, self.y = (self.array(k*n) if k else None for k in self.lengths(L))

    @staticmethod
    def lengths(L):
        """Vectors that are sent, and that are received."""
        return 1, 1

    @classmethod
    def vectors(cls, ranks, options):
        return sum(cls.lengths(ranks))

    def set(self, n):
        self.out, self.into = (x is not None and self.spec(x[:k*n])
                               for x, k in zip((self.x, self.y), self.lengths(self.L), strict=True))

    def sent(self):
        return [self.out[0]]

    def received(self):
        return [self.into[0]]

    def ready(self):
        self.mpi.Barrier()

    def check(self, turn):
        pattern.fill(self.out[0], self.rank, turn)
        self.into[0][:] = pattern.UNTOUCHED
        self.run()
        return self.bad(turn)

    def bad(self, turn):
        return pattern.wrong(self.into[0], range(self.L), turn)

    def factor(self, L):
        return (L - 1)/L

    def whole(self, L):
        return 1

    def figures(self, row):
        algbw = self.whole(self.L)*row['size']/row['mean_us']/1e3
        return {'algbw_gb_s': algbw, 'busbw_gb_s': self.factor(self.L)*algbw,
                'p50_mb_s': self.whole(self.L)*row['size']/row['p50_us']}

    def close(self):
        self.mpi.Free()


class Allreduce(Collective):
    """MPI's own sum, a new vector on every rank."""

    name, title, sums = 'allreduce', 'MPI Allreduce Latency Test', True

    def run(self):
        self.mpi.Allreduce(self.out, self.into)

    def factor(self, L):
        return 2*(L - 1)/L


class SumOrdered(Allreduce):
    """The sum of training, in rank order and in place: through memory that a node shares, where there is some."""

    name, title = 'sum_ordered', 'hpcasr sum_ordered Latency Test (the sum of training)'

    def allocate(self, n):
        self.mpi, self.L, self.rank = self.comm.mpi.Dup(), self.comm.size, self.comm.rank
        self.comm.arrange(0)
        self.x = self.y = self.comm.shared(n, self.dtype)
        self.turns = {'road': self.comm.road}

    def run(self):
        self.comm.sum_ordered(self.out[0])

    def check(self, turn):
        pattern.fill(self.out[0], self.rank, turn)
        self.run()
        bad = self.bad(turn)
        self.out[0][:] = 0  # sums of it stay finite
        return bad


class ReduceScatter(Collective):
    """Rank k gets the sum of slice k; the slices are as even as they can be."""

    name, title, sums = 'reduce_scatter', 'MPI Reduce_scatter Latency Test', True

    def set(self, n):
        super().set(n)
        bounds = cuts(n, self.L)
        self.counts, self.start = np.diff(bounds).tolist(), int(bounds[self.rank])
        self.into = self.spec(self.y[:self.counts[self.rank]])

    def run(self):
        self.mpi.Reduce_scatter(self.out, self.into, self.counts)

    def bad(self, turn):
        return pattern.wrong(self.into[0], range(self.L), turn, self.start)


class Allgather(Collective):
    """Everybody gets the vectors of all."""

    name, title = 'allgather', 'MPI Allgather Latency Test'

    @staticmethod
    def lengths(L):
        return 1, L

    def whole(self, L):
        return L

    def run(self):
        self.mpi.Allgather(self.out, self.into_each)

    def set(self, n):
        super().set(n)
        self.into_each = [self.into[0], n, self.kind]

    def bad(self, turn):
        return sum(pattern.wrong(self.part(rank), [rank], turn) for rank in range(self.L))

    def part(self, rank):
        return self.into[0][rank*self.n:(rank + 1)*self.n]


class Alltoall(Allgather):
    """Everybody gets a vector of each, which is for him alone."""

    name, title = 'alltoall', 'MPI All-to-All Personalized Exchange Latency Test'

    @staticmethod
    def lengths(L):
        return L, L

    def run(self):
        self.mpi.Alltoall(self.out_each, self.into_each)

    def set(self, n):
        super().set(n)
        self.out_each = [self.out[0], n, self.kind]

    def bad(self, turn):
        return sum(pattern.wrong(self.part(rank), [rank], turn, self.rank*self.n) for rank in range(self.L))


class Bcast(Collective):
    """From rank 0 to all."""

    name, title = 'bcast', 'MPI Broadcast Latency Test'

    @staticmethod
    def lengths(L):
        return 1, 0

    def factor(self, L):
        return 1.0

    def run(self):
        self.mpi.Bcast(self.out)

    def received(self):
        return self.sent() if self.rank else []

    def check(self, turn):
        self.out[0][:] = pattern.UNTOUCHED
        if self.rank == 0:
            pattern.fill(self.out[0], 0, turn)
        self.run()
        return pattern.wrong(self.out[0], [0], turn)


class Barrier(Collective):
    """Nobody goes on before all have come; what is checked is that it returns."""

    name, title, fixed = 'barrier', 'MPI Barrier Latency Test', (0,)
    columns = Collective.columns[:-3]  # no bandwidths, and nothing that could come wrong

    @staticmethod
    def lengths(L):
        return 0, 0

    def sent(self):
        return []

    received = sent

    def run(self):
        self.mpi.Barrier()

    def check(self, turn):
        self.run()
        return 0

    def figures(self, row):
        return {}


class Iallreduce(Allreduce):
    """A sum behind compute that takes as long as the sum alone: overlap is the share of it that costs nothing.

    Before every run, not timed with it: the sum alone, and the compute alone.
    """

    name, title = 'iallreduce', 'MPI Non-blocking Allreduce Latency Test'
    columns = (('Overall(us)', 'mean_us', '.2f'), ('Compute(us)', 'compute_us', '.2f'),
               ('Pure Comm.(us)', 'pure_us', '.2f'), ('Overlap(%)', 'overlap', '.2f'), *TIMES, WRONG)

    def set(self, n):
        super().set(n)
        self.a, self.b, self.c = np.ones((3, SQUARE, SQUARE), np.float32)
        self.alone, self.computing, self.products = [], [], 1

    def compute(self):
        for _ in range(self.products):
            np.matmul(self.a, self.b, out=self.c)

    def ready(self):
        self.alone.append(self.time(lambda: self.mpi.Iallreduce(self.out, self.into).Wait()))
        took = self.time(self.compute)
        self.computing.append(took)
        self.products = max(1, round(self.products*median(self.alone[-9:])/max(took, 1e-9)))
        self.mpi.Barrier()

    def time(self, work):
        self.mpi.Barrier()
        tic = perf_counter()
        work()
        return perf_counter() - tic

    def run(self):
        request = self.mpi.Iallreduce(self.out, self.into)
        self.compute()
        request.Wait()

    def figures(self, row):
        mine = [1e6*median(seconds or [0.0]) for seconds in (self.alone, self.computing)]
        pure, compute = np.max(self.comm.allgather(mine), axis=0).tolist()
        hidden = 1 - (row['p50_us'] - compute)/pure if pure else 0.0
        return super().figures(row) | {'pure_us': pure, 'compute_us': compute,
                                       'overlap': 100*min(max(hidden, 0.0), 1.0)}
