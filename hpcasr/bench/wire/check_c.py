"""The same calls from Python, from C and from mpi4py.bench: alternating blocks, and the median of each block."""

import statistics
from unittest import mock

import numpy as np

from hpcasr.bench.paired import interval, order, ratio
from hpcasr.bench.table import table
from hpcasr.bench.wire import plain_c, room
from hpcasr.bench.wire.catalog import TESTS
from hpcasr.bench.wire.onesided import OneSided
from hpcasr.bench.wire.verdict import Failed
from hpcasr.errors import BadInput

LARGE, SHARE, CALL_US = 65536, 0.05, 2.0  # bytes; of the time, from there on; of Python's calls, below
WARM_UP = 1  # blocks that do not count
COLUMNS = {'test': ('test', ''), 'size': ('size', ','), 'other': ('against', ''), 'us': ('us', '.3f'),
           'other_us': ('its us', '.3f'), 'ratio': ('ratio', '.3f'), 'low': ('low', '.3f'), 'high': ('high', '.3f'),
           'more_us': ('us a call', '.3f'), 'verdict': ('', '')}


def check(comm, names, options, blocks, count, say):
    """Compare the tests among `names` that have a loop in C; `blocks` of `count` runs each.  Rows, same on all ranks.

    Raises BadInput where there is no compiler, and Failed where the difference is beyond SHARE or CALL_US.
    """
    chosen = [name for name in names if name in plain_c.LOOPS]
    if not chosen:
        raise BadInput(f'--check-c knows {", ".join(plain_c.LOOPS)}')
    library = comm.together(plain_c.load)
    rows = [row for name in chosen for row in compare(comm, TESTS[name], options, library, blocks, count)]
    comm.first(say, table(rows, COLUMNS))
    if failed := [row for row in rows if row['verdict'] == 'differs']:
        worst = failed[0]
        raise Failed(f'{len(failed)} of {len(rows)} comparisons differ by more than {SHARE:.0%} (from {LARGE:,} bytes '
                     f'on) or {CALL_US:g} us a call, the first is {worst["test"]} at size {worst["size"]}')
    return rows


def compare(comm, cls, options, library, blocks, count):
    """The rows of one test at all its sizes."""
    comm.together(require, cls, comm.size, options)
    sizes = room.sizes(comm, cls, options)
    test = comm.together(cls, comm, sizes[-1], options)
    for nbytes in sizes:
        test.at(nbytes)
        works = ways(test, library) if test.active else {}
        medians = alternate(comm, works, test, blocks, min(count, limited(nbytes, options)))
        if test.timed:
            mine = [row(test, name, medians['python'], medians[name]) for name in medians if name != 'python']
        else:
            mine = None
        yield from comm.allgather(mine)[0]
    test.close()


def require(cls, ranks, options):
    cls.require(ranks, options)
    if options.kind != 'numpy' or options.sync != 'lock_all':
        raise BadInput('--check-c compares NumPy buffers, and windows with --sync lock_all')


def limited(nbytes, options):
    """Runs of a block: fewer of large messages."""
    return max(3, 2**28//max(nbytes*options.window, 1))


def ways(test, library):
    """{name: run(count) -> seconds [count]} on this rank."""
    found = {'python': lambda count: np.array(test.sample(count))}
    handle, x, y = operands(test)
    found['C'] = synchronized(test, plain_c.loop(library, test.name, handle, x, y, test.options.window))
    if test.name == 'latency':
        found['mpi4py.bench'] = lambda count: pingpong(test.mpi, test.nbytes, count)
    return found


def operands(test):
    if isinstance(test, OneSided):
        return test.access.win, test.vector, None
    into = test.into[0] if test.into else None
    return test.mpi, test.out[0], into


def synchronized(test, run):
    """A loop of one-sided calls is that of the origin; the target waits inside MPI."""
    if not isinstance(test, OneSided):
        return run

    def origin(count):
        found = run(count) if test.first else np.empty(0)
        test.pair.mpi.Barrier()
        return found
    return origin


def pingpong(mpi, nbytes, count):
    """[1] there and back, of `python -m mpi4py.bench pingpong`: the median, where by itself it takes the mean."""
    from mpi4py import bench
    size, number = str(nbytes), str(count)
    args = ['-q', '-m', size, '-n', size, '-s', '0', '-l', number, '--loop-large', number, '--loop-huge', number]
    with mock.patch.object(statistics, 'mean', statistics.median):
        (_, median, _), = bench.pingpong(mpi, args, False)
    return np.array([2*median])  # it tells half the time of there and back


def alternate(comm, works, test, blocks, count):
    """{name: medians [blocks] in seconds} of this rank; the order is drawn anew for every round."""
    names, found = list(works), {name: [] for name in works}
    for turn in range(WARM_UP + blocks):
        comm.barrier()
        for k in order(len(names), turn) if names else ():
            seconds = works[names[k]](count)
            found[names[k]].append(float(np.median(seconds)) if len(seconds) else np.nan)
    return {name: np.array(medians[WARM_UP:]) for name, medians in found.items()}


def row(test, name, ours, others):
    """ours, others [blocks] seconds."""
    more = 1e6*test.scale*(ours - others)/calls(test)
    low, high = interval(more)
    pairs = ratio(ours, others)
    found = verdict(*(pairs[k] for k in ('ratio', 'low', 'high')), 1 - SHARE, 1 + SHARE) if test.nbytes >= LARGE else \
        verdict(float(np.median(more)), low, high, -np.inf, CALL_US)
    return {'test': test.name, 'size': test.nbytes, 'other': name, 'us': 1e6*test.scale*float(np.median(ours)),
            'other_us': 1e6*test.scale*float(np.median(others)), **pairs, 'more_us': float(np.median(more)),
            'more_low': low, 'more_high': high, 'verdict': found}


def calls(test):
    """MPI calls of one turn on the origin, over which Python's cost is spread; a wait counts as one."""
    return test.options.window + 2 if test.name == 'bw' else 1 + isinstance(test, OneSided)


def verdict(typical, low, high, least, most):
    """Whether a median with its interval lies between bounds."""
    if least <= typical <= most:
        return 'ok'
    return 'unclear' if low <= most and high >= least else 'differs'
