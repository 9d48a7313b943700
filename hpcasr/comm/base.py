"""The verbs with which learners talk.  This class is one learner alone; mpi.py is many of them over MPI."""

from itertools import groupby
from time import perf_counter, sleep

import numpy as np

from hpcasr.aligned import zeros
from hpcasr.comm.onesided import Window
from hpcasr.errors import AgreedBadInput, BadInput
from hpcasr.watch import flight

NO_BYTES = np.empty(0, np.uint8)


class Comm:
    """A group of learners, seen from one of them.

    rank, size     this learner, of how many
    nodes          [L] node of every learner, numbered from 0 in the order of their first learners
    library        what carries the messages, with its version
    simulated      whether the learner lives by a simulated clock
    road           how vectors of `shared` are summed, in words
    bytes_sent     payload handed to the network so far
    messages_sent  messages so far; a collective counts as those of the algorithm that ALGORITHMS' cost models name
    seconds        time spent inside exchanges so far, waiting included
    waited         the part of it in which nothing moved because a peer had not come yet
    """

    rank, size = 0, 1
    nodes = (0,)
    library, road, simulated = 'none', 'none', False

    def __init__(self):
        self.bytes_sent, self.messages_sent, self.seconds, self.waited = 0, 0, 0.0, 0.0

    @property
    def machines(self):
        """[L] the machine of every learner, numbered in the order of their first learners; called by all together."""
        return (0,)*self.size

    @property
    def place(self):
        """How many learners of the same machine come before this one; called by all together."""
        return self.machines[:self.rank].count(self.machines[self.rank])

    def arrange(self, node_size):
        """Let `node_size` learners in a row be a node; 0: those of one machine.  Called by all learners together.

        Raises BadInput where node_size does not divide the number of learners.
        """
        require_divisor(node_size, self.size)

    def simulate(self, config):
        """Take up what a config.Simulate says of links and of who goes next; real learners are as they are."""

    def host(self, x):
        """`x` in the memory of the host, from wherever the vectors of this Comm lie."""
        return x

    def shared(self, n, dtype):
        """An array [n] of zeros that the sums of this node can read in place, where they can; else any.

        Called by all learners together, after arrange.
        """
        return zeros(n, dtype)

    def start_sum(self, x):
        """Begin x ← Σ_l x_l; return finish(), after which every learner holds the same bits in `x`.

        Every entry is summed in learner order within each node, then these sums in the order of the nodes: the result
        depends neither on the MPI library nor on how a vector was cut.  `x` must stay untouched until finish() returns.
        """
        return lambda: None

    def start_library_sum(self, x):
        """Begin x ← Σ_l x_l in whatever order the library prefers; else as start_sum."""
        return self.start_sum(x)

    def sum_ordered(self, x):
        """x ← Σ_l x_l as start_sum, at once."""
        self.start_sum(x)()

    def start_sum_slices(self, x, bounds):
        """Begin x[k] ← Σ_l x_l[k] on learner k alone, k = bounds[k]:bounds[k + 1]; return finish().

        `x` must stay untouched until finish() returns; what it holds outside the own slice is unchanged afterwards.
        """
        return lambda: None

    def share_slices(self, x, bounds):
        """x[k] ← x_k[k] of learner k for every slice k, in place, on every learner."""

    def start_relay(self, parcels, room, answers, fold, deliver):
        """Begin sending the bytes parcels[k] to learner k, who answers all learners at once; return finish().

        fold(parcels)     the answer of this learner to what all of them sent it, in learner order
        deliver(answers)  called with those of all learners, in their order, before finish() returns
        room              bytes that a parcel for this learner has at most: those behind its end are of any content
        answers           [L] bytes of the answer of each learner
        What has no bytes is not sent, nor asked for: with room 0 there is no fold, without any answers no deliver.
        Both are called while exchanges move on, on virtual learners fold by any of them.  Parcels and the answer stay
        untouched until finish() returns; those that were received are of that call alone.
        """
        def finish():
            answer = fold(parcels) if room else NO_BYTES
            if answers[0]:
                deliver([answer])
        return finish

    def start_gather(self, parcel, room, deliver):
        """Begin sending the bytes `parcel`, at most `room`, to all learners; return finish().

        deliver(parcels)  as that of start_relay: those of all learners, in their order; behind its end a parcel is of
                          any content up to `room`
        """
        return lambda: deliver([parcel])

    def start_exchange(self, x, to, frm):
        """Begin sending `x` to the learners `to`, and receiving a vector of its size from each of `frm`.

        Return finish() -> [vectors in the order of `frm`], which are the caller's until its next call of finish.  `x`
        must stay untouched until finish() returns.  Between two learners, vectors arrive in the order they were sent.
        """
        return list

    def neighbourhood(self, to, frm):
        """start(x), as start_exchange(x, to, frm), for peers that stay; called by all learners together."""
        return lambda x: self.start_exchange(x, to, frm)

    def window(self, n, dtype, counters=0):
        """`n` entries (onesided.Window) of this learner that all others can reach; called by all learners together.

        Raises BadInput on every learner where there is not the memory for it.
        """
        return Window(self, n, dtype, counters)

    def split(self, colours):
        """The Comm of the learners with this one's colour, in learner order; `colours` [L] is the same on all."""
        return type(self)()

    def allgather(self, value):
        """The `value` of every learner, a list in learner order; for small Python values, not for arrays."""
        return [value]

    def broadcast(self, x, root=0):
        """x ← x_root on every learner, in place."""

    def barrier(self):
        """Return when every learner has come here."""

    def close(self):
        """Finish all that is under way, before the library is left.  All learners call it at the same point."""

    def progress(self):
        """Let the library move what is under way; called between layers, so it must be cheap."""
        flight.beat()

    def watch(self, out, timeout):
        """Have whoever supervises this process end the job if no rank gets on for `timeout` seconds; 0: never.

        out   directory of the experiment, where it tells why
        """
        flight.tell(out=str(out), rank=self.rank, size=self.size, timeout=timeout)

    def serve(self, how):
        """Serve the other learners also while this one computes, until `close`; called by all learners together.

        how   'poll': in `progress`; 'thread': in a thread as well.  Raises BadInput, on all, where MPI forbids threads
        """

    def now(self):
        """Seconds since some moment, on the clock by which this learner lives: simulated, for a virtual one."""
        return perf_counter()

    def sleep(self, seconds):
        """Let time pass, as compute would."""
        sleep(seconds)

    def abort(self, status):
        """End the job of every learner now."""
        raise SystemExit(status)

    def together(self, work, *args):
        """work(*args) on every learner.  If one of them meets bad input, all raise the same BadInput."""
        result, error = None, None
        try:
            result = work(*args)
        except BadInput as e:
            error = str(e)
        errors = self.allgather(error)
        if any(errors):
            raise AgreedBadInput(told(errors))
        return result

    def first(self, work, *args):
        """work(*args) on learner 0 alone; every learner gets what it returns, a small value, or raises its BadInput."""
        result = self.together(work if self.rank == 0 else nothing, *args)
        return self.allgather(result)[0]

    def compare(self, facts):
        """Check that `facts`, {field: value}, are the same on every learner.

        Raises BadInput on every learner, naming each field that differs, its values and their ranks.
        """
        everywhere = self.allgather(facts)
        fields = dict.fromkeys(f for facts in everywhere for f in facts)
        lines = [differing(f, [facts.get(f) for facts in everywhere]) for f in fields]
        if any(lines):
            raise AgreedBadInput('the ranks do not agree: ' + '; '.join(filter(None, lines))
                                 + '; start all of them with the same code, configuration and data')


