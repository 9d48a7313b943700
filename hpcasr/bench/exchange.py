"""The time of exchanging one whole vector, beside that of copying it on the same machine at the same time."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from time import perf_counter

import numpy as np

from hpcasr.algorithms.topology import get_topology
from hpcasr.bench.paired import order, ratio
from hpcasr.bench.table import table
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import cuts
from hpcasr.errors import BadInput
from hpcasr.model.network import parameters

DTYPE = np.dtype('float32')
HIGHEST = 1000  # of the integers that are exchanged to check: float32 sums those of 16,000 ranks exactly
VECTORS = 7  # of a learner: two that are exchanged, two that are copied, an inbox of two, one to compare with
WARM_UP = 2  # rounds that do not count
COLUMNS = {'name': ('way', ''), 'ms': ('ms', '.3f'), 'min_ms': ('min', '.3f'), 'copies': ('copies', '.2f'),
           'low': ('low', '.2f'), 'high': ('high', '.2f'), 'algbw': ('algbw GB/s', '.2f'),
           'busbw': ('busbw GB/s', '.2f'), 'megabytes': ('MB sent', '.2f')}


@dataclass
class Trial:
    """nbytes of the vector, None: of the model's with so many features `dim` and `targets`; repeats of every way."""

    nbytes: int | None = None
    dim: int = 40
    targets: int = 72
    repeats: int = 31


@dataclass
class Way:
    """One exchange of the vector `x`.

    run      run() -> vectors received, [] for a sum, which is left in `x`
    peers    who sends these vectors; None: `x` is the sum over all
    factor   bus bandwidth over algorithm bandwidth, as in nccl-tests: of an allreduce 2(L − 1)/L, and of vectors sent
             to peers 1 each: what the link of a rank carries does not depend on the number of ranks
    """

    name: str
    x: np.ndarray
    run: Callable
    peers: list | None
    factor: float


def bench(comm, config, trial, progress=iter):
    """The figures, a dict, the same on every rank, after the answers were checked.

    Raises BadInput, and Wrong for an answer that is not right, on all ranks alike.
    """
    comm.compare(config.flat() | vars(trial))
    comm.together(comm.arrange, config.exchange.node_size)
    n = comm.together(entries, config.model, trial, comm.size)
    found = ways(comm, n)
    check(comm, found)
    seconds = measure(comm, found, trial.repeats, progress)
    sent = count(comm, found)
    check(comm, found)
    copies = seconds[:, -1]
    return {'entries': n, 'bytes': n*DTYPE.itemsize, 'ranks': comm.size, 'nodes': len(set(comm.nodes)),
            'library': comm.library, 'repeats': trial.repeats, 'copy_ms': 1e3*float(np.median(copies)),
            'copy_gb_per_second': n*DTYPE.itemsize/float(np.median(copies))/1e9,
            'ways': [row(way, n*DTYPE.itemsize, seconds[:, k], copies, sent[k]) for k, way in enumerate(found)]}


def entries(model, trial, ranks):
    """Of the vector.  Raises BadInput where there is no memory for it."""
    n = trial.nbytes//DTYPE.itemsize if trial.nbytes else sum(map(prod, shapes(model, trial)))
    needed, there = ranks*VECTORS*n*DTYPE.itemsize, os.sysconf('SC_PHYS_PAGES')*os.sysconf('SC_PAGE_SIZE')
    if needed > there:
        raise BadInput(f'{ranks} rank{"s"[:ranks > 1]} with vectors of {n*DTYPE.itemsize/1e9:.1f} GB need '
                       f'{needed/1e9:.0f} GB, this machine has {there/1e9:.0f} GB; give a smaller --model or --size')
    return n


def shapes(model, trial):
    return parameters(model, trial.dim, trial.targets).values()


