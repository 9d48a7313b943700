"""What all tests share."""

import math
from time import perf_counter

import numpy as np
from mpi4py import MPI

from hpcasr.comm.onesided import SUMMABLE
from hpcasr.errors import BadInput

WRONG = ('#wrong', 'wrong', 'd')
TIMES = ('P50 (us)', 'p50_us', '.2f'), ('P90 (us)', 'p90_us', '.2f'), ('P99 (us)', 'p99_us', '.2f')


class Test:
    """One test of `comm` at sizes up to `most` bytes.

    name, title   as on the command line; of the output
    columns       [(title, key of a row, format)], the first as in the OSU micro-benchmarks
    sums          whether entries are added up
    fixed         sizes [bytes] where they are given, else ()
    even          whether it takes an even number of ranks
    timed         whether this rank's time counts
    scale         seconds of a row over seconds of a run
    turns         {variable: value} by which this differs from others of the same name
    iterations    (up to 8 KiB, above), where nothing is said, as OSU's
    """

    name = title = ''
    columns, sums, fixed, even, scale, iterations = (), False, (), False, 1.0, (10_000, 1_000)
    active, bounded = True, False  # whether this rank takes part; whether sample() ends by itself after some time

    def __init__(self, comm, most, options):
        self.comm, self.options, self.most, self.turns = comm, options, most, {}
        self.dtype, self.timed, self.nbytes, self.n = type_of(type(self), options), True, 0, 0
        self.kind = MPI.Datatype.fromcode(self.dtype.char)
        self.allocate(most//self.dtype.itemsize)

    def array(self, n):
        return self.options.buffers.empty(n, self.dtype)

    # for each test to say

    def allocate(self, n):
        """Make buffers for n entries, by all ranks together."""

    def set(self, n):
        """Prepare run() for n entries."""

    def ready(self):
        """What comes before each run, not timed."""

    def run(self):
        """Once what is timed, on this rank."""

    def check(self, turn):
        """One transfer that is checked, on this rank: how many entries came wrong."""
        return 0

    def sent(self):
        """Arrays that this rank sends in a run, one after the other."""
        return []

    def received(self):
        return []

    def figures(self, row):
        """What else follows from the times in `row`: {key: value}."""
        return {}

    def close(self):
        """Give back what is not only memory, by all ranks together."""

    # for all

    def at(self, nbytes):
        """Take messages of so many bytes."""
        self.nbytes, self.n = nbytes, nbytes//self.dtype.itemsize
        self.set(self.n)
        self.once = self.options.buffers.around(self)

    def sample(self, count):
        """Seconds of `count` runs, a list; [] on a rank that takes no part."""
        found = []
        for _ in range(count if self.active else 0):
            self.ready()
            tic = perf_counter()
            self.once()
            found.append(perf_counter() - tic)
        return found

    def spec(self, x):
        """`x` as mpi4py takes it."""
        return [x, x.size, self.kind]

    @classmethod
    def require(cls, ranks, options):
        """Raise BadInput if there are too few ranks, an odd number where pairs are needed, or an unfit type."""
        if ranks < 2:
            raise BadInput(f'{cls.name} needs 2 ranks or more, this is one; mpirun -n 2 hpcasr bench {cls.name}')
        if cls.even and ranks % 2:
            raise BadInput(f'{cls.name} takes ranks in pairs and needs an even number of them, got {ranks}')
        type_of(cls, options)

    @classmethod
    def limit(cls, comm, options):
        """Bytes of the largest message for which there is what else than memory may be short.  Raises BadInput."""
        return math.inf

    @classmethod
    def vectors(cls, ranks, options):
        """How many times the largest size each of so many ranks allocates."""
        return 2


def type_of(test, options):
    """The dtype; float32 for sums and bytes for the rest, where nothing is said.  Raises BadInput."""
    dtype = np.dtype(options.type or ('float32' if test.sums else 'uint8'))
    if test.sums and dtype.char not in SUMMABLE:
        raise BadInput(f'{test.name} adds up; -T {dtype} is not for sums, choose int32, int64, float32 or float64')
    return dtype


def rate(nbytes, microseconds):
    """MB/s, MB = 1e6 bytes."""
    return nbytes/microseconds
