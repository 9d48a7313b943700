"""Memory of each learner that the others read and change while it computes.  This class is that of a learner alone."""

import numpy as np

from hpcasr.comm import ticket

SUMMABLE = 'fdilq'  # codes of the types that MPI can sum; it has none for halves


def never():
    return False


class Window:
    """n entries and some counters (int64) of every learner; the entries and counters of one are its part.

    comm       whose learners; each calls this together with all others, n may differ
    own        [n] the entries of this learner, zero at first; None once the window is closed
    sizes      [L] entries of every learner
    held       {rank: ticket} of the parts that this learner has locked

    The verbs reach into the part of any learner, the own one too, without its help, and what they do is done when they
    return.  Two learners that read and write the same entries race; so all changes, those of the owner to `own` too,
    are made under `lock`, and `own` is read under it.  Counters need no lock; but a counter is changed by one verb
    only: MPI does not say what comes of two kinds of change at once.  Every window has locks of its own.  Who holds
    some waits for nobody, save for locks of windows that were made later: one order for all, so no circle.

    Bytes and messages are counted by whoever calls the verb; counters and what stays in the own part are not.
    """

    def __init__(self, comm, n, dtype, counters=0):
        self.comm, self.dtype, self.held = comm, np.dtype(dtype), {}
        self.counters = counters + ticket.COUNTERS
        offers = comm.allgather((int(n), self.dtype.str, counters))
        self.sizes = [size for size, *_ in offers]
        if len({tuple(kind) for _, *kind in offers}) > 1:
            raise ValueError(f'the learners ask for different windows: {offers}')
        self.own, self.numbers = self.allocate(int(n))

    def allocate(self, n):
        """(entries, counters) of this learner, all zero."""
        return np.zeros(n, self.dtype), np.zeros(self.counters, np.int64)

    # entries

    def get(self, rank, out, lo=0):
        """out ← x_rank[lo:lo + len(out)], the entries of learner `rank`."""
        out[:] = self.entries(rank, out, lo)

    def put(self, rank, x, lo=0):
        """x_rank[lo:lo + len(x)] ← x."""
        self.entries(rank, x, lo)[:] = x

    def add(self, rank, x, lo=0):
        """x_rank[lo:lo + len(x)] += x; adds of several learners at once all arrive, without a lock."""
        self.require_summable()
        self.entries(rank, x, lo)[:] += x

    def entries(self, rank, x, lo):
        """The entries that a verb means."""
        self.require_inside(rank, x, lo)
        return self.part(rank).own[lo:lo + x.size]

    def part(self, rank):
        """The window as learner `rank` has it, where it is in our reach."""
        return self

    # counters

    def fetch_add(self, rank, k, v):
        """c ← c + v, c being counter `k` of learner `rank`; return what it was.  Atomic, as all of these."""
        return self.change(rank, k, lambda old: old + v)

    def lower(self, rank, k, v):
        """c ← min(c, v); return what it was."""
        return self.change(rank, k, lambda old: min(old, v))

    def compare_and_swap(self, rank, k, expected, new):
        """c ← new if c is as expected; return what it was."""
        return self.change(rank, k, lambda old: new if old == expected else old)

    def write(self, rank, k, v):
        """c ← v; return what it was."""
        return self.change(rank, k, lambda old: v)

    def read(self, rank, k):
        return self.change(rank, k, lambda old: old)

    def change(self, rank, k, f):
        """c ← f(c); return what it was."""
        self.require_learner(rank)
        numbers = self.part(rank).numbers
        old = int(numbers[k])
        numbers[k] = f(old)
        return old

    def wait(self, rank, k, least, what='', stop=never):
        """Wait until counter `k` of learner `rank` is at least `least`, or stop(); return what it is.

        what   is waited for, in words.  Meanwhile the other exchanges of this learner go on.
        """
        if self.read(rank, k) < least and not stop():
            raise RuntimeError(f'a learner alone waits for {what or f"counter {k} to be {least}"}')
        return self.read(rank, k)

    # the lock

    def lock(self, ranks, turns=None, stop=never):
        """A context in which nobody else holds the parts of learners `ranks`; gives {rank: ticket}, see ticket.lock."""
        return ticket.lock(self, ranks, turns, stop)

    def restart(self):
        """Number the tickets of the own part from 0 again; nobody may hold or want one meanwhile."""
        ticket.restart(self)

    def sync(self):
        """Let `own` show what others wrote, and others see what was written to it; lock calls it on both its sides."""

    def close(self):
        """Give the memory back, with `own` and every view of it.  Called by all learners together."""
        self.own = self.numbers = None

    # what the callers must keep to

    def require_learner(self, rank):
        if not 0 <= rank < self.comm.size:
            raise ValueError(f'there is no learner {rank} among {self.comm.size}')

    def require_inside(self, rank, x, lo):
        self.require_learner(rank)
        if x.dtype != self.dtype or x.ndim != 1 or not x.flags.c_contiguous:
            raise ValueError(f'a contiguous vector of {self.dtype} is needed, not {x.dtype} {x.shape}, {x.strides}')
        if not 0 <= lo <= self.sizes[rank] - x.size:
            raise ValueError(f'entries {lo} to {lo + x.size} of learner {rank}, which has {self.sizes[rank]}')

    def require_summable(self):
        if self.dtype.char not in SUMMABLE:
            raise ValueError(f'{self.dtype} cannot be summed in a window, only {", ".join(SUMMABLE)} can')
