"""Many learners in one process: threads of which exactly one runs at a time, on a simulated clock.

Learners are ordinary blocking code, as over MPI.  A learner gives way where it waits for another one, and where its
time passes (`sleep`).  Which one goes on is a pure function of the seed: a run can be repeated bit for bit.
"""

import math
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np

from hpcasr.comm.base import NO_BYTES, Comm, add_in_order, relayed, require_divisor
from hpcasr.comm.require import require_bounds, require_flat, require_match, require_peers
from hpcasr.comm.virtual_window import VirtualWindow
from hpcasr.watch import flight


@dataclass(frozen=True)
class Link:
    """What a message costs: latency [s], bandwidth [bytes/s].

    A learner's link carries the bytes of one message, or of its part of one collective, after the other.
    """

    latency: float = 5e-6
    bandwidth: float = 10e9


class Deadlock(RuntimeError):
    """Every learner waits for another one."""


class Stopped(BaseException):
    """Raised in the other learners when one has failed."""


class World:
    """size learners.

    link       Link between any two of them
    schedule   'clock': the one furthest behind goes first, as in a simulation of events; 'random': any that can, which
               explores interleavings
    seed       of the choice (the order of equals, under 'clock')
    strict     check that no vector changes while an exchange uses it, that nobody waits for messages while it holds a
               lock, and that at the end nothing is under way
    """

    def __init__(self, size, link=Link(), schedule='clock', seed=0, strict=False):
        self.size, self.strict = size, strict
        self.set(link, schedule, seed)
        self.learners = [Learner() for _ in range(size)]
        self.letters, self.meetings = {}, {}
        self.failure, self.over = None, threading.Event()

    def set(self, link, schedule, seed):
        """Once, before any time has passed."""
        self.link, self.rank_next = link, self.soonest if schedule == 'clock' else self.any
        self.rng = np.random.default_rng([seed, self.size])

    def run(self, work):
        """[work(comm) of every learner]; raises what the first of them to fail raised."""
        for rank, learner in enumerate(self.learners):
            learner.thread = threading.Thread(target=self.live, args=(rank, work), daemon=True, name=f'learner {rank}')
            learner.thread.start()
        self.go_on()
        self.over.wait()
        for learner in self.learners:
            learner.thread.join()
        if self.failure:
            raise self.failure
        if self.strict and (self.letters or self.meetings):
            raise AssertionError(f'{len(self.letters)} vectors and {len(self.meetings)} meetings are left under way')
        return [learner.result for learner in self.learners]

    def live(self, rank, work):
        """The life of one learner."""
        learner = self.learners[rank]
        learner.turn.acquire()
        try:
            if not self.failure:
                learner.result = work(VirtualComm(self, rank))
        except Stopped:
            pass
        except BaseException as e:  # raised again by run()
            self.failure = self.failure or e
        learner.done = True
        self.go_on()

    def give_way(self, learner, possible, what):
        """Let others go on; return when it is this one's turn, at or after the time that possible() has become.

        possible()   the simulated time from which on the learner can go on; None: not yet known
        what         it waits for, in words
        """
        learner.possible, learner.what = possible, what
        self.go_on()
        learner.turn.acquire()
        if self.failure:
            raise Stopped
        learner.clock = max(learner.clock, possible())

    def go_on(self):
        """Give the turn to the next learner."""
        alive = [learner for learner in self.learners if not learner.done]
        if not alive:
            return self.over.set()
        able = alive if self.failure else [learner for learner in alive if learner.possible() is not None]
        if not able:
            waits = '; '.join(f'learner {self.learners.index(w)} waits for {w.what}' for w in alive)
            self.failure, able = Deadlock(waits), alive
        self.rank_next(able).turn.release()

    def soonest(self, able):
        times = [max(learner.clock, learner.possible() or 0) for learner in able]
        first = [learner for learner, t in zip(able, times, strict=True) if t == min(times)]
        return first[0] if len(first) == 1 else self.any(first)

    def any(self, able):
        return able[self.rng.integers(len(able))]


class Learner:
    """One thread of a World: its simulated clock [s], and what it waits for."""

    def __init__(self):
        self.turn, self.thread = threading.Semaphore(0), None
        self.clock, self.link_free, self.done, self.result = 0.0, 0.0, False, None
        self.possible, self.what = lambda: 0.0, 'its start'
        self.windows = []


@dataclass
class Letter:
    """A vector under way: when it was posted, and when it arrives."""

    vector: np.ndarray
    posted: float
    arrives: float


