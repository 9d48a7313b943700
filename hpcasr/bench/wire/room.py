"""Whether there is memory for a test, asked before any is taken."""

from collections import Counter

from hpcasr.bench.wire.sizes import MOST, doubled
from hpcasr.bench.wire.test import type_of
from hpcasr.comm.memory import free
from hpcasr.errors import AgreedBadInput

SHARE = 0.5  # of the free memory, where the sizes are ours to choose


def sizes(comm, test, options):
    """The sizes of a test [bytes], the same on all ranks; by all of them together.

    Raises BadInput where the largest that was asked for does not fit, or none holds a whole entry.
    """
    if test.fixed:
        return list(test.fixed)
    low, high = options.sizes
    itemsize, fits = type_of(test, options).itemsize, room(comm, test, options)
    if high is not None and high > fits:
        raise AgreedBadInput(f'{test.name} at {high/1e6:,.1f} MB needs {high/fits:.1f} times the free memory of a '
                             f'machine with {busiest(comm)} ranks; at most -m {int(fits)} fits')
    found = doubled(low, high or min(MOST, SHARE*min(fits, test.limit(comm, options)/busiest(comm))), itemsize)
    if not found:
        raise AgreedBadInput(f'{test.name}: no size from {low} to {high or MOST} bytes holds whole entries of '
                             f'{itemsize} bytes; sizes are -m MIN:MAX, doubled from MIN on')
    return found


def room(comm, test, options):
    """Bytes of the largest message for which every machine has the memory."""
    least = min(comm.allgather(free()))
    return least/busiest(comm)/max(test.vectors(comm.size, options), 1)


def busiest(comm):
    """Ranks on the machine that has most."""
    return max(Counter(comm.machines).values())
