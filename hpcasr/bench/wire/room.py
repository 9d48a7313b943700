"""Whether there is memory for a test, asked before any is taken."""

from collections import Counter

from hpcasr import cgroup
from hpcasr.bench.wire.sizes import MOST, doubled
from hpcasr.bench.wire.test import type_of
from hpcasr.comm import rma
from hpcasr.comm.memory import free
from hpcasr.errors import AgreedBadInput

SHARE = 0.5  # of the free memory, where the sizes are ours to choose


def sizes(comm, test, options):
    """The sizes of a test [bytes], the same on all ranks; by all of them together.

    Raises BadInput where the largest that was asked for does not fit, or none holds a whole entry.
    """
    limit = test.limit(comm, options)
    if test.fixed:
        return list(test.fixed)
    low, high = options.sizes
    itemsize, fits = type_of(test, options).itemsize, room(comm, test, options)
    if high is not None and high > fits:
        raise AgreedBadInput(f'{test.name} at {high/1e6:,.1f} MB needs {high/fits:.1f} times the free memory of a '
                             f'machine with {busiest(comm)} ranks; at most -m {int(fits)} fits')
    if high is not None and high > limit:
        raise AgreedBadInput(f'{test.name} at {high/1e6:,.1f} MB needs more than is free in {rma.SHM}; at most -m '
                             f'{max(int(limit), 0)} fits; enlarge it, or take --window create')
    most = high or int(min(MOST, SHARE*min(fits, limit)))
    if low > most:
        raise AgreedBadInput(f'{test.name}: where no MAX is given, sizes end at {max(most, 0)} bytes here (256M, '
                             f'or less where memory or {rma.SHM} is short); give -m MIN:MAX')
    found = doubled(low, most, itemsize)
    if not found:
        raise AgreedBadInput(f'{test.name}: no size from {low} to {most} bytes holds whole entries of '
                             f'{itemsize} bytes; sizes are -m MIN:MAX, doubled from MIN on')
    return found


def room(comm, test, options):
    """Bytes of the largest message for which every machine has the memory."""
    least = min(comm.allgather(min(free(), cgroup.limit())))
    return least/busiest(comm)/max(test.vectors(comm.size, options), 1)


def busiest(comm):
    """Ranks on the machine that has most."""
    return max(Counter(comm.machines).values())
