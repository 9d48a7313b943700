"""One-sided exchange: does it keep its promises, and does it go on while its target computes?"""

import os
from time import perf_counter

import numpy as np

from hpcasr.comm import selftest
from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.mpi import USE

NAME = 'one-sided progress'
TRIES, WAITS = 3, 0.05  # turns; seconds that are no wait for a core, but for the target
START, SPAN, BUSY = 0.05, 0.2, 0.35  # seconds: until rank 0 starts, for how long; of compute
SQUARE = 192  # rows of the matrices that are multiplied, some 0.3 ms each
ALONE = 'one rank, so nothing to try; mpirun -n 2 hpcasr doctor tries it'


def rma(comm, job):
    """The self-test of asynchronous algorithms."""
    if job.size == 1:
        return ok('one-sided exchange', ALONE)
    failures = [why for library, why in selftest.CRASHES.items() if job.library.startswith(library)]
    failures = failures or selftest.tried(comm)
    if failures:
        return error('one-sided exchange', '; '.join(failures), USE)
    return ok('one-sided exchange', 'sums, fetch-and-add, compare-and-swap and the lock are right')


def progress(comm, job):
    """Rank 0 adds to a counter of a rank that multiplies matrices and does not call MPI."""
    if job.size == 1:
        return ok(NAME, ALONE)
    if job.library.startswith(tuple(selftest.CRASHES)):
        return warning(NAME, 'not tried with a library that crashes', USE)
    return [judge(where, *reach(comm, target)) for where, target in targets(comm.nodes).items()]


def targets(machines):
    """{where, in words: the last rank there}, of one rank on the machine of rank 0 and of one elsewhere."""
    return {'on its own machine' if machine == machines[0] else 'on another machine': rank
            for rank, machine in enumerate(machines) if rank}


def reach(comm, target):
    """(seconds of an operation of rank 0, median of some turns; whether other processes may be in its way)."""
    window = comm.window(1, np.float32, 1)
    seconds = []
    for _ in range(TRIES):
        comm.barrier()  # no flag instead of it: rank 0 could not read one where nothing moves while the target computes
        if comm.rank == target:
            compute()
        if comm.rank == 0:
            comm.sleep(START)
            seconds.append(timed(window, target))
    comm.barrier()
    window.close()
    return float(np.median(seconds or [0])), crowded(comm)


def compute():
    """Multiply matrices without calling MPI."""
    a, b = np.random.default_rng(0).standard_normal((2, SQUARE, SQUARE)).astype(np.float32)
    end = perf_counter() + BUSY
    while perf_counter() < end:
        a @ b


def timed(window, target):
    """Median of the seconds of fetch-and-add while the target computes."""
    end, seconds = perf_counter() + SPAN, []
    while (tic := perf_counter()) < end:
        window.fetch_add(target, 0, 1)
        seconds.append(perf_counter() - tic)
    return float(np.median(seconds))


def crowded(comm):
    return comm.nodes.count(comm.nodes[0]) > len(os.sched_getaffinity(0))


def judge(where, seconds, crowd):
    found = f'a fetch-and-add takes {1e3*seconds:.3g} ms while its target {where} computes'
    if seconds < WAITS:
        return ok(NAME, found)
    if crowd:
        return warning(NAME, f'{found}; more ranks than cores, so this may be a wait for a core',
                       'start no more ranks than cores and look again')
    return warning(NAME, f'{found}: the library waits until the target calls it',
                   'train asynchronously with --progress thread; on one machine MPICH 5 and Open MPI 5 need none')
