"""The verbs over MPI: the one door to mpi4py that training goes through."""

from contextlib import contextmanager
from time import perf_counter

import numpy as np
from mpi4py import MPI

from hpcasr.comm.base import Comm, add_in_order, cuts


class MPIComm(Comm):
    """All processes of `mpi` (an mpi4py communicator) as learners."""

    def __init__(self, mpi=MPI.COMM_WORLD):
        super().__init__()
        self.mpi = mpi.Dup()  # our messages cannot meet those of other libraries
        self.rank, self.size = self.mpi.rank, self.mpi.size
        self.library = ' '.join(MPI.Get_library_version().split('\n')[0].strip('\0').split())
        self.inboxes, self.nodes = {}, (0,)*self.size

    def start_sum(self, x):
        if self.size == 1:
            return lambda: None
        bounds = cuts(x.size, self.size)
        counts, starts = np.diff(bounds), bounds[:-1]
        own = x[bounds[self.rank]:bounds[self.rank + 1]]
        inbox = self.inbox(own)
        with self.wire(x.nbytes - own.nbytes):
            request = self.mpi.Ialltoallv([x, (counts, starts)], [inbox, own.size])

        def finish():
            with self.wire(own.nbytes*(self.size - 1)):
                request.Wait()
                add_in_order(inbox, self.nodes, out=own)
                self.mpi.Allgatherv(MPI.IN_PLACE, [x, (counts, starts)])
            self.inboxes[own.size, own.dtype].append(inbox)
        return finish

    def inbox(self, own):
        """A buffer [L, slice] that no sum under way uses."""
        free = self.inboxes.setdefault((own.size, own.dtype), [])
        return free.pop() if free else np.empty((self.size, own.size), own.dtype)

    def allgather(self, value):
        with self.wire():
            return self.mpi.allgather(value)

    def broadcast(self, x, root=0):
        with self.wire(x.nbytes if self.rank == root else 0):
            self.mpi.Bcast(x, root)

    def barrier(self):
        with self.wire():
            self.mpi.Barrier()

    def progress(self):
        self.mpi.Iprobe()

    def abort(self, status):
        self.mpi.Abort(status)

    @contextmanager
    def wire(self, nbytes=0):
        tic = perf_counter()
        yield
        self.seconds += perf_counter() - tic
        self.bytes_sent += nbytes