def require_divisor(node_size, size):
    if node_size and size % node_size:
        raise BadInput(f'--node-size {node_size} does not divide {size} ranks; give a divisor of it')


def arrangement(nodes):
    """Comm.nodes in words: how many learners the nodes have, `4 x 8` or `3 + 2`; else the node of each, `0 1 0 1`."""
    runs = [(node, sum(1 for _ in run)) for node, run in groupby(nodes)]
    sizes = [size for _, size in runs]
    if len(runs) > max(nodes) + 1:
        return ' '.join(map(str, nodes))
    return f'{len(sizes)} x {sizes[0]}' if len(set(sizes)) == 1 else ' + '.join(map(str, sizes))


def nothing(*_):
    """What the other learners do."""


def told(errors):
    """One line for the errors of all ranks (None where there was none)."""
    rank, first = next((rank, e) for rank, e in enumerate(errors) if e)
    return first if len(set(errors)) == 1 else f'rank {rank}: {first}'


def differing(field, values):
    """`field: a (ranks 0, 2), b (rank 1)`, or '' where all values are equal."""
    ranks = {}
    for rank, value in enumerate(values):
        ranks.setdefault(repr(value), []).append(rank)
    return f'{field}: ' + ', '.join(f'{v} (rank{"s"[:len(r) > 1]} {", ".join(map(str, r))})'
                                    for v, r in ranks.items()) if len(ranks) > 1 else ''


@np.errstate(over='ignore', invalid='ignore')  # a model that diverged is seen elsewhere
def add_in_order(parts, nodes, out):
    """out ← Σ of `parts` [L, n] in learner order within each node, then over the nodes, `nodes` [L] as Comm.nodes."""
    groups = [[part for part, node in zip(parts, nodes, strict=True) if node == k] for k in dict.fromkeys(nodes)]
    accumulate(groups[0], out)
    for group in groups[1:]:
        out += group[0] if len(group) == 1 else accumulate(group, np.empty_like(out))


def accumulate(parts, out):
    """out ← ((parts[0] + parts[1]) + parts[2]) + ...; return it."""
    if len(parts) == 1:
        np.copyto(out, parts[0])
        return out
    np.add(parts[0], parts[1], out=out)
    for part in parts[2:]:
        out += part
    return out


def relayed(parcels, answers, rank):
    """(bytes, messages) that learner `rank` sends in a relay."""
    own, others = int(answers[rank]), len(parcels) - 1
    there = [parcel.size for k, parcel in enumerate(parcels) if k != rank and parcel.size]
    return sum(there) + own*others, len(there) + others*(own > 0)


def cuts(n, parts):
    """The bounds of `parts` slices of n entries, as even as they can be: [parts + 1]."""
    return np.arange(parts + 1)*n//parts
