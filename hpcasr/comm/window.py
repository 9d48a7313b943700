"""Vectors that all learners of a node can read in place, and their sum in place."""

from threading import Lock

import numpy as np

from hpcasr.comm.adding import add_everywhere
from hpcasr.comm.base import cuts
from hpcasr.comm.memory import LINE, address

ARRIVED, SUMMED = range(2)
LOCK = Lock()


class Window:
    """One vector of each of the m learners of a node, in `memory` [m, LINE + nbytes] that they share.

    Each learner sums one slice of the vector, reading it where its peers have it, and writes the sum where they want
    it: two passes over memory less than if all copied their peers' sums, and by then the lines are in its cache.  A
    learner has one counter per stage, in its line of the memory: how many sums of this window it has taken through the
    stage.  Why nobody reads what is half done, or overwrites what is still read; S_i is the slice of learner i:

    - X_j[S_i], what learner j holds of it, belongs to j's caller until j has ARRIVED, and again when finish() returns,
      which is after all have SUMMED.  From when all have ARRIVED until i has SUMMED nobody but i reads or writes it.
    - Sums under way together are of ranges that do not overlap.  They pass every stage in the order of their starts
      (Underway), so a counter of q says that the first q sums have passed; it never goes back.
    - A caller who writes into x right after finish(), or starts the next sum, does so behind the second stage; the next
      sum's first stage needs every learner, so it is behind everything that any of them has done.

    nodes    [L] the arrangement for which the window was made
    between  between(x) -> steps of x ← Σ over the learners of equal place in all nodes; None: there is one node
    """

    def __init__(self, memory, rank, nodes, between):
        self.rank, self.size, self.nodes, self.between = rank, len(memory), nodes, between
        self.counters = memory[:, :LINE].view(np.int64)
        self.parts, self.sums = memory[:, LINE:], 0
        self.begin, self.nbytes = address(self.parts[rank]), self.parts.shape[1]

    def holds(self, x):
        return 0 <= address(x) - self.begin <= self.nbytes - x.nbytes

    def sum(self, x):
        """Steps (Job) of x ← Σ_l x_l in learner order within each node, then over the nodes."""
        self.sums += 1
        q, (lo, hi) = self.sums, cuts(x.size, self.size)[self.rank:self.rank + 2]
        parts = [part[lo:hi] for part in self.see(x)]
        yield self.tell(ARRIVED, q)
        one = (0,)*self.size
        if self.between:
            add_everywhere(parts, one, x[np.newaxis, lo:hi])
            yield from self.between(x[lo:hi])
            add_everywhere(x[np.newaxis, lo:hi], (0,), parts)
        else:
            add_everywhere(parts, one, parts)
        yield self.tell(SUMMED, q)

    def see(self, x):
        """[m] `x` as every learner of the node has it."""
        lo = address(x) - self.begin
        return [part[lo:lo + x.nbytes].view(x.dtype) for part in self.parts]

    def tell(self, stage, q):
        """Say that this learner has come to the end of `stage` in sum number q; a test of whether all have."""
        fence()
        self.counters[self.rank, stage] = q
        return lambda: self.everyone(stage, q)

    def everyone(self, stage, q):
        there = self.counters[:, stage].min() >= q
        fence()
        return there


def fence():
    """Whatever this process reads or writes in memory before this call comes before all that it does after it.

    Two turns of a lock: the release of the first keeps earlier accesses before it, the acquisition of the second later
    ones behind it.  (x86 keeps this order anyway.  MPI_Win_sync would be another way; but Open MPI 5 prints an error
    about UCX for every window that is made.)
    """
    with LOCK:
        pass
    with LOCK:
        pass
