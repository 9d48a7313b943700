"""The times of one test at one size: checked, warmed up, as many runs as a time cap allows, checked again."""

from time import perf_counter

import numpy as np
from mpi4py import MPI

from hpcasr.bench.wire.statistics import summary

SMALL = 8192  # bytes up to which OSU runs more
WARM_SHARE = 0.1  # of the cap, for runs that do not count


def measure(test, nbytes, options, turn):
    """One row, the same on every rank; by all of them together.  turn  a number that no other size had"""
    test.at(nbytes)
    wrong = check(test, 2*turn)
    most = options.iterations or test.iterations[nbytes > SMALL]
    warm = most//10 if options.warm_up is None else options.warm_up
    sample(test, warm, WARM_SHARE*options.cap)
    found = summary(test.comm, sample(test, most, options.cap), test.timed, test.scale)
    wrong = [a + b for a, b in zip(wrong, check(test, 2*turn + 1), strict=True)]
    row = {'test': test.name, **test.turns, 'buffers': options.kind, 'type': test.dtype.name, 'size': nbytes, **found}
    row |= test.figures(row)
    return row | {'wrong': sum(wrong), 'wrong_ranks': [rank for rank, n in enumerate(wrong) if n]}


def check(test, turn):
    """[L] entries that came wrong on every rank, in one transfer that is not timed; 0 where that is not wanted."""
    test.comm.barrier()
    return test.comm.allgather(test.check(turn) if test.options.validate else 0)


def sample(test, most, cap):
    """Seconds of `most` runs, or of those that fit into `cap` seconds: one at least.  [N], [] where nothing is timed.

    Runs come in blocks, each at most twice the one before, between which all ranks agree whether to go on.
    """
    found, spent, done, count = [], 0.0, 0, most if test.bounded else 1
    while done < most and count:
        tic = perf_counter()
        block = test.sample(count)
        found += block
        took, ran = agree(test.comm, perf_counter() - tic, len(block))
        spent, done = spent + took, done + max(ran, 1)
        count = following(test, count, most - done, (cap - spent)/took, max(ran, 1))
    return np.array(found)


def following(test, count, left, again, ran):
    """Runs of the next block; the last one made `ran`, and its time fits `again` times into what is left of the cap."""
    return left*(again >= 1) if test.bounded else max(0, min(2*count, left, int(again*ran)))


def agree(comm, seconds, runs):
    """The largest of both numbers; ranks that wait sleep meanwhile."""
    comm.barrier()
    found = np.array([seconds, runs], float)
    comm.mpi.Allreduce(MPI.IN_PLACE, found, MPI.MAX)
    return float(found[0]), int(found[1])
