"""Mixing alone keeps the mean and brings the models together; pushing keeps sums of models and of masses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms.topology import get_topology
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.errors import BadInput
from tests.algorithms.problems import PLAIN, TOPOLOGIES, Player, Quadratic, live
from tests.oracle import PushSum, oracle

APART = Quadratic(apart=True, n=200)
sizes = pytest.mark.parametrize('size', [1, 2, 3, 4, 5, 8])


def mixed(size, topology, steps, dtype):
    """[steps + 1, n, L] the models of learners that only average."""
    learners = World(size, schedule='random', strict=True).run(lambda comm: live(
        comm, 'sync-decentralized', APART, steps, dtype=dtype, options={'exchange.topology': topology}, lr=0.0))
    start = np.stack([APART.learner(rank, size, dtype).params.data for rank in range(size)], 1)
    return np.concatenate([start[None], np.stack([one.models for one in learners], 2)])


def spread(models):
    """[steps] ‖W − W̄‖ in float64."""
    W = models.astype('float64')
    return np.linalg.norm(W - W.mean(2, keepdims=True), axis=(1, 2))


@sizes
@pytest.mark.parametrize('topology', TOPOLOGIES)
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_the_mean_stays_and_the_spread_falls_as_the_spectral_gap_predicts(size, topology, dtype):
    """A drawn topology has its rate in expectation: a quarter of the predicted steps more must do."""
    graph = get_topology(topology, size)
    steps = graph.steps(1e-3) if graph.fixed else graph.steps(1e-3)*5//4 + 2
    models = mixed(size, topology, steps, dtype)
    mean, eps = models.astype('float64').mean(2), np.finfo(dtype).eps
    assert np.abs(mean - mean[0]).max() <= 4*eps*steps*np.abs(models).max()
    found = spread(models)
    assert (np.diff(found) <= 4*eps*np.linalg.norm(models[0])).all()
    assert found[-1] <= 1e-3*found[0]


@pytest.mark.parametrize('name', ['local-sgd', 'delay-by-one', 'push-sum'])
@sizes
def test_others_keep_the_mean_too(name, size):
    learners = World(size, schedule='random', strict=True).run(
        lambda comm: live(comm, name, APART, 120, options={'exchange.push_delay': 2}, lr=0.0))
    start = np.mean([APART.learner(rank, size, 'float64').params.data for rank in range(size)], 0)
    end = np.stack([one.models[-1] for one in learners])
    assert all(np.allclose(one.consensus, start, rtol=0, atol=1e-13) for one in learners)
    assert np.abs(end - start).max() < 2e-3*np.abs(start).max()


@pytest.mark.mpi
@pytest.mark.parametrize('topology', TOPOLOGIES)
def test_ranks_keep_the_mean(topology):
    comm = MPIComm()
    life = live(comm, 'sync-decentralized', APART, 12, options={'exchange.topology': topology}, lr=0.0)
    models = np.array(comm.allgather(life.models.tolist()))
    assert np.abs(models.mean(0) - models.mean(0)[0]).max() < 1e-14*12*4
    assert np.array_equal(np.array(comm.allgather(life.consensus.tolist())).std(0), np.zeros(APART.n))


# push-sum

def digraph(seed):
    """targets(rank, t, size): anybody else with probability 0.4, drawn anew every step, and always the next one.

    Every learner can be reached, and out-degrees differ.
    """
    def targets(rank, t, size):
        drawn = np.random.default_rng([seed, t, rank]).random(size) < 0.4
        drawn[(rank + 1) % size] = True
        return [k for k in range(size) if drawn[k] and k != rank]
    return targets


def watched(comm, steps, targets, **how):
    """At each step (Σ of this learner's numerators [n], its mass), both with what is under way to it."""
    player, found = Player(comm, 'push-sum', Quadratic(apart=True, empty=0), targets=targets, **how), []
    for t in range(steps):
        player.step(t)
        a = player.algorithm
        found.append(a.pair + sum(vector for vector in a.land() if vector is not None))
    player.algorithm.close(player.algorithm.params.data)
    return np.array(found), player.algorithm.pair[-1]


@given(size=st.integers(2, 5), delay=st.integers(0, 4), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_pushing_keeps_the_sums_of_models_and_masses(size, delay, seed):
    """On a random digraph of unequal out-degrees, where masses are not 1, with messages under way."""
    options = {'exchange.push_delay': delay}
    found = World(size, schedule='random', seed=seed, strict=True).run(
        lambda comm: watched(comm, 12, digraph(seed), options=options, lr=0.0))
    totals = sum(one for one, _ in found)
    np.testing.assert_allclose(totals, np.repeat(totals[:1], 12, 0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(totals[:, -1], size, rtol=1e-14)


def test_masses_do_differ_there():
    found = World(4).run(lambda comm: watched(comm, 12, digraph(1), options={'exchange.push_delay': 1}))
    assert len({mass for _, mass in found}) == 4


@pytest.mark.parametrize('delay', [0, 1, 8, 200])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_masses_are_what_they_settle_at_from_the_start(size, delay):
    """1/(1 + τ/2): were all of it with the learner at first, it would be 2^−τ before anything came back."""
    def masses(comm):
        player = Player(comm, 'push-sum', Quadratic(), dtype='float32', lr=0.0, options={'exchange.push_delay': delay})
        return [player.step(t) or float(player.algorithm.pair[-1]) for t in range(2*delay + 3)]
    expected = 1/(1 + delay/2) if size > 1 else 1.0
    for one in World(size).run(masses):
        assert one == pytest.approx([expected]*len(one), rel=1e-4)


@pytest.mark.parametrize('delay', [10**13, 10**19])
def test_more_under_way_than_memory_holds(delay):
    with pytest.raises(BadInput, match='smaller'):
        Player(Comm(), 'push-sum', Quadratic(), options={'exchange.push_delay': delay})


@given(size=st.integers(2, 5), delay=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_pushing_on_a_random_digraph_follows_the_rule(size, delay, seed):
    class Directed(PushSum):
        targets = staticmethod(digraph(seed))
    options = {'exchange.push_delay': delay, 'optim.momentum': 0.5}
    learners = World(size, schedule='random', seed=seed, strict=True).run(lambda comm: live(
        comm, 'push-sum', Quadratic(), 12, options=options, targets=digraph(seed)))
    models, consensus = oracle('push-sum', Quadratic(), size, 12, 'float64', 0.1, PLAIN | options, Directed)
    found = np.stack([one.models for one in learners], 2)
    assert np.linalg.norm(found - models) < 1e-13*np.linalg.norm(models)
    assert all(np.linalg.norm(one.consensus - consensus) < 1e-13*np.linalg.norm(consensus) for one in learners)


@pytest.mark.parametrize('delay', [0, 2])
@pytest.mark.parametrize('size', [2, 3, 5])
def test_models_meet_where_the_mean_is_although_masses_differ(size, delay):
    """z → Σ_l x_l(0)/L on a digraph of unequal out-degrees; the numerators alone do not."""
    def work(comm):
        return live(comm, 'push-sum', APART, 200, options={'exchange.push_delay': delay}, lr=0.0, targets=digraph(3))
    start = np.mean([APART.learner(rank, size, 'float64').params.data for rank in range(size)], 0)
    for one in World(size).run(work):
        np.testing.assert_allclose(one.models[-1], start, rtol=0, atol=1e-9)


@pytest.mark.mpi
@pytest.mark.parametrize('delay', [0, 2])
def test_ranks_push_like_virtual_learners(delay):
    comm = MPIComm()
    here = lambda comm: live(comm, 'push-sum', Quadratic(), 12, dtype='float32', targets=digraph(5), resume=(4, 5),
                             options={'exchange.push_delay': delay})
    assert here(comm).bits() == World(comm.size).run(here)[comm.rank].bits()
