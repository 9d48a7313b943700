"""Vectors between single learners: who may talk to whom, and how the vectors move."""

from collections import Counter

import numpy as np
from mpi4py import MPI

NOTHING = [np.empty(0, np.uint8), MPI.BYTE]
SIGNAL, VECTOR = 1, 2  # tags


def signal(mpi, to, frm):
    """Requests of empty messages, which say that this learner has come and tell whether those of `frm` have."""
    return [mpi.Irecv(NOTHING, f, SIGNAL) for f in frm] + [mpi.Isend(NOTHING, t, SIGNAL) for t in to]


def move(mpi, x, to, frm, inbox):
    """Requests that carry `x` to each of `to`, and a vector of each of `frm` into the rows of `inbox`."""
    return ([mpi.Irecv(row, f, VECTOR) for row, f in zip(inbox, frm, strict=True)]
            + [mpi.Isend(x, t, VECTOR) for t in to])


def move_on_graph(graph, x, to, frm, inbox):
    """The same in one request, where these are the neighbours in `graph`."""
    kind, n = MPI.Datatype.fromcode(x.dtype.char), x.size
    out, into = len(to), len(frm)
    places = [k*x.nbytes for k in range(into)]  # bytes: entries of all the vectors may be more than MPI counts
    return [graph.Ineighbor_alltoallw([x, [n]*out, [0]*out, [kind]*out], [inbox, [n]*into, places, [kind]*into])]


def require_peers(to, frm, rank, size):
    for peer in (*to, *frm):
        if peer == rank or not 0 <= peer < size:
            raise ValueError(f'learner {rank} of {size} cannot exchange with learner {peer}')


def require_match(lists):
    """ValueError unless `lists`, [L] of (to, frm), are of peers, and who sends is who is received from."""
    for rank, (to, frm) in enumerate(lists):
        require_peers(to, frm, rank, len(lists))
    sent = Counter((rank, peer) for rank, (to, _) in enumerate(lists) for peer in to)
    received = Counter((peer, rank) for rank, (_, frm) in enumerate(lists) for peer in frm)
    for source, target in (sent - received) + (received - sent):
        raise ValueError(f'learners {source} and {target} do not agree whether the one sends to the other')
