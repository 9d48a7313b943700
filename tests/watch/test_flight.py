"""What a rank writes into its flight recorder is what the process beside it reads."""

import os

import pytest

from hpcasr.watch import flight
from hpcasr.watch.flight import BARRIER, EXCHANGE, RECORDS, SUM, TICKET, Flight


@pytest.mark.parametrize('ranks, seen', [((), []), ((0,), [0]), ((7, 0, 1000000), [7, 0, 1000000]),
                                         ((1, 2, 3, 4, 5), [1, 2, 3])])
def test_peers_are_packed_into_one_word(ranks, seen):
    word = flight.pack(ranks)
    assert flight.unpack(word) == seen and word < 2**63 and (word >= flight.MORE) == (len(ranks) > 3)


@pytest.mark.parametrize('n', [0, 1, RECORDS, 3*RECORDS + 5])
def test_the_last_exchanges_are_kept(n):
    f = Flight(bytearray(flight.SIZE))
    for k in range(n):
        f.end(f.begin(EXCHANGE, 0, flight.pack((k,)), 10*k))
    recent = flight.read(f.memory)['recent']
    kept = range(max(0, n - RECORDS), n)
    assert [(row['n'], row['peers'], row['number']) for row in recent] == [(10*k, [k], k + 1) for k in kept]
    assert all(row['ended'] >= row['began'] > 0 for row in recent)


def test_what_is_under_way_is_told_from_what_is_over():
    f = Flight(bytearray(flight.SIZE))
    outer = f.begin(SUM, n=f.collective(0))
    for _ in range(RECORDS - 2):
        f.end(f.begin(BARRIER, n=f.collective(0)))
    f.begin(TICKET, peers=flight.pack((2,)), n=7)
    assert [(row['kind'], row['n']) for row in flight.read(f.memory)['doing']] == [(SUM, 1), (TICKET, 7)]
    f.end(outer)
    assert [row['kind'] for row in flight.read(f.memory)['doing']] == [TICKET]
    assert flight.read(f.memory)['counts'] == {'0 ': RECORDS - 1}


def test_groups_have_names_that_are_the_same_on_all_their_ranks():
    here, there = (Flight(bytearray(flight.SIZE)) for _ in range(2))
    for f, mine in (here, [0, 2]), (there, [1, 3]):
        f.collective(f.group(mine))
        f.collective(f.group([0, 1, 2, 3]))
        f.begin(EXCHANGE, 1, flight.pack((1,)))
    one, other = flight.read(here.memory), flight.read(there.memory)
    assert len(set(one['counts']) & set(other['counts'])) == 1  # of the group of all, not of the halves
    assert one['doing'][0]['peers'] == [2] and other['doing'][0]['peers'] == [3]  # as they are numbered in the job
    for k in range(2*flight.GROUPS):
        here.collective(here.group([k]))  # more than there is room for: no harm


def test_locks_within_locks():
    f = Flight(bytearray(flight.SIZE))
    with f.holding([1, 2]):
        with f.holding([3]):
            assert flight.read(f.memory)['held'] == [3]
        assert flight.read(f.memory)['held'] == [1, 2]
    assert flight.read(f.memory)['held'] == []


def test_another_process_reads_what_a_child_has_written():
    memory = flight.shared()
    child = os.fork()
    if not child:
        f = Flight(memory)
        f.tell(out='exp/ü', rank=3)
        f.step(96)
        f.begin(SUM, n=f.collective(0))
        os._exit(0)
    os.waitpid(child, 0)
    told = flight.read(memory)
    assert (told['out'], told['rank'], told['beats'], told['step'], told['samples']) == ('exp/ü', 3, 1, 2, 96)
    assert told['doing'][0]['kind'] == SUM
