"""The verbs for vectors that lie on a GPU: they travel through pinned memory of the host."""

from collections import deque
from functools import partial

import numpy as np


class Slotted:
    """A vector on a device and, behind it, slots on the host: what one reduction carries, and one index counts."""

    def __init__(self, vector, slots):
        self.vector, self.slots, self.size = vector, slots, vector.size + slots.size

    def __getitem__(self, part):
        """A view of entries lo:hi: of the vector, of the slots, or a Slotted of the end of the one and of the other."""
        (lo, hi, _), n = part.indices(self.size), self.vector.size
        if lo >= n:
            return self.slots[lo - n:hi - n]
        return self.vector[lo:hi] if hi <= n else Slotted(self.vector[lo:], self.slots[:hi - n])


class Journey:
    """A vector on its way to the host, where an exchange begins as soon as it is there.

    mark    of its arrival
    begin   begin() -> finish()
    """

    def __init__(self, mark, begin):
        self.mark, self.begin, self.finish = mark, begin, None

    def start(self):
        self.finish = self.begin()


class Staged:
    """A Comm for vectors on `device` (backend/cuda_device.Gpu); those on the host it takes as `comm` does.

    A vector is copied to the host on the stream of copies, behind all that was asked of the device before; the exchange
    begins when it has arrived, which `progress` and every verb look for; and what comes is copied back in the order of
    the stream of compute.  So nobody waits for the device but in finish(), and MPI reads nothing that is not there.

    All verbs reach `comm` in the order in which they are called, whenever the copies come: learners whose devices are
    not equally fast still make the same collective calls in the same order.
    """

    def __init__(self, comm, device):
        self.comm, self.device = comm, device
        self.mirrors, self.free, self.inboxes, self.travelling = [], {}, {}, deque()

    def __getattr__(self, name):
        """What is not about vectors, as of `comm`."""
        self.flush()
        return getattr(self.comm, name)

    def host(self, x):
        return self.device.host(x)

    def shared(self, n, dtype):
        """As Comm.shared: on the device, with a place for it in the memory that this node shares."""
        host, vector = self.comm.shared(n, dtype), self.device.zeros(n, dtype)
        self.device.pin(host)
        self.mirrors.append((vector, host))
        return vector

    def split(self, colours):
        self.flush()
        return Staged(self.comm.split(colours), self.device)

    # exchanges

    def start_sum(self, x):
        return self.summing(x, self.comm.start_sum)

    def start_library_sum(self, x):
        return self.summing(x, self.comm.start_library_sum)

    def sum_ordered(self, x):
        self.start_sum(x)()

    def summing(self, x, start):
        if on_host(x):
            self.flush()
            return start(x)
        if self.comm.size == 1:
            return lambda: None
        host = self.stay(x)
        journey = self.send(x, host, lambda: start(host))

        def finish():
            self.end(journey)
            self.receive(x, host)
            self.leave(host)
        return finish

    def start_sum_slices(self, x, bounds):
        if self.comm.size == 1:
            return lambda: None
        host, mine = self.stay(x), slice(*map(int, bounds[self.comm.rank:self.comm.rank + 2]))
        journey = self.send(x, host, lambda: self.comm.start_sum_slices(host, bounds))

        def finish():
            self.end(journey)
            self.receive(x[mine], host[mine])
            self.leave(host)
        return finish

    def share_slices(self, x, bounds):
        if on_host(x):
            self.flush()
            return self.comm.share_slices(x, bounds)
        host, mine = self.stay(x), slice(*map(int, bounds[self.comm.rank:self.comm.rank + 2]))

        self.send(x[mine], host[mine], lambda: self.comm.share_slices(host, bounds))
        self.flush()
        self.receive(x, host)
        self.leave(host)

    def start_exchange(self, x, to, frm):
        return self.exchange(x, lambda host: self.comm.start_exchange(host, to, frm), bool(to or frm))

    def neighbourhood(self, to, frm):
        self.flush()
        start = self.comm.neighbourhood(to, frm)
        return lambda x: self.exchange(x, start, bool(to or frm))

    def exchange(self, x, start, peers):
        if not peers:
            return list
        host = self.stay(x)
        journey = self.send(x, host, lambda: start(host))

        def finish():
            came = [self.inbox(k, vector) for k, vector in enumerate(self.end(journey))]
            self.leave(host)
            return came
        return finish

    def broadcast(self, x, root=0):
        if on_host(x):
            self.flush()
            return self.comm.broadcast(x, root)
        host = self.stay(x)
        self.send(x, host, lambda: self.comm.broadcast(host, root))
        self.flush()
        self.receive(x, host)
        self.leave(host)

    def progress(self):
        while self.travelling and self.travelling[0].mark.done:
            self.travelling.popleft().start()
        self.comm.progress()

    def flush(self):
        """Begin all exchanges, before anything else is said to the others; meanwhile those under way go on."""
        while self.travelling:
            self.progress()

    # the way

    def send(self, x, host, begin):
        """host ← x, and then begin(); a Journey."""
        vector, slots = (x.vector, x.slots) if isinstance(x, Slotted) else (x, None)
        self.device.after(self.device.mark(), self.device.side)
        self.device.download(host[:vector.size], vector, self.device.side)
        self.travelling.append(Journey(self.device.mark(self.device.side), partial(depart, host, slots, begin)))
        return self.travelling[-1]

    def end(self, journey):
        """What the exchange gives."""
        self.flush()
        return journey.finish()

    def receive(self, x, host):
        """x ← host."""
        vector = x.vector if isinstance(x, Slotted) else x
        self.device.upload(vector, host[:vector.size])
        if isinstance(x, Slotted):
            x.slots[:] = host[vector.size:]

    def inbox(self, k, vector):
        """A copy on the device of the k-th vector that came; until as many have come again."""
        key = k, vector.size, vector.dtype
        if key not in self.inboxes:
            self.inboxes[key] = self.device.empty(vector.size, vector.dtype)
        self.device.upload(self.inboxes[key], vector)
        return self.inboxes[key]

    # places on the host

    def stay(self, x):
        """Memory of the host for x: its place in what the node shares, or else any that is pinned."""
        vector = x.vector if isinstance(x, Slotted) else x
        for mirrored, host in self.mirrors:
            lo = (self.device.address(vector) - self.device.address(mirrored))//vector.itemsize
            if 0 <= lo and lo + x.size <= host.size and host.dtype == vector.dtype:
                return host[lo:lo + x.size]
        spare = self.free.get((x.size, vector.dtype))
        return spare.pop() if spare else self.device.pinned(x.size, vector.dtype)

    def leave(self, host):
        """Give it back; the copy from it is done before the next one to it, which waits for the stream of compute."""
        if not any(np.may_share_memory(host, mirror) for _, mirror in self.mirrors):
            self.free.setdefault((host.size, host.dtype), []).append(host)


def depart(host, slots, begin):
    if slots is not None:
        host[host.size - slots.size:] = slots
    return begin()


def on_host(x):
    return type(x) is np.ndarray
