"""The lock of a window's parts: who comes draws a ticket, and waits until its number is served.

Two counters of every part, changed by fetch-and-add alone: the tickets drawn, and the one that is served.  Learners
are served in the order in which they came, so none starves, and the tickets of a part count its acquisitions from 0:
they are the clock by which staleness is told, and their order is the record of a run.  (Mellor-Crummey and Scott, 1991,
section 2.2.)
"""

from contextlib import contextmanager

COUNTERS = 2
DRAWN, SERVED = -2, -1  # behind the counters of the window's user


class Interrupted(Exception):
    """stop() became true before a lock was got."""


@contextmanager
def lock(window, ranks, turns, stop):
    """Hold the parts of the learners `ranks`; gives {rank: ticket}.

    turns   {rank: ticket}: enter with exactly these tickets (a replay), in which case everybody who locks names his
    stop    stop() true: wait no longer, hold nothing, raise Interrupted.  A turn can be taken up again later; a ticket
            that was drawn is lost, with it all later ones: only for a job that ends.

    Parts are taken in rank order, whatever the order of `ranks`; so no circle of learners waits for one another.
    Raises ValueError inside another lock of this window, and if a turn is past or has been taken.
    """
    if window.held:
        raise ValueError(f'learner {window.comm.rank} holds parts {sorted(window.held)} of this window already')
    tickets = window.held = {}
    try:
        for rank in sorted(set(ranks)):
            tickets[rank] = draw(window, rank, stop) if turns is None else take_turn(window, rank, turns[rank], stop)
        window.sync()
        yield dict(tickets)
    finally:
        window.sync()
        for rank in reversed(tickets):
            window.fetch_add(rank, SERVED, 1)
        window.held = {}


def draw(window, rank, stop):
    ticket = window.fetch_add(rank, DRAWN, 1)
    return wait(window, rank, ticket, stop)


def take_turn(window, rank, ticket, stop):
    wait(window, rank, ticket, stop)
    drawn = window.fetch_add(rank, DRAWN, 1)
    if drawn != ticket:
        raise ValueError(f'{name(ticket, rank)} is taken by two: {drawn + 1} were drawn')
    return ticket


def wait(window, rank, ticket, stop):
    """Wait until `ticket` is served; return it."""
    served = window.wait(rank, SERVED, ticket, name(ticket, rank), stop)
    if served < ticket:
        raise Interrupted(f'learner {window.comm.rank} no longer waits for {name(ticket, rank)}, {served} is served')
    if served > ticket:
        raise ValueError(f'{name(ticket, rank)} is past, {served} is served')
    return ticket


def name(ticket, rank):
    return f'ticket {ticket} of learner {rank}'


def restart(window):
    """Number the tickets of this learner's part from 0 again; nobody may hold or want one meanwhile."""
    rank = window.comm.rank
    for counter in DRAWN, SERVED:
        window.fetch_add(rank, counter, -window.read(rank, counter))
