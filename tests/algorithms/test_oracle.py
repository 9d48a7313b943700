"""Every synchronous algorithm is its rule on the columns of one matrix; real ranks are virtual learners."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import SYNCHRONOUS
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from tests.algorithms.problems import IDS, PLAIN, VARIANTS, Acoustic, Quadratic, live
from tests.oracle import RULES, oracle

TOLERANCE = {'float32': 1e-6, 'float64': 1e-13}
SIZES = 1, 2, 3, 4, 5
STEPS = 11
variants = pytest.mark.parametrize(('name', 'options'), VARIANTS, ids=IDS)
dtypes = pytest.mark.parametrize('dtype', TOLERANCE)
MOMENTUM = {'optim.momentum': 0.7}


def virtual(size, seed=0):
    return World(size, schedule='random', seed=seed, strict=True)


def require_equal(lives, expected, dtype, factor=1):
    models, consensus = expected
    found = np.stack([life.models for life in lives], 2)
    for k, (a, b) in enumerate(zip(found, models, strict=True)):
        assert np.linalg.norm(a - b) <= factor*TOLERANCE[dtype]*np.linalg.norm(b), f'step {k}'
    for life in lives:
        assert np.linalg.norm(life.consensus - consensus) <= factor*TOLERANCE[dtype]*np.linalg.norm(consensus)


def test_every_algorithm_has_a_rule_here():
    assert set(RULES) == {name for name, _ in VARIANTS} >= set(SYNCHRONOUS)


@variants
@pytest.mark.parametrize('size', SIZES)
@dtypes
def test_virtual_learners_follow_the_rule(name, options, size, dtype):
    problem = Quadratic(seed=size)
    lives = virtual(size).run(lambda comm: live(comm, name, problem, STEPS, dtype=dtype, options=options))
    require_equal(lives, oracle(name, problem, size, STEPS, dtype, 0.1, PLAIN | options), dtype)


@variants
@pytest.mark.parametrize('size', [1, 3, 4])
def test_also_with_momentum_and_bad_gradients(name, options, size):
    problem, options = Quadratic(bad={(0, 2), (size - 1, 4), (0, 5), (1, 5)}), options | MOMENTUM
    lives = virtual(size).run(lambda comm: live(comm, name, problem, STEPS, options=options))
    require_equal(lives, oracle(name, problem, size, STEPS, 'float64', 0.1, PLAIN | options), 'float64')


@variants
def test_an_acoustic_model_follows_the_rule(name, options):
    """Utterances of uneven lengths; with 5 learners the last step of an epoch leaves some without data."""
    problem = Acoustic()
    for size in 1, 2, 5:
        lives = virtual(size).run(lambda comm: live(comm, name, problem, 7, options=options))
        require_equal(lives, oracle(name, problem, size, 7, 'float64', 0.1, PLAIN | options), 'float64', 10)


@variants
def test_more_learners_than_samples(name, options):
    problem = Acoustic(m=1, utterances=2, longest=7)
    lives = virtual(5).run(lambda comm: live(comm, name, problem, 5, options=options))
    require_equal(lives, oracle(name, problem, 5, 5, 'float64', 0.1, PLAIN | options), 'float64', 10)


@variants
@given(size=st.integers(2, 5), seeds=st.lists(st.integers(0, 10**6), min_size=2, max_size=2, unique=True),
       tempo=st.lists(st.floats(0, 9), min_size=5, max_size=5), data=st.data())
@settings(max_examples=4, deadline=None)
def test_neither_the_order_nor_the_speed_of_learners_changes_a_bit(name, options, size, seeds, tempo, data):
    schedule = data.draw(st.sampled_from(['random', 'clock']))

    def lives(seed, pause):
        world = World(size, schedule=schedule, seed=seed, strict=True)
        return world.run(lambda comm: live(comm, name, Quadratic(), STEPS, dtype='float32', options=options | MOMENTUM,
                                           pause=pause))
    even, uneven = lives(seeds[0], None), lives(seeds[1], lambda rank, t: tempo[(rank + t//4) % 5])
    assert [a.bits() for a in even] == [b.bits() for b in uneven]
    assert all(np.array_equal(a.slots, even[0].slots) for a in [*even, *uneven])


@pytest.mark.mpi
@variants
def test_ranks_are_virtual_learners_bit_for_bit(name, options):
    """Under --reduce mpi the library adds in an order of its own."""
    comm = MPIComm()
    here = lambda comm: live(comm, name, Quadratic(n=61), STEPS, dtype='float32', options=options | MOMENTUM)
    real, lives = here(comm), World(comm.size).run(here)
    same = 'exchange.reduce' not in options or comm.size < 3
    assert not same or real.bits() == lives[comm.rank].bits()
    assert not same or np.array_equal(real.slots, lives[comm.rank].slots)
    assert real.distance == lives[comm.rank].distance


@pytest.mark.mpi
@dtypes
@variants
def test_ranks_follow_the_rule(name, options, dtype):
    comm, problem = MPIComm(), Quadratic(seed=1)
    expected = oracle(name, problem, comm.size, STEPS, dtype, 0.1, PLAIN | options)
    life = live(comm, name, problem, STEPS, dtype=dtype, options=options)
    models, consensus = expected
    require_equal([life], (models[:, :, comm.rank:comm.rank + 1], consensus), dtype)


@pytest.mark.mpi
@pytest.mark.parametrize('name', SYNCHRONOUS)
def test_ranks_are_virtual_learners_on_an_acoustic_model(name):
    comm = MPIComm()
    here = lambda comm: live(comm, name, Acoustic(), 7, dtype='float32', options=MOMENTUM)
    assert here(comm).bits() == World(comm.size).run(here)[comm.rank].bits()


@variants
def test_a_learner_without_a_world_is_a_world_of_one(name, options):
    alone = live(Comm(), name, Quadratic(), STEPS, options=options)
    [virtually] = virtual(1).run(lambda comm: live(comm, name, Quadratic(), STEPS, options=options))
    assert alone.bits() == virtually.bits()