class VirtualComm(Comm):
    """Some learners of a World, seen from one of them; `members` are their numbers in the World."""

    library, simulated = 'virtual', True

    def __init__(self, world, rank, members=None, parent=None, name=()):
        """name   of the group: other groups of the same members have other ones"""
        super().__init__()
        self.world, self.parent, self.name = world, parent, name
        self.members = tuple(range(world.size)) if members is None else members
        self.rank, self.size = self.members.index(rank), len(self.members)
        self.learner, self.nodes = world.learners[rank], (0,)*self.size
        self.counts = Counter()

    def arrange(self, node_size):
        require_divisor(node_size, self.size)
        self.nodes = tuple(r//node_size for r in range(self.size)) if node_size else (0,)*self.size

    def split(self, colours):
        mine = [m for m, c in zip(self.members, colours, strict=True) if c == colours[self.rank]]
        self.counts['splits'] += 1
        name = *self.name, self.counts['splits'], colours[self.rank]
        return VirtualComm(self.world, self.members[self.rank], tuple(mine), self, name)

    def simulate(self, config):
        """As Comm.simulate; called by all learners together."""
        self.barrier()
        if self.rank == 0:
            self.world.set(Link(config.latency*1e-6, config.bandwidth*1e9), config.schedule, config.seed)
        self.barrier()

    # time

    def now(self):
        return self.learner.clock

    def sleep(self, seconds):
        self.learner.clock += seconds
        self.yields()

    def progress(self):
        flight.beat()
        if self.world.rank_next == self.world.any:
            self.yields()

    def watch(self, out, timeout):
        flight.tell(out=str(out), rank=0, size=1, timeout=timeout)  # they are one process

    def yields(self):
        self.world.give_way(self.learner, lambda: 0.0, 'its turn')

    def wait(self, possible, came, what):
        """Wait for what becomes possible() and for which the last peer came() at some time; charge it."""
        if self.world.strict and any(window.held for window in self.learner.windows):
            raise AssertionError(f'learner {self.rank} waits for {what} while it holds a lock')
        tic = self.now()
        self.world.give_way(self.learner, possible, what)
        self.charge(seconds=self.now() - tic, waited=max(0.0, came() - tic))

    def charge(self, nbytes=0, messages=0, seconds=0.0, waited=0.0):
        self.bytes_sent, self.messages_sent = self.bytes_sent + nbytes, self.messages_sent + messages
        self.seconds, self.waited = self.seconds + seconds, self.waited + waited
        if self.parent:
            self.parent.charge(nbytes, messages, seconds, waited)

    # between two

    def neighbourhood(self, to, frm):
        require_match(self.allgather((tuple(to), tuple(frm))))
        return super().neighbourhood(to, frm)

    def start_exchange(self, x, to, frm):
        require_flat(x)
        require_peers(to, frm, self.rank, self.size)
        sent = x.tobytes() if self.world.strict else None
        for peer in to:
            self.post(x.copy(), peer)
        keys = [self.key(peer, self.rank) for peer in frm]
        letters = self.world.letters

        def finish():
            if keys:
                self.wait(lambda: latest(letters, keys, 'arrives'), lambda: latest(letters, keys, 'posted'),
                          f'vectors of learners {[self.members[f] for f in frm]}')
            self.refuse_changed(x, sent)
            return [letters.pop(key).vector for key in keys]
        return finish

    def post(self, vector, peer):
        """Put a vector on its way, behind those that this learner has sent before."""
        me, link = self.learner, self.world.link
        me.link_free = max(me.clock, me.link_free) + vector.nbytes/link.bandwidth
        self.world.letters[self.key(self.rank, peer)] = Letter(vector, me.clock, me.link_free + link.latency)
        self.charge(vector.nbytes, 1)

    def key(self, source, target):
        """The name of the next vector from one to the other, as this learner counts them."""
        self.counts[source, target] += 1
        return self.name, source, target, self.counts[source, target]

    def refuse_changed(self, x, sent):
        if sent is not None and x.tobytes() != sent:
            raise AssertionError(f'learner {self.rank} changed a vector while an exchange used it')

    # one-sided

    def window(self, n, dtype, counters=0):
        return VirtualWindow(self, n, dtype, counters)

    # all together

    def meet(self, value, result, nbytes=0, messages=0):
        """Begin a collective that moves so much over every link when the last has come.

        nbytes   may be a function of [values]
        Return finish() -> result([values]).
        """
        self.counts['meetings'] += 1
        key = self.name, self.counts['meetings']
        meeting = self.world.meetings.setdefault(key, Meeting(self.size))
        meeting.join(self.rank, value, self.now())
        if not meeting.missing:
            learners = [self.world.learners[m] for m in self.members]
            nbytes = nbytes(meeting.values) if callable(nbytes) else nbytes
            meeting.ends = self.carry(learners, meeting.last, nbytes) + messages*self.world.link.latency

        def finish():
            self.wait(lambda: meeting.ends, lambda: meeting.last, f'a meeting of {self.size}')
            if meeting.leave():
                del self.world.meetings[key]
            return meeting.result(result)
        return finish

    def carry(self, learners, now, nbytes):
        """When `nbytes`, ready `now`, have gone over the links of all `learners` at once."""
        if not nbytes:
            return now
        done = max(now, *(learner.link_free for learner in learners)) + nbytes/self.world.link.bandwidth
        for learner in learners:
            learner.link_free = done
        return done

    def start_sum(self, x):
        require_flat(x)
        nbytes, steps = 2*x.nbytes*(self.size - 1)/self.size, 2*(self.size - 1)
        self.charge(round(nbytes), steps)
        return self.summing(x, slice(None), self.meet(x.copy(), self.add, nbytes, steps))

    def add(self, vectors):
        total = np.empty_like(vectors[0])
        add_in_order(vectors, self.nodes, total)
        return total

    def start_relay(self, parcels, room, answers, fold, deliver):
        self.charge(*relayed(parcels, answers, self.rank))
        sent = [p.copy() for p in parcels], room and fold
        finish_meeting = self.meet(sent, relay, lambda values: busiest(values, answers), 2*(self.size > 1))

        def finish():
            found = finish_meeting()
            if any(answers):
                deliver(found)
        return finish

    def start_gather(self, parcel, room, deliver):
        others = self.size - 1
        self.charge(parcel.size*others, others)
        finish_meeting = self.meet(parcel.copy(), list, lambda all: sum(p.size for p in all)*(others > 0), others > 0)
        return lambda: deliver(finish_meeting())

    def start_sum_slices(self, x, bounds):
        mine, nbytes = self.slices(x, bounds)
        self.charge(x.nbytes - x[mine].nbytes, int((np.diff(bounds) > 0).sum()) - (x[mine].size > 0))
        return self.summing(x, mine, self.meet(x.copy(), self.add, nbytes, self.size > 1))

    def slices(self, x, bounds):
        """This learner's slice, and the bytes that go to or from whoever has the largest one."""
        bounds = require_bounds(x, bounds, self.size)
        return slice(*bounds[self.rank:self.rank + 2]), int(np.diff(bounds).max())*x.itemsize*(self.size - 1)

    def summing(self, x, mine, finish_meeting):
        """finish() that puts the part `mine` of the meeting's result into `x`."""
        sent = x.tobytes() if self.world.strict else None

        def finish():
            total = finish_meeting()
            self.refuse_changed(x, sent)
            x[mine] = total[mine]
        return finish

    def share_slices(self, x, bounds):
        mine, nbytes = self.slices(x, bounds)
        self.charge(x[mine].nbytes*(self.size - 1), (self.size - 1)*(x[mine].size > 0))
        x[:] = self.meet(x[mine].copy(), np.concatenate, nbytes, self.size > 1)()

    def allgather(self, value):
        return list(self.meet(value, list, 0, self.rounds())())

    def broadcast(self, x, root=0):
        require_flat(x)
        self.charge(x.nbytes*(self.rank == root and self.size > 1))
        value, nbytes = x.copy() if self.rank == root else None, x.nbytes*(self.size > 1)
        x[:] = self.meet(value, lambda values: values[root], nbytes, self.rounds())()

    def barrier(self):
        self.allgather(None)

    def rounds(self):
        return math.ceil(math.log2(self.size)) if self.size > 1 else 0

    def abort(self, status):
        raise SystemExit(status)


class Meeting:
    """What the learners brought to a collective.

    last   when the last one came so far;  ends   when all is there, None: not yet known
    """

    def __init__(self, size):
        self.values, self.last, self.missing, self.inside = [None]*size, 0.0, size, size
        self.ends, self.done, self.answer = None, False, None

    def join(self, rank, value, now):
        self.values[rank], self.last, self.missing = value, max(self.last, now), self.missing - 1

    def result(self, combine):
        """combine(values), made once."""
        if not self.done:
            self.answer, self.values, self.done = combine(self.values), None, True
        return self.answer

    def leave(self):
        """Whether this was the last one."""
        self.inside -= 1
        return not self.inside


def relay(values):
    """[L] the answers of all learners, each of which brought (its parcels, its fold or 0)."""
    return [fold([parcels[k] for parcels, _ in values]).copy() if fold else NO_BYTES
            for k, (_, fold) in enumerate(values)]


def busiest(values, answers):
    """The most bytes that go to or from one learner in a relay."""
    everybody = range(len(values))
    out = [relayed(values[k][0], answers, k)[0] for k in everybody]
    into = [sum(values[p][0][k].size + int(answers[p]) for p in everybody if p != k) for k in everybody]
    return max(out + into)


def latest(letters, keys, what):
    """The largest time `what` of letters that have been posted; None while one is missing."""
    there = [letters.get(key) for key in keys]
    return None if None in there else max(getattr(letter, what) for letter in there)


