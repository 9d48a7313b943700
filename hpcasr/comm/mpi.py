"""The verbs over MPI: the one door to mpi4py that training goes through."""

import os
from collections import Counter
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, count
from time import perf_counter, sleep

import numpy as np
from mpi4py import MPI

from hpcasr.aligned import zeros
from hpcasr.comm import messages, neighbours
from hpcasr.comm.base import Comm, relayed, require_divisor
from hpcasr.comm.memory import LINE, share
from hpcasr.comm.pool import Pool
from hpcasr.comm.require import require_bounds, require_flat, require_match, require_peers
from hpcasr.comm.rma import MPIWindow
from hpcasr.comm.serving import Server, require_threads
from hpcasr.comm.underway import Underway
from hpcasr.comm.window import Window
from hpcasr.watch import flight

POLITE = 64  # looks at whether a peer has come (0.2 ms) before we offer the core, perhaps to that peer
PATIENCE, NAP = 1000, 50e-6  # such looks before we sleep in between; seconds
GLANCES = 8  # looks of a learner that computes (0.4 µs each): at each, MPICH takes in one message of one peer
NUMBERS = count()  # names of exchanges


class MPIComm(Comm):
    """The processes of `mpi`, an mpi4py communicator that is given away for good; None: a copy of all of them.

    Sums of vectors from `shared` go through memory that the learners of a node share, others through messages; the bits
    are the same.  `road` says which it is, and why.  What is under way moves on in `progress` and in any verb that
    waits, so a learner that computes or waits for one peer still serves the others.

    What is counted: bytes and messages are those of a ring for every sum, whatever its road, and those handed over for
    all else; barriers, signals and small values are not.  `seconds` are spent inside the verbs, also in `progress` if a
    sum moved on.  A learner that comes posts a signal beside its data: a counter in shared memory, a non-blocking
    barrier, or for `start_exchange` an empty message to each receiver.  What is blocked before all signals that concern
    a learner are there is `waited`; the rest is transfer.  (A receiver that comes late is seen only by those who
    receive from it.)
    """

    def __init__(self, mpi=None, parent=None):
        super().__init__()
        self.mpi = MPI.COMM_WORLD.Dup() if mpi is None else mpi  # our messages cannot meet those of other libraries
        self.late = self.mpi.Dup()  # what a sum sends in its second stage, behind what the next one sends in its first
        self.rank, self.size = self.mpi.rank, self.mpi.size
        self.library = ' '.join(MPI.Get_library_version().split('\n')[0].strip('\0').split())
        self.nodes, self.road, self.parent = (0,)*self.size, 'messages', parent
        self.members = [parent.members[r] for r in self.origin(parent)] if parent else [*range(self.size)]  # in the job
        self.number = flight.group(self.members) if parent else 0  # in the flight recorder
        self.pool, self.lent, self.graphs, self.windows, self.groups = Pool(), [], {}, [], {}
        self.underway = Underway()
        self.family = parent.family if parent else []
        self.family.append(self.underway)
        self.moves = parent.moves if parent else {}  # requests of exchanges under way; they keep the buffers alive
        self.exposed = parent.exposed if parent else []  # one-sided windows, in the order in which they were made
        self.server = None

    # who is where

    def origin(self, parent):
        """[L] the ranks that the members of this Comm have in `parent`."""
        ours, theirs = self.mpi.Get_group(), parent.mpi.Get_group()
        ranks = ours.Translate_ranks([*range(self.size)], theirs)
        ours.Free(), theirs.Free()
        return ranks

    def arrange(self, node_size):
        require_divisor(node_size, self.size)
        self.nodes = tuple(r//node_size for r in range(self.size)) if node_size else self.machines

    @cached_property
    def machines(self):
        """[L] the machine of every learner, numbered in the order of their first learners."""
        self.barrier()
        with self.recorded(flight.MAKE):
            machine = self.mpi.Split_type(MPI.COMM_TYPE_SHARED)
            firsts = self.mpi.allgather(machine.bcast(self.rank))
            machine.Free()
        return tuple(map(list(dict.fromkeys(firsts)).index, firsts))

    def split(self, colours):
        self.barrier()  # what the library does blocks: first whoever is behind must have finished what he needs us for
        with self.recorded(flight.MAKE):
            return MPIComm(self.mpi.Split(colours[self.rank], self.rank), self)

    def shared(self, n, dtype):
        why, memory, dtype = unshareable(self.nodes, self.machines), None, np.dtype(dtype)
        if not why:
            self.barrier()
            node, between = self.group()
            memory, why = share(node, LINE + -(-int(n)*dtype.itemsize//LINE)*LINE, self.mpi)
        self.road = f'messages ({why})' if why else 'memory shared in a node'
        if why:
            return zeros(n, dtype)
        self.windows.append(Window(memory, node.rank, self.nodes, between))
        return self.windows[-1].parts[node.rank, :n*dtype.itemsize].view(dtype)

    def group(self):
        """(communicator of this node, steps of a sum between learners of equal place in all nodes or None)."""
        if self.nodes not in self.groups:
            node = self.mpi.Split(self.nodes[self.rank], self.rank)
            self.groups[self.nodes] = node, len(set(self.nodes)) > 1 and self.between(node.rank)
        return self.groups[self.nodes]

    def between(self, place):
        peers = self.mpi.Split(place, self.rank)
        late, nodes = peers.Dup(), range(peers.size)
        return lambda x: messages.sum_ordered(peers, late, x, nodes, self.pool)

    # sums

    def start_sum(self, x):
        steps = self.sum_steps(x) if self.worthwhile(x) else None
        return self.begin(flight.SUM, steps, round(2*x.nbytes*(self.size - 1)/self.size), 2*(self.size - 1))

    def sum_steps(self, x):
        for window in self.windows:
            if window.holds(x) and window.nodes == self.nodes:
                return window.sum(x)
        return self.after_all(messages.sum_ordered(self.mpi, self.late, x, self.nodes, self.pool))

    def start_library_sum(self, x):
        steps = self.after_all(messages.library_sum(self.mpi, x)) if self.worthwhile(x) else None
        return self.begin(flight.SUM, steps, round(2*x.nbytes*(self.size - 1)/self.size), 2*(self.size - 1))

    def start_sum_slices(self, x, bounds):
        bounds, own = self.slices(x, bounds)
        targets = np.count_nonzero(np.diff(bounds)) - (own.size > 0)
        sums = messages.sum_slices(self.mpi, x, bounds, self.nodes, self.pool)
        steps = self.after_all(sums) if self.worthwhile(x) else None
        return self.begin(flight.SLICES, steps, x.nbytes - own.nbytes, int(targets))

    def share_slices(self, x, bounds):
        bounds, own = self.slices(x, bounds)
        steps = self.after_all(messages.share_slices(self.mpi, x, bounds)) if self.worthwhile(x) else None
        self.begin(flight.SHARE, steps, own.nbytes*(self.size - 1), (self.size - 1)*(own.size > 0))()

    def start_relay(self, parcels, room, answers, fold, deliver):
        if self.size == 1:
            return super().start_relay(parcels, room, answers, fold, deliver)
        steps = messages.relay(self.mpi, self.late, parcels, room, answers, fold, deliver, self.pool)
        return self.begin(flight.SUM, self.after_all(steps), *relayed(parcels, answers, self.rank))

    def start_gather(self, parcel, room, deliver):
        if self.size == 1:
            return super().start_gather(parcel, room, deliver)
        steps = messages.gather(self.mpi, parcel, [room]*self.size, deliver, self.pool)
        return self.begin(flight.GATHER, self.after_all(steps), parcel.size*(self.size - 1), self.size - 1)

    def worthwhile(self, x):
        require_flat(x)
        return self.size > 1 and x.size > 0

    def slices(self, x, bounds):
        """The bounds as an array, and this learner's slice of `x`."""
        bounds = require_bounds(x, bounds, self.size)
        return bounds, x[bounds[self.rank]:bounds[self.rank + 1]]

    def after_all(self, steps):
        return messages.when_all_have_come(self.mpi, steps)

    def begin(self, kind, steps, nbytes, messages):
        """Start `steps` of a collective of some kind; return finish().  None: there is nothing to do."""
        if steps is None:
            return lambda: None
        tic, number = perf_counter(), flight.collective(self.number)
        job = self.underway.start(steps)
        self.charge(nbytes, messages, perf_counter() - tic)
        return lambda: self.wait(job.begun, job.done, kind, n=number)

    # between two

    def start_exchange(self, x, to, frm):
        require_flat(x)
        require_peers(to, frm, self.rank, self.size)
        inbox = [self.pool.take(x.shape, x.dtype) for _ in frm]
        return self.exchange(self.mpi, x, to, frm, inbox, inbox, neighbours.move)

    def neighbourhood(self, to, frm):
        lists = tuple(self.allgather((tuple(to), tuple(frm))))
        require_match(lists)
        if self.size == 1:
            return lambda x: self.start_exchange(x, to, frm)
        if lists not in self.graphs:  # on all learners, or on none
            self.graphs[lists] = self.mpi.Create_dist_graph_adjacent(list(frm), list(to), reorder=False)
        return lambda x: self.start_on_graph(self.graphs[lists], x, to, frm)

    def start_on_graph(self, graph, x, to, frm):
        require_flat(x)
        inbox = self.pool.take((len(frm), x.size), x.dtype)
        return self.exchange(graph, x, to, frm, inbox, [inbox], neighbours.move_on_graph)

    def exchange(self, mpi, x, to, frm, inbox, taken, move):
        """As start_exchange; `inbox` has a row for each of `frm`, in arrays `taken` from the pool."""
        tic = perf_counter()
        signals, moves, number = neighbours.signal(mpi, to, frm), move(mpi, x, to, frm, inbox), next(NUMBERS)
        self.moves[number] = signals + moves
        self.charge(x.nbytes*len(to), len(to), perf_counter() - tic)
        peers = flight.pack(frm or to)

        def finish():
            self.wait(lambda: MPI.Request.Testall(signals), lambda: MPI.Request.Testall(moves), flight.EXCHANGE, peers)
            del self.moves[number]
            self.lend(taken)
            return list(inbox)
        return finish

    def lend(self, arrays):
        """Take back what the last finish() has given to the caller, who has these now."""
        for array in self.lent:
            self.pool.give(array)
        self.lent = arrays

    # one-sided

    def window(self, n, dtype, counters=0):
        if self.size == 1:
            return super().window(n, dtype, counters)
        self.exposed.append(MPIWindow(self, n, dtype, counters))
        return self.exposed[-1]

    # all together

    def allgather(self, value):
        self.barrier()
        tic = perf_counter()
        with self.recorded(flight.GATHER):
            values = self.mpi.allgather(value)
        self.charge(seconds=perf_counter() - tic)
        return values

    def broadcast(self, x, root=0):
        require_flat(x)
        self.charge(x.nbytes*(self.rank == root and self.size > 1))
        self.wait(lambda: True, self.mpi.Ibcast(x, root).Test, flight.BROADCAST, n=flight.collective(self.number))

    def barrier(self):
        come = self.mpi.Ibarrier().Test
        self.wait(come, come, flight.BARRIER, n=flight.collective(self.number))

    def close(self):
        """As Comm.close.  Else the library, which goes on when it is left, would write into memory that is no more."""
        moves = [*chain.from_iterable(self.moves.values())]
        self.wait(lambda: True, lambda: MPI.Request.Testall(moves) and not any(u.jobs for u in self.family),
                  flight.FINISH)
        self.moves.clear()
        for window in list(self.exposed):
            window.close()
        if self.server:
            self.server.stop()
            self.server = None

    # time

    def wait(self, come, done, kind, peers=0, n=0):
        """Return when done(); until come(), a peer is late.  kind, peers, n   for flight.begin."""
        mark, tic = flight.begin(kind, self.number, peers, n), perf_counter()
        self.look(come, NAP)
        late = perf_counter() - tic
        self.look(done)
        flight.end(mark)
        flight.beat()
        self.charge(seconds=perf_counter() - tic, waited=late)

    def look(self, ready, nap=0.0):
        """Return when ready(), meanwhile moving on what is under way; after a while, sleep in between."""
        for looks in count():
            self.advance()
            if ready():
                return
            if nap and looks > PATIENCE:
                sleep(nap)
            elif looks % POLITE == POLITE - 1:
                os.sched_yield()

    def advance(self):
        self.mpi.Iprobe()
        for underway in self.family:
            underway.advance()

    @contextmanager
    def recorded(self, kind):
        """For a collective in which the library blocks."""
        mark = flight.begin(kind, self.number, n=flight.collective(self.number))
        yield
        flight.end(mark)

    def progress(self):
        flight.beat()
        tic, sums = perf_counter(), any(underway.jobs for underway in self.family)
        for _ in range(GLANCES if sums or self.moves else 1):
            self.mpi.Iprobe()
        if sums:
            self.advance()
            self.charge(seconds=perf_counter() - tic)

    def serve(self, how):
        if how == 'thread' and self.size > 1 and not self.server:
            self.together(require_threads)
            self.server = Server(self.mpi.Dup())

    def charge(self, nbytes=0, messages=0, seconds=0.0, waited=0.0):
        """Add to the counters, and to those of the Comm of which this one is a part."""
        self.bytes_sent, self.messages_sent = self.bytes_sent + nbytes, self.messages_sent + messages
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited
        if self.parent:
            self.parent.charge(nbytes, messages, seconds, waited)

    def abort(self, status):
        self.mpi.Abort(status)


def unshareable(nodes, machines):
    """Why learners so arranged cannot sum in shared memory, or ''."""
    sizes = set(Counter(nodes).values())
    if len(sizes) > 1:
        return f'the nodes have {min(sizes)} to {max(sizes)} learners'
    if sizes == {1}:
        return 'every node has one learner'
    return 'a node spans several machines' if len(set(zip(nodes, machines, strict=True))) > max(nodes) + 1 else ''
