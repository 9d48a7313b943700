"""One row of figures from the times of all ranks."""

import numpy as np
from mpi4py import MPI

PERCENTILES = 50, 90, 99


def summary(comm, seconds, timed, scale=1.0):
    """Times in microseconds, times `scale`; the same on every rank.

    mean_us        over the runs and over the ranks whose time counts (OSU's average)
    min_us, max_us the mean of the quickest rank, and of the slowest one
    p50_us ...     percentiles over the runs of the slowest rank in each
    worst_us       the longest run
    """
    count = max(comm.allgather(len(seconds)))
    slowest = np.full(count, -np.inf)
    if timed:
        slowest[:] = seconds
    comm.mpi.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
    means = [mean for mean in comm.allgather(float(np.mean(seconds)) if timed else None) if mean is not None]
    unit = 1e6*scale
    found = {'iterations': count, 'mean_us': unit*float(np.mean(means)), 'min_us': unit*min(means),
             'max_us': unit*max(means), 'worst_us': unit*float(slowest.max())}
    return found | {f'p{p}_us': unit*float(q) for p, q in zip(PERCENTILES, np.percentile(slowest, PERCENTILES),
                                                              strict=True)}
