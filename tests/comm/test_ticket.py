"""Ticket locks: in order of arrival, without gaps, never a circle; a recorded order can be repeated anywhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.ticket import Interrupted
from hpcasr.comm.virtual import Deadlock, World

SCHEDULES = 'clock', 'random'


def gapless(comm, tickets, parts):
    """Whether the `tickets`, [{part: ticket}] of each learner, are 0, 1, 2 ... of every part, each learner's rising."""
    lists = [[t[part] for t in mine if part in t] for part in parts for mine in tickets]
    everyone = [sorted(t[part] for mine in tickets for t in mine if part in t) for part in parts]
    return all(t == sorted(t) for t in lists) and all(t == [*range(len(t))] for t in everyone)


def taking(comm, orders):
    """[{part: ticket}] of locks of the parts in `orders`, each checked to exclude everybody else."""
    window, tickets, one = comm.window(1, 'i8'), [], np.zeros(1, 'i8')
    for parts in orders:
        with window.lock(parts) as got:
            assert sorted(got) == sorted(set(parts))
            tickets.append(got)
            for part, ticket in got.items():
                window.get(part, one)
                assert one[0] == ticket  # as many have been here before
                comm.progress()
                window.put(part, one + 1)
    comm.barrier()
    window.close()
    return tickets


@pytest.mark.mpi
def test_tickets_over_mpi():
    comm = MPIComm()
    rng = np.random.default_rng([1, comm.rank])
    orders = [rng.permutation(comm.size)[:rng.integers(1, comm.size + 1)].tolist() for _ in range(25)]
    assert gapless(comm, comm.allgather(taking(comm, orders)), range(comm.size))


@given(st.data(), st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(SCHEDULES))
@settings(max_examples=60, deadline=None)
def test_any_parts_in_any_order_and_no_deadlock(data, size, seed, schedule):
    request = st.lists(st.integers(0, size - 1), min_size=1, max_size=size + 1)
    orders = data.draw(st.lists(st.lists(request, max_size=5), min_size=size, max_size=size))
    tickets = World(size, schedule=schedule, seed=seed, strict=True).run(lambda c: taking(c, orders[c.rank]))
    assert gapless(None, tickets, range(size))


def test_a_learner_alone_has_tickets_too():
    assert taking(Comm(), [[0], [0, 0]]) == [{0: 0}, {0: 1}]


def history(comm, record=None, rounds=6, n=9):
    """(tickets of every lock, all models) after updates whose order matters; `record` [L][rounds]: in this order."""
    window, rng, other = comm.window(n, 'f4'), np.random.default_rng([5, comm.rank]), np.empty(n, 'f4')
    tickets = []
    for turn in range(rounds):
        parts = {comm.rank, int(rng.integers(comm.size)), int(rng.integers(comm.size))}
        comm.sleep(rng.random()*1e-3)
        with window.lock(parts, turns=record and record[comm.rank][turn]) as got:
            tickets.append(got)
            for part in parts - {comm.rank}:
                window.get(part, other)
                window.own[:] = 0.7*window.own + 0.3*other + rng.random(n)
                window.put(part, window.own)
            window.own[:] *= 0.9
    comm.barrier()
    window.sync()
    tickets, models = comm.allgather(tickets), comm.allgather(window.own.tobytes().hex())
    window.close()
    return tickets, models


@pytest.mark.mpi
def test_a_recorded_order_is_repeated_between_real_ranks_and_virtual_learners():
    comm = MPIComm()
    real = history(comm)
    assert World(comm.size, seed=3, strict=True).run(lambda c: history(c, real[0]))[0] == real
    assert history(comm, real[0]) == real
    virtual = World(comm.size, schedule='random', seed=4, strict=True).run(history)[0]
    assert history(comm, virtual[0]) == virtual


@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(SCHEDULES), st.sampled_from(SCHEDULES))
@settings(max_examples=30, deadline=None)
def test_a_recorded_order_is_repeated_under_any_schedule(size, seed, first, second):
    run = World(size, schedule=first, seed=seed, strict=True).run(history)[0]
    assert World(size, schedule=second, seed=seed + 1, strict=True).run(lambda c: history(c, run[0]))[0] == run