def ways(comm, n):
    """[Way] of all exchanges that algorithms use."""
    shared = comm.shared(n, DTYPE)
    own, L = np.zeros(n, DTYPE), comm.size
    ring, twice, one = get_topology('ring', L).receivers(comm.rank), 2*(L - 1)/L, np.array([0] + [n]*L)
    near = comm.neighbourhood(ring, ring)
    return [Way(f'sum: {comm.road}', shared, summed(comm.start_sum, shared), None, twice),
            Way('sum: messages', own, summed(comm.start_sum, own), None, twice),
            Way('sum: MPI\'s own', own, summed(comm.start_library_sum, own), None, twice),
            Way('sum: a server per rank', own, lambda: through_servers(comm, own, cuts(n, L)), None, twice),
            Way('sum: one server', own, lambda: through_servers(comm, own, one), None, twice),
            Way('ring: neighbourhood', own, lambda: near(own)(), ring, len(ring)),
            Way('ring: messages', own, lambda: comm.start_exchange(own, ring, ring)(), ring, len(ring))]


def summed(start, x):
    return lambda: start(x)() or []


def through_servers(comm, x, bounds):
    """Slice k of the sum is made by rank k, and comes back from it, as with a sharded parameter server."""
    comm.start_sum_slices(x, bounds)()
    comm.share_slices(x, bounds)
    return []


def check(comm, ways):
    """Exchange integers, which add up exactly, and compare every entry.  Raises Wrong."""
    for way in ways:
        way.x[:] = vector(comm.rank, way.x.size)
        received = way.run()
        mine = sum(int((got != want).sum()) for got, want in zip(received or [way.x], wanted(comm, way), strict=True))
        wrong = sum(comm.allgather(mine))
        if wrong:
            raise Wrong(f'{way.name}: {wrong:,} entries of {way.x.size:,} are wrong; not timed')
        way.x[:] = 0  # sums of it stay finite


def vector(rank, n):
    """What rank number `rank` gives away: [n] integers."""
    return np.random.default_rng(rank).integers(-HIGHEST, HIGHEST + 1, n).astype(DTYPE)


def wanted(comm, way):
    """The vectors that should have come, or the sum, one after the other."""
    if way.peers:
        yield from (vector(peer, way.x.size) for peer in way.peers)
    else:  # of nobody, or of everybody
        yield total(range(comm.size), way.x.size) if way.peers is None else vector(comm.rank, way.x.size)


def total(ranks, n):
    found = np.zeros(n, DTYPE)
    for rank in ranks:
        found += vector(rank, n)
    return found


def measure(comm, ways, repeats, progress):
    """[repeats, ways + 1] seconds of the slowest rank; the last column is a copy of the vector by every rank."""
    x = np.ones_like(ways[0].x)  # written to: pages of np.zeros that nobody wrote are one page of zeros
    copy = x.copy()
    works = [*(way.run for way in ways), lambda: np.copyto(copy, x)]
    mine = np.empty((WARM_UP + repeats, len(works)))
    for turn in progress(range(len(mine))):
        for k in order(len(works), turn):
            comm.barrier()
            tic = perf_counter()
            works[k]()
            mine[turn, k] = perf_counter() - tic
    return np.max(comm.allgather(mine[WARM_UP:]), axis=0)


def count(comm, ways):
    """[bytes] that the busiest rank sends, by the counters of Comm."""
    sent = []
    for way in ways:
        before = comm.bytes_sent
        way.run()
        sent.append(comm.bytes_sent - before)
    return np.max(comm.allgather(sent), axis=0).tolist()


def row(way, nbytes, seconds, copies, sent):
    """The figures of one way; seconds, copies [repeats]."""
    typical = float(np.median(seconds))
    paired = ratio(seconds, copies)
    return {'name': way.name, 'ms': 1e3*typical, 'min_ms': 1e3*float(seconds.min()), 'copies': paired['ratio'],
            'low': paired['low'], 'high': paired['high'], 'algbw': nbytes/typical/1e9,
            'busbw': way.factor*nbytes/typical/1e9, 'bytes_sent': sent}


def lines(found):
    """The figures as text."""
    yield (f'vector    {found["entries"]:,} float32, {found["bytes"]/1e6:.2f} MB; {found["ranks"]} '
           f'rank{"s"[:found["ranks"] > 1]}, {found["nodes"]} node{"s"[:found["nodes"] > 1]}, {found["library"]}')
    yield (f'copy      {found["copy_ms"]:.3f} ms, {found["copy_gb_per_second"]:.2f} GB/s in every rank, all at once '
           f'(bytes copied); medians of {found["repeats"]}')
    yield table([way | {'megabytes': way['bytes_sent']/1e6} for way in found['ways']], COLUMNS)
