"""Windows of virtual learners: the same arrays for all, and simulated time for every reach into another's part."""

from contextlib import contextmanager

import numpy as np

from hpcasr.comm.onesided import Window, never


class VirtualWindow(Window):
    """A verb takes effect at once, at the simulated time at which it ends; others may go on before and after.

    A reach costs the latency, and keeps the links of both learners busy with its bytes; in the own part it costs none.
    times   [counters] when each counter of this learner was changed last [s]
    """

    def __init__(self, comm, n, dtype, counters=0):
        super().__init__(comm, n, dtype, counters)
        self.times = np.zeros(self.counters)
        self.parts = comm.allgather(self)
        comm.learner.windows.append(self)

    def part(self, rank):
        return self.parts[rank]

    @contextmanager
    def reach(self, rank, nbytes=0):
        """The time that a verb takes; the block is its effect."""
        comm = self.comm
        comm.yields()
        if rank != comm.rank:
            ends = comm.carry([comm.learner, self.parts[rank].comm.learner], comm.now(), nbytes) + self.delay(rank)
            tic = comm.now()
            comm.world.give_way(comm.learner, lambda: ends, 'the end of its reach')
            comm.charge(nbytes, nbytes > 0, comm.now() - tic)
        yield
        comm.yields()

    def delay(self, rank):
        return self.comm.world.link.latency*(rank != self.comm.rank)

    def get(self, rank, out, lo=0):
        self.require_inside(rank, out, lo)
        with self.reach(rank, out.nbytes):
            super().get(rank, out, lo)

    def put(self, rank, x, lo=0):
        self.require_inside(rank, x, lo)
        with self.reach(rank, x.nbytes):
            super().put(rank, x, lo)

    def add(self, rank, x, lo=0):
        self.require_inside(rank, x, lo)
        with self.reach(rank, x.nbytes):
            super().add(rank, x, lo)

    def change(self, rank, k, f):
        self.require_learner(rank)
        with self.reach(rank):
            old = super().change(rank, k, f)
            part = self.parts[rank]
            if part.numbers[k] != old:
                part.times[k] = self.comm.now()
        return old

    def wait(self, rank, k, least, what='', stop=never):
        self.require_learner(rank)
        part, comm, tic = self.parts[rank], self.comm, self.comm.now()

        def possible():
            if part.numbers[k] >= least:
                return part.times[k] + self.delay(rank)
            return 0.0 if stop() else None
        comm.world.give_way(comm.learner, possible, what or f'counter {k} of learner {rank} to be {least}')
        comm.charge(seconds=comm.now() - tic, waited=comm.now() - tic)
        return int(part.numbers[k])

    def close(self):
        self.comm.barrier()
        self.comm.learner.windows.remove(self)
        super().close()