def test_other_orders_give_other_models():
    assert len({World(3, schedule='random', seed=seed).run(history)[0][1][0] for seed in range(5)}) > 1


@pytest.mark.mpi
def test_who_waits_for_a_turn_serves_the_others():
    """Learner 0 comes second, but the first comes only when a sum is done that needs learner 0."""
    comm = MPIComm()
    window, x = comm.window(1, 'f4'), np.full(1001, comm.rank + 1.0)
    finish = comm.start_sum(x)
    if comm.rank:
        finish()
    if comm.rank == 1 or comm.size == 1:
        with window.lock([0], turns={0: 0}):
            pass
    if comm.rank == 0:
        with window.lock([0], turns={0: 1}) as got:
            assert got == {0: 1}
        finish()
    assert (x == comm.size*(comm.size + 1)/2).all()
    comm.barrier()
    window.close()


def interrupted(comm, stop, ask=list):
    """The first part's turn is there, the second one's never comes; afterwards nothing is held."""
    window, last = comm.window(1, 'f4'), comm.size - 1
    if comm.rank == 0 and last:
        with pytest.raises(Interrupted, match=f'learner 0 no longer waits for ticket 7 of learner {last}, 0 is served'):
            with window.lock([0, last], turns={0: 0, last: 7}, stop=stop):
                pass
        assert not window.held
    ask()
    comm.barrier()
    with window.lock([0]) as got:
        pass
    tickets = comm.allgather(got[0])
    window.close()
    return sorted(tickets) == list(range(last > 0, comm.size + (last > 0)))


@pytest.mark.mpi
def test_a_wait_can_be_given_up_over_mpi():
    looks = []
    assert interrupted(MPIComm(), lambda: looks.append(0) or len(looks) > 3)


@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('size', [1, 2, 4])
def test_a_wait_can_be_given_up(size, schedule):
    asked = []
    work = lambda comm: interrupted(comm, lambda: bool(asked), lambda: asked.append(comm.rank))
    assert all(World(size, schedule=schedule, strict=True).run(work))


def test_a_turn_that_never_comes_is_named():
    def work(comm):
        with comm.window(1, 'f4').lock([1], turns={1: comm.rank + 4}):
            pass
    with pytest.raises(Deadlock, match='learner 0 waits for ticket 4 of learner 1; learner 1 waits for ticket 5 of'):
        World(2).run(work)


def test_two_windows_in_two_orders_are_a_deadlock_that_is_named():
    def work(comm):
        windows = comm.window(1, 'f4', 1), comm.window(1, 'f4', 1)
        first, second = windows[::-1] if comm.rank else windows
        with first.lock([0]):
            first.fetch_add(0, 0, 1)
            second.wait(0, 0, 1)
            with second.lock([0]):
                pass
    with pytest.raises(Deadlock, match='learner 0 waits for ticket 1 of learner 0; learner 1 waits for ticket 1 of'):
        World(2).run(work)


@pytest.mark.parametrize(('turns', 'why'), [([0, 0], 'ticket 0 of learner 0 is past, 1 is served')])
def test_turns_that_are_past_are_refused(turns, why):
    window = Comm().window(1, 'f4')
    with pytest.raises(ValueError, match=why):
        for turn in turns:
            with window.lock([0], turns={0: turn}):
                pass
    with window.lock([0]) as got:
        assert got == {0: 1}
        with pytest.raises(ValueError, match=r'holds parts \[0\] of this window already'), window.lock([0]):
            pass
    with window.lock([0]) as got:
        assert got == {0: 2}


def test_a_turn_taken_by_two_is_refused():
    def work(comm):
        window = comm.window(1, 'f4')
        with window.lock([0], turns={0: 0}):
            comm.sleep(1.0)
    with pytest.raises(ValueError, match='ticket 0 of learner 0 is taken by two: 2 were drawn'):
        World(2).run(work)


def test_an_error_under_the_lock_gives_it_back():
    window = Comm().window(1, 'f4')
    with pytest.raises(ZeroDivisionError), window.lock([0]):
        1/0  # noqa: B018
    with window.lock([0]) as got:
        assert got == {0: 1}
