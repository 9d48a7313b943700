"""Handing out samples: all of them, once, whatever the number of learners; resumable anywhere."""

from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.onesided import never
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.data.work import StaticWork, get_work
from hpcasr.journal import Journal


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 7))
def test_an_epoch_is_covered_once(total, batch, size):
    learners = [list(StaticWork(total, batch, r, size).rest()) for r in range(size)]
    assert len({len(claims) for claims in learners}) == 1
    taken = []
    for step in zip(*learners, strict=True):
        assert len({c.samples for c in step}) == 1
        assert sum(c.hi - c.lo for c in step) == step[0].samples
        sizes = [c.hi - c.lo for c in step]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch
        taken += [k for c in step for k in range(c.lo, c.hi)]
    assert taken == list(range(total))


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.integers(0, 20))
def test_it_goes_on_where_it_stopped_with_any_number_of_learners(total, batch, before, after, steps):
    work = StaticWork(total, batch, 0, before)
    for claim, _ in zip(work.rest(), range(steps), strict=False):
        work.finish(claim)
    resumed = [StaticWork(total, batch, r, after) for r in range(after)]
    for w in resumed:
        w.load(work.state())
    rest = sorted(k for w in resumed for c in w.rest() for k in range(c.lo, c.hi))
    assert rest == list(range(work.consumed, total))


def test_samples_are_counted_over_epochs():
    work = StaticWork(10, 4, 0, 1)
    for claim in work.rest():
        work.finish(claim)
    assert work.samples == 10
    work.next_epoch()
    assert work.samples == 10 and work.consumed == 0
    assert next(work.rest()).epoch == 1


