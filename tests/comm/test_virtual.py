"""Virtual learners: the verbs' meaning, the clock's arithmetic, and that a run can be repeated."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.virtual import Deadlock, Link, World
from hpcasr.errors import BadInput

SIZES = 1, 2, 3, 4, 5, 8
FREE = Link(0.0, float('inf'))


def vector(rank, n):
    rng = np.random.default_rng([rank, n])
    return (rng.normal(size=n)*10.0**rng.integers(-6, 7, n)).astype(np.float32)


@pytest.mark.parametrize('schedule', ['clock', 'random'])
@pytest.mark.parametrize('size', SIZES)
def test_sums_are_in_learner_order(size, schedule):
    def work(comm):
        x = vector(comm.rank, 1000)
        early, late = comm.start_sum(x[:300]), comm.start_sum(x[300:])
        comm.progress()
        early(), late()
        return x
    total = vector(0, 1000)
    for rank in range(1, size):
        total += vector(rank, 1000)
    assert all(x.tobytes() == total.tobytes() for x in World(size, schedule=schedule, strict=True).run(work))


@pytest.mark.parametrize('node_size', [1, 2, 3, 6])
def test_sums_are_by_nodes(node_size):
    def work(comm):
        comm.arrange(node_size)
        x = vector(comm.rank, 100)
        comm.sum_ordered(x)
        return x
    nodes = []
    for lo in range(0, 6, node_size):
        nodes.append(vector(lo, 100))
        for rank in range(lo + 1, lo + node_size):
            nodes[-1] += vector(rank, 100)
    for node in nodes[1:]:
        nodes[0] += node
    assert all(x.tobytes() == nodes[0].tobytes() for x in World(6).run(work))


def test_nodes_must_be_whole():
    with pytest.raises(BadInput, match='--node-size 4 does not divide 6 ranks'):
        World(6).run(lambda comm: comm.arrange(4))


@given(size=st.integers(1, 6), seed=st.integers(0, 99), schedule=st.sampled_from(['clock', 'random']), data=st.data())
@settings(max_examples=40, deadline=None)
def test_exchanges_on_any_digraph(size, seed, schedule, data):
    """Several rounds under way at once; every vector goes to whom it was meant for, in order."""
    edges = data.draw(st.sets(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1))))
    edges = sorted((a, b) for a, b in edges if a != b)

    def work(comm):
        to, frm = [b for a, b in edges if a == comm.rank], [a for a, b in edges if b == comm.rank]
        rounds = [np.full(4, 10*comm.rank + k, np.float32) for k in range(3)]
        finish = [comm.start_exchange(x, to, frm) for x in rounds]
        got = [f() for f in (finish[1], finish[0], finish[2])]
        assert comm.messages_sent == 3*len(to) and comm.bytes_sent == 3*16*len(to)
        return frm, [[int(v[0]) for v in vectors] for vectors in got]
    for frm, (second, first, third) in World(size, FREE, schedule, seed, strict=True).run(work):
        assert [first, second, third] == [[10*f + k for f in frm] for k in range(3)]


@pytest.mark.parametrize('size', SIZES)
def test_slices_and_small_values(size):
    def work(comm):
        bounds = np.array([0, 5, *[5]*(comm.size - 1)]) if comm.size > 1 else np.array([0, 5])
        x, whole = np.full(5, comm.rank + 1.0), np.full(5, comm.rank + 1.0)
        comm.start_sum_slices(x, bounds)()
        assert (x == (sum(range(1, size + 1)) if comm.rank == 0 else whole)).all()
        comm.share_slices(x, bounds)
        assert (x == sum(range(1, size + 1))).all()
        y = np.full(3, comm.rank)
        comm.broadcast(y, root=comm.size - 1)
        assert (y == comm.size - 1).all()
        assert comm.first(lambda: 'told') == 'told'
        return comm.allgather(comm.rank**2)
    assert World(size, strict=True).run(work) == [[r**2 for r in range(size)]]*size


def test_a_split_has_its_own_messages_and_charges_its_parent():
    def work(comm):
        part = comm.split([0, 1, 0, 1, 1])
        finish = comm.start_exchange(np.array([comm.rank]), [(comm.rank + 1) % 5], [(comm.rank - 1) % 5])
        inside = part.start_exchange(np.array([100 + comm.rank]), [(part.rank + 1) % part.size],
                                     [(part.rank - 1) % part.size])
        x = np.array([comm.rank])
        part.sum_ordered(x)
        assert comm.messages_sent == 2 + 2*(part.size - 1)
        return int(finish()[0][0]), int(inside()[0][0]), int(x[0])
    assert World(5).run(work) == [(4, 102, 2), (0, 104, 8), (1, 100, 2), (2, 101, 8), (3, 103, 8)]


def test_the_clock_of_an_exchange():
    """Two vectors of 1000 bytes at 1000 bytes/s: posted at 0 by one, at 5 by the other."""
    def work(comm):
        comm.sleep(5*comm.rank)
        finish = comm.start_exchange(np.zeros(1000, np.uint8), [1 - comm.rank], [1 - comm.rank])
        finish()
        return comm.now(), comm.seconds, comm.waited
    first, second = World(2, Link(0.5, 1000)).run(work)
    assert first == (6.5, 6.5, 5.0)
    assert second == (5.0, 0.0, 0.0)


def test_a_learner_sends_one_vector_after_the_other():
    def work(comm):
        finish = comm.start_exchange(np.zeros(1000, np.uint8), [1, 2] if comm.rank == 0 else [], [0]*(comm.rank > 0))
        finish()
        return comm.now()
    assert World(3, Link(0.0, 1000)).run(work) == [0.0, 1.0, 2.0]


def test_a_sum_waits_for_the_slowest():
    def work(comm):
        comm.sleep(comm.rank)
        comm.sum_ordered(np.zeros(400, np.uint8))
        return comm.now(), comm.waited
    took = 2*300/100 + 6*0.25  # a ring of four: 2·3/4 of the bytes, 6 messages
    assert World(4, Link(0.25, 100)).run(work) == [(3 + took, 3.0 - rank) for rank in range(4)]


def test_time_orders_what_learners_do():
    """The one that is behind on the clock acts first, however long each of its steps is."""
    log = []

    def work(comm):
        for _ in range(4):
            comm.sleep(1.0 + 0.3*comm.rank)
            log.append(round(comm.now(), 1))
    World(3).run(work)
    assert log == sorted(log) and len(log) == 12


def test_a_seed_repeats_a_run_and_others_differ():
    def order(seed, schedule):
        log = []

        def work(comm):
            for _ in range(5):
                comm.progress(), comm.sleep(1.0)
                log.append(comm.rank)
        World(4, schedule=schedule, seed=seed).run(work)
        return log
    for schedule in 'clock', 'random':
        assert order(1, schedule) == order(1, schedule)
        assert len({tuple(order(s, schedule)) for s in range(5)}) > 1


def test_all_waiting_is_an_error_that_says_for_what():
    def work(comm):
        comm.start_exchange(np.zeros(1), [], [1 - comm.rank])()
    with pytest.raises(Deadlock, match=r'learner 0 waits for vectors of learners \[1\]; learner 1 waits for'):
        World(2).run(work)


def test_the_first_failure_ends_all():
    def work(comm):
        if comm.rank == 2:
            raise ArithmeticError('on purpose')
        comm.barrier()
    with pytest.raises(ArithmeticError, match='on purpose'):
        World(4).run(work)


def test_a_vector_that_changes_under_way_is_noticed():
    def work(comm):
        x = np.zeros(3)
        finish = comm.start_exchange(x, [1 - comm.rank], [1 - comm.rank])
        x += 1
        finish()
    with pytest.raises(AssertionError, match='changed a vector'):
        World(2, strict=True).run(work)


def test_what_is_never_received_is_noticed():
    def work(comm):
        comm.start_exchange(np.zeros(1), [1 - comm.rank], [])()
    with pytest.raises(AssertionError, match='2 vectors and 0 meetings are left under way'):
        World(2, strict=True).run(work)


def test_groups_of_the_same_members_do_not_meet():
    """Two groups of all learners, beside the group that they were made from."""
    def work(comm):
        comm.barrier()
        one, two = comm.split([0]*comm.size), comm.split([0]*comm.size)
        peers = [(comm.rank + 1) % comm.size], [(comm.rank - 1) % comm.size]
        finish = [c.start_exchange(np.array([k]), *peers) for k, c in enumerate((comm, one, two))]
        sums = [np.array([k]) for k in range(3)]
        finish += [c.start_sum(x) for c, x in zip((comm, one, two), sums, strict=True)]
        got = [f() for f in finish[::-1]][:2:-1]
        return [int(vectors[0][0]) for vectors in got], [int(x[0]) for x in sums]
    assert World(3, schedule='random', strict=True).run(work) == [([0, 1, 2], [0, 3, 6])]*3


def test_buckets_share_the_link():
    """Cutting a sum does not make the network faster; nor do a vector and a sum pass at the same time."""
    def whole(comm):
        comm.sum_ordered(np.zeros(4000, np.uint8))
        return comm.now()

    def cut(comm):
        x = np.zeros(4000, np.uint8)
        for finish in [comm.start_sum(x[lo:lo + 1000]) for lo in range(0, 4000, 1000)]:
            finish()
        return comm.now()

    def mixed(comm):
        finish = comm.start_exchange(np.zeros(2000, np.uint8), [1 - comm.rank], [1 - comm.rank])
        comm.sum_ordered(np.zeros(2000, np.uint8))
        finish()
        return comm.now()
    link = Link(0.0, 1000)
    assert World(2, link).run(whole) == World(2, link).run(cut) == World(2, link).run(mixed) == [4.0, 4.0]


def test_one_learner_sends_nothing_in_no_time():
    def work(comm):
        x = np.ones(1000)
        comm.sum_ordered(x)
        comm.start_sum_slices(x, [0, 1000])()
        comm.share_slices(x, [0, 1000])
        comm.broadcast(x)
        return comm.now(), comm.bytes_sent, comm.messages_sent, comm.seconds
    assert World(1, Link(1.0, 1.0)).run(work) == [(0.0, 0, 0, 0.0)]


@pytest.mark.parametrize('wrong, says', [
    (lambda comm: comm.start_exchange(np.zeros(1), [comm.rank], []), 'cannot exchange with learner'),
    (lambda comm: comm.start_exchange(np.zeros((2, 2)), [], []), 'a contiguous vector is needed'),
    (lambda comm: comm.neighbourhood([1 - comm.rank], []), 'do not agree'),
    (lambda comm: comm.start_sum(np.zeros(4)[::2]), 'a contiguous vector is needed'),
    (lambda comm: comm.share_slices(np.zeros(4), [0, 4]), 'are no bounds of 2 slices')])
def test_what_ranks_refuse_virtual_learners_refuse(wrong, says):
    with pytest.raises(ValueError, match=says):
        World(2).run(wrong)
