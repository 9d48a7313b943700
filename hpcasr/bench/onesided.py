"""What a reach into the memory of another rank costs, while that one computes and calls nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from hpcasr.bench.exchange import DTYPE, HIGHEST, WARM_UP, entries, vector
from hpcasr.bench.paired import interval, order, ratio
from hpcasr.bench.table import table
from hpcasr.bench.wrong import Wrong
from hpcasr.comm import selftest

BUSY, SPAN = 0.35, 0.25  # seconds: the target computes, and meanwhile the other one reaches into its part
SQUARE = 192  # rows of the matrices that it multiplies, some 0.3 ms each
TRIES = 20  # to find a stretch in which the target computed all the time
QUICK = 5  # as many repeats of what takes no time
TURNS = 20  # acquisitions of every rank, one after the other
FLAG, COUNT = range(2)  # counters: whether the target computes; what is added to
GOAL_MS, GOAL_SHARE = 0.5, 0.8  # of a small operation, the median; of the bandwidth of a copy
SMALL = {'name': ('operation', ''), 'ms': ('ms', '.4f'), 'low': ('low', '.4f'), 'high': ('high', '.4f'),
         'p95': ('95 %', '.4f'), 'longest': ('longest', '.3f'), 'count': ('times', ',')}
LARGE = {'name': ('whole vector', ''), 'ms': ('ms', '.3f'), 'gb_per_second': ('GB/s', '.2f'),
         'share': ('of copy', '.1%'), 'low': ('low', '.1%'), 'high': ('high', '.1%')}


@dataclass
class Trial:
    """nbytes of a whole vector, None: of the model with so many features `dim` and `targets`; repeats of everything."""

    nbytes: int | None = None
    dim: int = 40
    targets: int = 72
    repeats: int = 7


@dataclass
class Operation:
    """A small one: run(k) is the k-th; check(n) -> what is wrong after n of them, in words, or ''."""

    name: str
    run: Callable
    check: Callable


def bench(comm, config, trial, progress=iter):
    """The figures, a dict, the same on every rank, after the answers were checked.

    Raises BadInput, and Wrong for an answer that is not right, on all ranks alike.
    """
    comm.compare(config.flat() | vars(trial))
    comm.together(comm.arrange, config.exchange.node_size)
    n = comm.together(entries, config.model, trial, comm.size)
    comm.serve(config.exchange.progress)
    if not comm.simulated:
        selftest.run(comm)
    window = comm.window(n, DTYPE, 2)
    check_pull(comm, window)
    seconds = small(comm, window, trial.repeats, progress)
    hand_over, large = (f(comm, window, QUICK*trial.repeats) for f in (contention, pulls))
    check_pull(comm, window)
    window.close()
    return {'entries': n, 'bytes': n*DTYPE.itemsize, 'ranks': comm.size, 'machines': len(set(comm.nodes)),
            'library': comm.library, 'repeats': trial.repeats, 'progress': config.exchange.progress,
            'small': [summary(name, s) for name, s in seconds.items()],
            'hand_over': summary('lock to lock, all ranks at one', [[s] for s in hand_over]),
            'large': [share(name, n*DTYPE.itemsize, s) for name, s in large.items()]}


# a small operation while the target computes

def small(comm, window, repeats, progress):
    """{operation: [seconds of each, a list for every turn]}, of rank 0 on the part of the last rank, which computes."""
    mine = operations(window, comm.size - 1)
    seconds = {operation.name: [] for operation in mine}
    for turn in progress(range(repeats)):
        for k in order(len(mine), turn):
            seconds[mine[k].name].append(reach(comm, window, mine[k]))
    return seconds


def operations(window, target):
    """[Operation] on the part of `target`."""
    one, tickets, drawn = np.zeros(8//DTYPE.itemsize, DTYPE), [], []

    def lock(k):
        with window.lock([target]) as held:
            tickets.append(held[target])

    def put(k):
        one[:] = k % HIGHEST
        window.put(target, one)

    def right(good, what):
        return '' if good else what
    return [Operation('fetch-and-add', lambda k: drawn.append(window.fetch_add(target, COUNT, 1)),
                      lambda n: right(np.all(np.diff(drawn[-n:]) == 1), f'{n} draws are not consecutive')),
            Operation('get 8 bytes', lambda k: window.get(target, one), lambda n: ''),
            Operation('put 8 bytes', put, lambda n: right(came(window, target, (n - 1) % HIGHEST), 'the last is lost')),
            Operation('lock and unlock', lock,
                      lambda n: right(np.all(np.diff(tickets[-n:]) == 1), f'{n} tickets are not consecutive'))]


def came(window, target, value):
    found = np.empty(8//DTYPE.itemsize, DTYPE)
    window.get(target, found)
    return bool((found == value).all())


def reach(comm, window, operation):
    """Seconds of each of the operations of rank 0 while the last rank computes; the same on all ranks.

    A turn in which the target was done too early, because it got a core and rank 0 did not, is taken again.  Raises
    Wrong.
    """
    role = time_all if comm.rank == 0 else compute if comm.rank == comm.size - 1 else idle
    for _ in range(TRIES):
        comm.barrier()
        taken, wrong = comm.allgather(role(window, operation))[0]
        if wrong:
            raise Wrong(f'{operation.name}: {wrong}; not timed')
        if taken:
            return taken
    raise Wrong(f'{operation.name}: in {TRIES} turns rank 0 got no core of its own while the last rank computed; start '
                'no more ranks than this machine has cores')


def idle(_window, _operation):
    return None, ''


def compute(window, _operation):
    """Be the target: multiply matrices for a while without calling MPI."""
    a, b = np.random.default_rng(0).standard_normal((2, SQUARE, SQUARE)).astype(DTYPE)
    rank, out = window.comm.rank, np.empty_like(a)
    window.write(rank, FLAG, 1)
    end = perf_counter() + BUSY
    while perf_counter() < end:
        np.matmul(a, b, out=out)
    window.write(rank, FLAG, 0)
    return None, ''


def time_all(window, operation):
    """(seconds of each, what is wrong or ''); no seconds if the target has not computed all the time."""
    target, seconds = window.comm.size - 1, []
    alone = not target  # and nobody computes
    window.wait(target, FLAG, 1 - alone, 'the target to compute')
    end = perf_counter() + SPAN
    while (tic := perf_counter()) < end:
        operation.run(len(seconds))
        seconds.append(perf_counter() - tic)
    busy = alone or window.read(target, FLAG)
    return seconds if busy else None, operation.check(len(seconds))


# all ranks at one lock

def contention(comm, window, repeats):
    """[repeats] seconds from one acquisition to the next, where every rank wants the lock of rank 0 all the time.

    Each adds 1 under the lock by a get and a put.  Raises Wrong if one of these is lost.
    """
    one, seconds = np.zeros(1, DTYPE), []
    for _ in range(WARM_UP + repeats):
        window.own[:1] = 0
        window.sync()
        comm.barrier()
        tic = perf_counter()
        for _ in range(TURNS):
            with window.lock([0]):
                window.get(0, one)
                window.put(0, one + 1)
        comm.barrier()
        seconds.append((perf_counter() - tic)/(TURNS*comm.size))
        if not came_to(window, TURNS*comm.size):
            raise Wrong(f'{TURNS*comm.size} sums under a lock: some are lost')
    return np.max(comm.allgather(seconds), 0)[WARM_UP:].tolist()


def came_to(window, total):
    """Whether entry 0 of rank 0 is `total`; all ranks have looked before any of them goes on."""
    found = np.empty(1, DTYPE)
    window.get(0, found)
    return all(window.comm.allgather(bool(found[0] == total)))


# a whole vector

def check_pull(comm, window):
    """Fill all parts with integers and pull that of the next rank.  Raises Wrong."""
    peer, n = (comm.rank + 1) % comm.size, window.own.size
    window.own[:] = vector(comm.rank, n)
    window.sync()
    comm.barrier()
    x = np.zeros(n, DTYPE)
    window.get(peer, x)
    wrong = sum(comm.allgather(int((x != vector(peer, n)).sum())))
    if wrong:
        raise Wrong(f'pull: {wrong:,} entries of {n:,} are wrong')


def pulls(comm, window, repeats):
    """{way: ([repeats] seconds of a pull, of copies of as many bytes taken in turn with it)}, of the slowest rank.

    One rank alone, while the others do nothing, and all at once, each from the next one.
    """
    peer, n = (comm.rank + 1) % comm.size, window.own.size
    x, y, z = (np.ones(n, DTYPE) for _ in range(3))
    works = [lambda: window.get(peer, x), lambda: np.copyto(y, z)]
    return {'pull by one rank': in_turn(comm, works, repeats, [0]),
            'pull by all ranks at once': in_turn(comm, works, repeats, range(comm.size))}


def in_turn(comm, works, repeats, who):
    """[works, repeats] seconds of the slowest of the ranks `who`, which work at the same time."""
    mine = np.zeros((len(works), WARM_UP + repeats))
    for turn in range(WARM_UP + repeats):
        for k in order(len(works), turn):
            comm.barrier()
            tic = perf_counter()
            if comm.rank in who:
                works[k]()
                mine[k, turn] = perf_counter() - tic
    return np.max(comm.allgather(mine.tolist()), 0)[:, WARM_UP:]


# figures

def summary(name, turns):
    """Of small operations, in ms; turns: [seconds of each, a list for every turn], whose medians have the interval."""
    ms = 1e3*np.concatenate(turns)
    low, high = interval([1e3*np.median(turn) for turn in turns])
    return {'name': name, 'ms': float(np.median(ms)), 'low': low, 'high': high, 'p95': float(np.percentile(ms, 95)),
            'longest': float(ms.max()), 'count': len(ms)}


def share(name, nbytes, seconds):
    """Of a whole vector; share: of the bandwidth of a copy."""
    pull, copy = seconds
    paired = ratio(copy, pull)
    return {'name': name, 'ms': 1e3*float(np.median(pull)), 'copy_ms': 1e3*float(np.median(copy)),
            'gb_per_second': nbytes/float(np.median(pull))/1e9, 'share': paired['ratio'], 'low': paired['low'],
            'high': paired['high']}


def lines(found):
    """The figures as text."""
    L, small = found['ranks'], [*found['small'], found['hand_over']]
    yield (f'{L} rank{"s"[:L > 1]} on {found["machines"]} node{"s"[:found["machines"] > 1]}, {found["library"]}; '
           f'--progress {found["progress"]}; {found["repeats"]} turns of each')
    target = 'the part of the last rank, which multiplies matrices meanwhile' if L > 1 else 'its own part'
    yield f'rank 0 reaches into {target}; median, 95 % interval of the medians of the turns, 95th percentile'
    yield table(small, SMALL)
    slow = [row['name'] for row in found['small'] if row['ms'] > GOAL_MS]
    yield f'goal: a median of {GOAL_MS:g} ms at most; missed by: {", ".join(slow) or "none"}'
    yield (f'a vector of {found["entries"]:,} float32, {found["bytes"]/1e6:.2f} MB, from the next rank, beside a copy '
           'by the same ranks in turn')
    yield table(found['large'], LARGE)
    low = [row['name'] for row in found['large'] if row['share'] < GOAL_SHARE]
    yield f'goal: {GOAL_SHARE:.0%} of the bandwidth of a copy in one node; missed by: {", ".join(low) or "none"}'
