"""Steps (underway.Job) of the exchanges of all learners that go through messages."""

from itertools import pairwise

import numpy as np
from mpi4py import MPI

from hpcasr.comm.adding import add_everywhere
from hpcasr.comm.base import NO_BYTES, cuts

SLICE, SHARE = 3, 4  # tags


def when_all_have_come(mpi, steps):
    """`steps`, begun at once, behind a first stage that is over when every process of `mpi` has begun them."""
    come, test = mpi.Ibarrier(), next(steps)
    yield come.Test
    yield test
    yield from steps


def sum_ordered(mpi, late, x, nodes, pool):
    """x ← Σ_l x_l as Comm.start_sum: slices change hands, are summed, and change hands again.

    late   a copy of `mpi` for what is sent in the second stage
    """
    bounds = cuts(x.size, mpi.size)
    yield from sum_slices(mpi, x, bounds, nodes, pool)
    yield from share_slices(late, x, bounds)


def sum_slices(mpi, x, bounds, nodes, pool):
    """x[k] ← Σ_l x_l[k] on process k alone, k = bounds[k]:bounds[k + 1].

    Messages of pairs, because Ialltoallv of MPICH takes 2.5 times as long.
    """
    slices = [x[lo:hi] for lo, hi in pairwise(bounds)]
    own, peers = slices[mpi.rank], [p for p in range(mpi.size) if p != mpi.rank]
    inbox = pool.take((len(peers), own.size), x.dtype)
    moves = [mpi.Irecv(row, p, SLICE) for row, p in zip(inbox, peers, strict=True) if own.size]
    moves += [mpi.Isend(slices[p], p, SLICE) for p in [*peers[mpi.rank:], *peers[:mpi.rank]] if slices[p].size]
    yield lambda: MPI.Request.Testall(moves)
    add_everywhere([*inbox[:mpi.rank], own, *inbox[mpi.rank:]], nodes, [own])
    pool.give(inbox)


def share_slices(mpi, x, bounds):
    """x[k] ← x_k[k] of process k for every slice k.

    Messages of pairs, because Iallgatherv of MPICH takes a hundred times as long where all is one process's slice.
    """
    slices = [x[lo:hi] for lo, hi in pairwise(bounds)]
    own, peers = slices[mpi.rank], [*range(mpi.rank + 1, mpi.size), *range(mpi.rank)]  # each begins elsewhere
    moves = [mpi.Irecv(slices[p], p, SHARE) for p in peers if slices[p].size]
    moves += [mpi.Isend(own, p, SHARE) for p in peers if own.size]
    yield lambda: MPI.Request.Testall(moves)


def library_sum(mpi, x):
    yield mpi.Iallreduce(MPI.IN_PLACE, x).Test


def relay(mpi, late, parcels, room, answers, fold, deliver, pool):
    """Parcels change hands, are folded, and the answers go to everybody, as Comm.start_relay."""
    others = [k for k in range(mpi.size) if k != mpi.rank]
    inbox = {p: pool.take(room, np.uint8) for p in others if room}
    moves = [mpi.Irecv(box, p, SLICE) for p, box in inbox.items()]
    moves += [mpi.Isend(parcels[p], p, SLICE) for p in [*others[mpi.rank:], *others[:mpi.rank]] if parcels[p].size]
    yield lambda: MPI.Request.Testall(moves)
    answer = fold(in_order(inbox, mpi.rank, parcels[mpi.rank])) if room else NO_BYTES
    for box in inbox.values():
        pool.give(box)
    if any(answers):
        yield from gather(late, answer, answers, deliver, pool)


def gather(mpi, own, rooms, deliver, pool):
    """deliver(those of all processes), where process p has at most rooms[p] bytes to give to everybody."""
    others = [*range(mpi.rank + 1, mpi.size), *range(mpi.rank)]  # each begins elsewhere
    inbox = {p: pool.take(int(rooms[p]), np.uint8) for p in others}
    moves = [mpi.Irecv(box, p, SHARE) for p, box in inbox.items() if box.size]
    moves += [mpi.Isend(own, p, SHARE) for p in others if own.size]
    yield lambda: MPI.Request.Testall(moves)
    deliver(in_order(inbox, mpi.rank, own))
    for box in inbox.values():
        pool.give(box)


def in_order(inbox, rank, own):
    """What came from every process, in their order; `own` from this one."""
    return [(inbox | {rank: own})[p] for p in range(len(inbox) + 1)]