def test_the_global_batch_does_not_depend_on_the_number_of_learners():
    steps = [[c.samples for c in StaticWork(100, 12//n, 0, n).rest()] for n in (1, 2, 3, 4)]
    assert steps[0] == steps[1] == steps[2] == steps[3]


# learners that do not step together

def config(assign, every):
    return Config().with_values({'exchange.assign': assign, 'checkpoint.every': every, 'data.batch': 4}, 'test')


class Worker:
    """What get_work wants to know of an algorithm: the crews, [L] a colour for every learner, and the journal."""

    asynchronous = True

    def __init__(self, comm, crews, journal=None):
        self.crew, self.journal = comm.split(crews) if crews else Comm(), journal or Journal()


def stretch(comm, work, pause, halts=(), stop=never):
    """[claim] of this learner up to the next meeting point, as train and Loader take them; halts: after which steps."""
    taken, held = [], deque()

    def step():
        claim = held.popleft()
        comm.sleep(pause)
        work.finish(claim)
        taken.append(claim)
        if len(taken) in halts and not work.halt():
            work.halt()  # a signal stays: every later step says so again
    for claim in work.rest():
        held.append(claim)
        if len(held) > work.lead:
            step()
    while held:
        step()
    work.await_others(stop)
    work.meet()
    return taken


def days(comm, plan, start=(0, 0), stretches=None):
    """({epoch: positions}, [steps of each stretch], state) of this learner: whole epochs, or some stretches of them.

    plan   total, assign, every, crews, pauses [L], halts {learner: after which steps}, epochs
    """
    work = get_work(Worker(comm, plan.crews), plan.total, config(plan.assign, plan.every), comm)
    work.load(dict(zip(('epoch', 'consumed'), start, strict=True)))
    got, steps = {}, []
    while work.epoch < plan.epochs and (stretches is None or len(steps) < stretches):
        claims = stretch(comm, work, plan.pauses[comm.rank], plan.halts.get(comm.rank, ()))
        for claim in claims:
            assert claim.at == claim.epoch*plan.total + claim.at % plan.total
            assert claim.hi - claim.lo <= work.batch and claim.samples <= work.batch*work.size
            got.setdefault(claim.epoch, []).extend(range(claim.lo, claim.hi))
        steps.append(len(claims))
        assert len(steps) <= plan.total*plan.epochs + 9, 'no end'
        if work.over:
            work.next_epoch()
    return got, steps, (work.epoch, work.consumed)


@dataclass
class Plan:
    total: int
    assign: str = 'counter'
    every: int = 0
    crews: tuple = ()
    pauses: tuple = (1.0,)*8
    halts: dict = field(default_factory=dict)
    epochs: int = 2


def handed_out(found, epoch):
    return sorted(k for got, _, _ in found for k in got.get(epoch, []))


@st.composite
def plans(draw, size):
    crews = draw(st.sampled_from([c for c in CREWS if c <= size and size % c == 0]))
    return Plan(draw(st.integers(1, 150)), draw(st.sampled_from(['counter', 'static'])), draw(st.integers(0, 70)),
                tuple(k//crews for k in range(size)) if crews > 1 else (),
                draw(st.tuples(*[st.sampled_from([0.0, 0.3, 1.0, 5.0])]*size)),
                draw(st.dictionaries(st.integers(0, size - 1), st.sets(st.integers(1, 9), max_size=3), max_size=size)))


CREWS = 1, 2, 3


def worlds(size, data):
    return World(size, schedule=data.draw(st.sampled_from(['clock', 'random'])), seed=data.draw(st.integers(0, 999)),
                 strict=True)


@given(st.integers(1, 6), st.data())
@settings(max_examples=150, deadline=None)
def test_whoever_is_fast_and_whoever_halts_every_sample_is_handed_out_once(size, data):
    plan = data.draw(plans(size))
    found = worlds(size, data).run(lambda comm: days(comm, plan))
    for epoch in range(plan.epochs):
        assert handed_out(found, epoch) == list(range(plan.total))
    assert len({state for *_, state in found}) == 1
    for crew in set(plan.crews):
        assert len({tuple(found[rank][1]) for rank in range(size) if plan.crews[rank] == crew}) == 1


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.data())
@settings(max_examples=80, deadline=None)
def test_any_number_of_learners_goes_on_from_any_meeting_point(before, after, stretches, data):
    plan = data.draw(plans(before))
    first = worlds(before, data).run(lambda comm: days(comm, plan, stretches=stretches))
    again = replace(data.draw(plans(after)), total=plan.total)
    second = worlds(after, data).run(lambda comm: days(comm, again, first[0][2]))
    for epoch in range(plan.epochs):
        assert handed_out(first, epoch) + handed_out(second, epoch) == list(range(plan.total))


@pytest.mark.parametrize('assign', ['counter', 'static'])
@pytest.mark.parametrize('schedule', ['clock', 'random'])
def test_more_learners_than_samples(assign, schedule):
    plan = Plan(2, assign)
    found = World(5, schedule=schedule, strict=True).run(lambda comm: days(comm, plan))
    assert handed_out(found, 0) == handed_out(found, 1) == [0, 1]
    assert sum(not any(got.values()) for got, *_ in found) >= 3


def test_who_is_four_times_as_fast_takes_four_times_as_much_from_a_counter():
    counter, static = (World(3, strict=True).run(lambda comm, assign=assign: days(
        comm, Plan(4*900, assign, pauses=(1.0, 1.0, 4.0), epochs=1))) for assign in ('counter', 'static'))
    assert all(abs(steps[0] - due) <= 1 for (_, steps, _), due in zip(counter, [400, 400, 100], strict=True))
    assert [steps for _, steps, _ in static] == [[300]]*3


@pytest.mark.parametrize('every, meetings', [(0, [100]), (40, [40, 80, 100]), (30, [30, 60, 90, 100]), (1000, [100])])
def test_meeting_points_are_multiples_of_global_samples(every, meetings):
    def work(comm):
        work, met = get_work(Worker(comm, ()), 100, config('counter', every), comm), []
        while not work.over:
            stretch(comm, work, 1.0)
            met.append(work.consumed)
        return met
    assert World(3, strict=True).run(work) == [meetings]*3


@pytest.mark.parametrize('assign', ['counter', 'static'])
@pytest.mark.parametrize('halters', [{0: {2}}, {2: {2}}, {0: {2}, 1: {2}, 2: {2}}])
def test_a_halt_is_soon(assign, halters):
    """Nobody does more than what it held, and, with fixed shares, what makes all equal."""
    plan = Plan(4000, assign, halts=halters, epochs=1)
    found = World(3, strict=True).run(lambda comm: days(comm, plan, stretches=1))
    assert all(steps[0] <= 5 for _, steps, _ in found)
    assert handed_out(found, 0) == list(range(found[0][2][1]))


@pytest.mark.parametrize('assign', ['counter', 'static'])
def test_who_waits_at_a_meeting_point_can_still_halt_the_others(assign):
    """Learner 1 takes nothing.  Asked to stop while it waits, it stops learner 0."""
    def work(comm):
        work = get_work(Worker(comm, ()), 4*1000, config(assign, 0), comm)
        if comm.rank == 1:
            work.rest = lambda: iter(())
            return len(stretch(comm, work, 1.0, stop=lambda: comm.world.learners[0].clock > 5))
        return len(stretch(comm, work, 1.0))
    first, second = World(2, strict=True).run(work)
    assert second == 0 and first < 12


@pytest.mark.mpi
@pytest.mark.parametrize('assign', ['counter', 'static'])
@pytest.mark.parametrize('halter', [None, 0, -1])
@pytest.mark.parametrize('every', [0, 70])
def test_ranks_hand_out_every_sample_once(assign, halter, every):
    comm = MPIComm()
    halts = {} if halter is None else {halter % comm.size: {2, 3}}
    plan = Plan(301, assign, every, pauses=[2e-4*(r + 1) for r in range(comm.size)], halts=halts)
    found = comm.allgather(days(comm, plan))
    for epoch in range(plan.epochs):
        assert handed_out(found, epoch) == list(range(plan.total))
    comm.close()


@pytest.mark.mpi
@pytest.mark.parametrize('assign', ['counter', 'static'])
def test_crews_of_ranks_take_their_steps_together(assign):
    comm = MPIComm()
    plan = Plan(301, assign, crews=tuple(r//2 for r in range(comm.size)), pauses=[2e-4]*comm.size,
                halts={comm.size - 1: {3}})
    if comm.size % 2 and comm.size > 1:
        plan = replace(plan, crews=(0,)*comm.size)
    found = comm.allgather(days(comm, plan))
    assert handed_out(found, 0) == list(range(plan.total))
    for crew in set(plan.crews):
        assert len({tuple(found[rank][1]) for rank in range(comm.size) if plan.crews[rank] == crew}) == 1
    comm.close()


@pytest.mark.mpi
def test_a_rank_that_waits_can_halt_the_others():
    """The last one takes nothing and is asked to stop at once."""
    comm = MPIComm()
    work = get_work(Worker(comm, ()), 4*100_000, config('counter', 0), comm)
    idle = comm.size > 1 and comm.rank == comm.size - 1
    if idle:
        work.rest = lambda: iter(())
    claims = stretch(comm, work, 1e-4, halts={5} if comm.size == 1 else (), stop=lambda: idle)
    assert sum(map(len, comm.allgather(claims))) < 50_000
    comm.close()
