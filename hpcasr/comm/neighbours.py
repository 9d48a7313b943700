"""How vectors move between single learners."""

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
