"""What learners with different models tell each other: sums, distance, stop requests, gradients that are not finite."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS, SYNCHRONOUS
from hpcasr.algorithms.meetings import Meetings
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import Link, World
from hpcasr.model.params import FRAMES, NONFINITE, SAMPLES, SLOTS, STOP
from tests.algorithms.problems import IDS, VARIANTS, Player, Quadratic, live

names = pytest.mark.parametrize('name', SYNCHRONOUS)
variants = pytest.mark.parametrize(('name', 'options'), VARIANTS, ids=IDS)
REPLICAS = [name for name in SYNCHRONOUS if ALGORITHMS[name].own_state]


@variants
@pytest.mark.parametrize('meet', [1, 2, 5, 100])
@pytest.mark.parametrize('size', [1, 2, 4])
def test_all_hear_of_every_sample_once(name, options, meet, size):
    """The sums over all steps, however late they come, are those that allreduce tells at once."""
    def told(name, options):
        return World(size, schedule='random', strict=True).run(lambda comm: live(
            comm, name, Quadratic(), 11, options=options | {'exchange.meet': meet}))
    lives, at_once = told(name, options), told('sync-allreduce', {})
    counted = [FRAMES, SAMPLES]
    for one in lives:
        assert np.array_equal(one.slots, lives[0].slots)
        assert np.array_equal(one.slots[:, counted].sum(0), at_once[0].slots[:, counted].sum(0))


@pytest.mark.parametrize('every', [1, 3])
def test_between_meetings_slots_are_zero_and_sums_come_one_meeting_later(every):
    def work(comm):
        meetings, seen = Meetings(comm, 10, every, 4), []
        for t in range(9):
            slots = np.full(SLOTS, 10.0**t)
            meetings.step(np.zeros(10), slots)
            seen.append(slots[0])
        slots = np.ones(SLOTS)
        meetings.settle(np.zeros(10), slots)
        return [*seen, slots[0]]
    steps = np.array([10.0**t for t in range(9)])
    blocks = 3*steps.reshape(-1, every).sum(1)
    expected = np.zeros(10)
    expected[2*every - 1:9:every] = blocks[:-1]
    expected[9] = blocks[-1]
    assert World(3).run(work) == [expected.tolist()]*3


@pytest.mark.parametrize('name', REPLICAS)
def test_a_wish_to_stop_is_heard_by_all_at_the_same_step(name):
    def work(comm):
        life = live(comm, name, Quadratic(), 12, stop=range(3, 12) if comm.rank == 1 else (),
                    options={'exchange.meet': 2, 'exchange.period': 5})
        return np.flatnonzero(life.slots[:, STOP])[0]
    heard = World(3, schedule='random').run(work)
    assert len(set(heard)) == 1 and 3 <= heard[0] <= 5


@names
def test_a_gradient_that_is_not_finite_changes_nothing_and_all_hear_of_it(name):
    def work(comm):
        return live(comm, name, Quadratic(bad={(1, 4)}), 11, options={'exchange.period': 2})
    for one in World(3).run(work):
        assert np.isfinite(one.models).all() and np.isfinite(one.consensus).all()
        assert one.slots[:, NONFINITE].sum() == 1


def test_nobody_waits_for_one_that_is_less_than_two_meetings_behind():
    """Learner 1 takes 10 s for its first step; only what is told at step 8 needs what it said up to step 4."""
    def work(comm):
        meetings, times = Meetings(comm, 10, 4, 4), []
        for t in range(8):
            comm.sleep(10.0 if comm.rank == 1 and t == 0 else 1.0)
            meetings.step(np.zeros(10), np.zeros(SLOTS))
            times.append(comm.now())
        return times
    first, _ = World(2, Link(0.0, float('inf'))).run(work)
    assert first == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 13.0]


# distance

def spread(models):
    """√(mean_l ‖w_l − w̄‖²) of models [L, n]."""
    return np.sqrt(((models - models.mean(0))**2).sum(1).mean())


@pytest.mark.parametrize('name', REPLICAS)
@pytest.mark.parametrize('size', [1, 2, 5])
def test_distance_is_that_of_the_models(name, size):
    """With every parameter in the sample it is exact; 10 steps are in the midst of a block."""
    lives = World(size).run(lambda comm: live(comm, name, Quadratic(), 10, options={'exchange.sample': 1000}))
    expected = spread(np.array([one.models[-1] for one in lives]))
    assert all(one.distance == pytest.approx(expected, rel=1e-9, abs=1e-7) for one in lives)
    assert size < 5 or expected > 0.01


@given(sample=st.integers(200, 900), scale=st.floats(1e-3, 1e3))
@settings(max_examples=20, deadline=None)
def test_distance_is_estimated_from_a_sample(sample, scale):
    models = np.random.default_rng(0).normal(size=(3, 10_000))*scale

    def work(comm):
        meetings = Meetings(comm, 10_000, 1, sample)
        meetings.meet(models[comm.rank], np.zeros(SLOTS))
        return meetings.distance
    assert World(3).run(work) == [pytest.approx(spread(models), rel=4/np.sqrt(sample))]*3


def test_distance_is_unknown_without_a_sample_and_not_finite_where_models_are_not():
    empty = Meetings(Comm(), 10, 1, 0)
    empty.meet(np.zeros(10), np.zeros(SLOTS))
    assert empty.distance is None
    for bad in np.nan, np.inf, 1e200:
        meetings = Meetings(Comm(), 10, 1, 5)
        meetings.meet(np.full(10, bad), np.zeros(SLOTS))
        assert not np.isfinite(meetings.distance)


@names
def test_distance_is_none_where_all_hold_the_same(name):
    one = live(Comm(), name, Quadratic(), 3)
    assert (one.distance is None) == (name not in REPLICAS)


@pytest.mark.mpi
@pytest.mark.parametrize('name', REPLICAS)
def test_ranks_tell_what_virtual_learners_tell(name):
    comm = MPIComm()
    here = lambda comm: live(comm, name, Quadratic(bad={(0, 3)}), 9, stop=(5, 6), options={'exchange.meet': 3})
    real, virtual = here(comm), World(comm.size).run(here)[comm.rank]
    assert np.array_equal(real.slots, virtual.slots, equal_nan=True) and real.distance == virtual.distance


# memory

@variants
def test_a_step_allocates_no_vector(name, options):
    """What Comm itself allocates apart: alone it allocates nothing."""
    n = 200_000
    player = Player(Comm(), name, Quadratic(n=n), options=options | {'exchange.sample': 10, 'optim.momentum': 0.5,
                                                                    'train.bucket': n//3})
    p, algorithm = player.params, player.algorithm
    for t in range(3):
        player.step(t)
    tracemalloc.start()
    for _ in range(6):
        algorithm.begin(p.data)
        algorithm.ready(0, 0)
        algorithm.ready(0, n//2)
        algorithm.ready(n//2, n)
        algorithm.step(p.data, p.gradient, 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < n  # bytes: an eighth of a vector
