"""Who holds up a job, from what the ranks say: every case that has one culprit names it, and nobody else."""

import pytest

from hpcasr.watch import flight
from hpcasr.watch.flight import AWAIT, BARRIER, EXCHANGE, SUM, TICKET, Flight
from hpcasr.watch.verdict import culprits, verdict


def report(act=lambda f: None, state='R', where='', silent=False, process=1):
    """The report of a rank whose recorder is left as act(recorder) leaves it."""
    f = Flight(bytearray(flight.SIZE))
    act(f)
    return {**flight.read(f.memory), 'host': 'n1', 'process': process, 'state': state, 'where': where, 'quiet': 9,
            'silent': silent}


def in_sum(n):
    """It has come to the n-th collective."""
    def act(f):
        for _ in range(n):
            f.collective(0)
        f.begin(SUM, n=n)
    return act


def FINISHED(f):
    f.tell(finished=True)


def between(*peers):
    return lambda f: f.begin(EXCHANGE, peers=flight.pack(peers))


def ticket(of, n=4):
    return lambda f: f.begin(TICKET, peers=flight.pack((of,)), n=n)


def holds(rank, act=lambda f: None):
    def both(f):
        f.words[flight.HELD] = flight.pack((rank,))
        act(f)
    return both


@pytest.mark.parametrize('culprit, reports', [
    ([1], {0: report(in_sum(3)), 1: report(in_sum(3), state='T'), 2: report(in_sum(3))}),
    ([2], {0: report(in_sum(3)), 1: report(in_sum(3)), 2: report(where='read (x.py line 3)')}),
    ([2], {0: report(in_sum(3)), 1: report(in_sum(3)), 2: report(silent=True)}),
    ([1], {0: report(in_sum(3)), 2: report(in_sum(3))}),
    ([0, 2], {0: report(), 1: report(in_sum(3)), 2: report(state='S')}),
    ([1], {0: report(in_sum(4)), 1: report(in_sum(3)), 2: report(in_sum(4))}),  # it waits for nobody that has come
    ([2], {0: report(between(1)), 1: report(between(2)), 2: report(state='T')}),
    ([0, 1, 2], {0: report(between(1)), 1: report(between(2)), 2: report(between(0))}),  # a circle
    ([1], {0: report(ticket(0)), 1: report(holds(0)), 2: report(ticket(0, 5))}),
    ([2], {0: report(ticket(1)), 1: report(holds(1, ticket(2))), 2: report(holds(2), state='T')}),
    ([1, 2], {0: report(ticket(1)), 1: report(holds(1, ticket(2))), 2: report(holds(2, ticket(1)))}),
    ([1], {0: report(FINISHED), 1: report(in_sum(3)), 2: report(FINISHED)}),
    ([1], {0: report(FINISHED), 1: report(), 2: report(FINISHED)}),
    ([0], {0: report(lambda f: f.begin(AWAIT, peers=flight.pack((0,))), state='D'), 1: report(in_sum(1))}),
])
def test_the_culprit_is_named(culprit, reports):
    size = max(reports) + 1
    assert culprits(reports, size)[0] == culprit
    line = verdict(reports, size)
    assert '\n' not in line and all(f'rank {rank}' in line.split('; rank')[0] or f'rank {rank} on' in line
                                    for rank in culprit)


def test_a_barrier_that_one_rank_alone_has_come_to():
    """All wait, in exchanges that do not fit together: those who cannot go on without the others are named."""
    def early(f):
        f.collective(0)
        f.begin(BARRIER, n=1)
    reports = {0: report(early), 1: report(between(2)), 2: report(between(1))}
    assert culprits(reports, 3)[0] == [1, 2]


def test_halves_of_a_job_do_not_wait_for_each_other():
    """Ranks 0 and 2 have summed, and wait for the others; 3 is in its sum with 1, which does not come out of a lock."""
    def done(f):
        f.end(f.begin(SUM, f.group([0, 2]), n=f.collective(1)))
        f.begin(SUM, n=f.collective(0))

    def half(f):
        f.begin(SUM, f.group([1, 3]), n=f.collective(1))

    def locked(f):
        f.group([1, 3])
        ticket(3)(f)
    reports = {0: report(done), 2: report(done), 3: report(half), 1: report(locked)}
    assert culprits(reports, 4)[0] == [1]


def test_the_line_says_what_to_look_at():
    reports = {0: report(in_sum(7)), 1: report(in_sum(7)), 2: report(where='read (hpcasr/data/x.py line 3)', process=9)}
    assert verdict(reports, 3) == ('rank 2 on n1 (process 9) does not come to the next exchange, in step 1, in read '
                                   '(hpcasr/data/x.py line 3); ranks 0, 1 wait in a sum (number 7)')
