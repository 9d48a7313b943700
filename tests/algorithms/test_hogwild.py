"""One model that all change at once: no update is lost, a record is repeated bit for bit, several nodes are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.errors import BadInput
from hpcasr.journal import Journal
from hpcasr.model.params import FRAMES, NONFINITE, SLOTS
from tests.algorithms.free import Tape, Whole, free, replay, taped, uneven, virtual
from tests.algorithms.problems import Player, Quadratic, live
from tests.oracle import oracle

MOMENTUM = {'optim.momentum': 0.7}
ADAM = {'optim.optimizer': 'adam', 'optim.clip': 0.3}
RATE = 0.125  # of each learner: sums of such steps are exact
sizes = pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
optimizers = pytest.mark.parametrize('optimizer', [MOMENTUM, ADAM], ids=['momentum', 'adam'])


@pytest.mark.parametrize('ordered', [Journal, Tape])
@pytest.mark.parametrize('optimizer', [{}, MOMENTUM, ADAM], ids=['plain', 'momentum', 'adam'])
def test_a_learner_alone_is_serial_sgd_bit_for_bit(ordered, optimizer):
    problem, how = Quadratic(bad={(0, 3), (0, 7)}), {'dtype': 'float32', 'options': optimizer}
    alone = free(Comm(), 'hogwild', problem, [[12]], journal=ordered(), **how)
    serial = live(Comm(), 'sync-allreduce', problem, 12, **how)
    assert np.array_equal(alone.models[:12], serial.models)
    assert np.array_equal(alone.consensus, serial.consensus)


@given(size=st.integers(1, 5), seed=st.integers(0, 10**6), ordered=st.sampled_from([Journal, Tape]))
@settings(max_examples=30, deadline=None)
def test_no_update_is_lost(size, seed, ordered):
    problem, plan = Whole(even=True, pull='constant'), uneven(size, 2, 9)
    frees = virtual(size, 'hogwild', problem, plan, seed=seed, journal=ordered, lr=RATE*size)
    end = problem.learner(0, size, 'float64').params.data - RATE*sum(map(sum, plan))
    for one in frees:
        assert np.array_equal(one.consensus, end)
        assert sum(n for _, n in one.player.algorithm.staleness.split()) == len(one.models) - len(plan)


@pytest.mark.mpi
@pytest.mark.parametrize('ordered', [Journal, Tape])
@pytest.mark.parametrize('n', [61, 20_011])
def test_ranks_lose_no_update(ordered, n):
    comm, problem = MPIComm(), Whole(n=n, even=True, pull='constant')
    plan = [[11]*comm.size, uneven(comm.size, 1, 20)[0]]
    found = free(comm, 'hogwild', problem, plan, journal=ordered(), dtype='float32', lr=RATE*comm.size)
    start = problem.learner(0, comm.size, 'float32').params.data
    assert np.array_equal(found.consensus, start - RATE*sum(map(sum, plan)))
    comm.close()


@pytest.mark.parametrize('size', [2, 3, 5])
def test_learners_come_between_each_other(size):
    """Else the tests above would show nothing."""
    frees = virtual(size, 'hogwild', Quadratic(), uneven(size))
    assert any(tau for one in frees for tau, _ in one.player.algorithm.staleness.split())


def serial(problem, size, plan, stretches, momentum):
    """[L] what every learner reads after each step, when updates come in the order of tickets."""
    learners = [problem.learner(rank, size, 'float32') for rank in range(size)]
    model, speeds = learners[0].params.data.copy(), [np.zeros_like(one.params.data) for one in learners]
    read, t = [[] for _ in learners], [0]*size
    for stretch in stretches:
        order = sorted((ticket, rank) for rank in range(size) for _, _, ticket, _ in stretch[rank][1].tolist())
        assert [ticket for ticket, _ in order] == list(range(len(order)))
        for _, rank in order:
            p, v = learners[rank].params, speeds[rank]
            learners[rank].compute(t[rank])
            if not p.slots[NONFINITE]:
                v[:] = np.float32(momentum)*v + p.grad/max(p.slots[FRAMES], 1)
                model -= v*np.float32(0.1/size)
            p.data[:] = model
            read[rank].append(model.copy())
            t[rank] += 1
        for one, seen in zip(learners, read, strict=True):
            one.params.data[:] = model
            seen.append(model.copy())
    return read


@sizes
def test_updates_are_those_of_the_recorded_order_bit_for_bit(size):
    problem, plan = Quadratic(bad={(0, 2), (size - 1, 5)}), uneven(size, 3, 9)
    frees, stretches = taped(size, 'hogwild', problem, plan, dtype='float32', options=MOMENTUM)
    for one, expected in zip(frees, serial(problem, size, plan, stretches, 0.7), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.models, expected, strict=True))
        assert one.player.algorithm.rejected == 2


@sizes
@optimizers
def test_replay_repeats_every_bit_also_from_a_checkpoint(size, optimizer):
    problem, plan = Quadratic(bad={(0, 3)}), uneven(size, 3)
    how = {'dtype': 'float32', 'options': optimizer}
    frees, stretches = taped(size, 'hogwild', problem, plan, seed=3, **how)

    def again(comm):
        return free(comm, 'hogwild', problem, plan, journal=replay(comm.rank, stretches), **how)

    def resumed(comm):
        journals = [replay(comm.rank, stretches[k:]) for k in range(3)]
        return free(comm, 'hogwild', problem, plan, journal=journals[0], resume={1: journals[1], 2: journals[2]}, **how)
    for life in again, resumed:
        found = World(size, schedule='random', seed=77, strict=True).run(life)
        assert [a.bits() for a in found] == [b.bits() for b in frees]


@pytest.mark.mpi
def test_ranks_and_virtual_learners_replay_each_other():
    comm = MPIComm()
    problem, plan, how = Quadratic(n=61), uneven(comm.size), {'dtype': 'float32', 'options': MOMENTUM}
    frees, stretches = taped(comm.size, 'hogwild', problem, plan, **how)
    real = free(comm, 'hogwild', problem, plan, journal=replay(comm.rank, stretches), **how)
    assert real.bits() == frees[comm.rank].bits()
    tape = Tape()
    real = free(comm, 'hogwild', problem, plan, journal=tape, **how)
    simulated = World(comm.size, schedule='random', seed=5).run(lambda virtual: free(
        virtual, 'hogwild', problem, plan, journal=replay(virtual.rank, tape.stretches), **how))
    assert real.bits() == simulated[comm.rank].bits()
    comm.close()


@sizes
def test_it_learns_what_the_sum_of_its_rates_says(size):
    """Learners that wait for each other at every step: each reads the model of one step, and all add to it."""
    problem, steps = Quadratic(even=True), 12
    frees = virtual(size, 'hogwild', problem, [[1]*size]*steps)
    _, consensus = oracle('sync-allreduce', problem, size, steps, 'float64', 0.1, {'optim.momentum': 0.0})
    for one in frees:
        assert np.array_equal(one.consensus, frees[0].consensus)
        assert np.linalg.norm(one.consensus - consensus) <= 1e-13*np.linalg.norm(consensus)


def test_an_update_that_is_not_finite_is_rejected_and_counted():
    problem = Quadratic(bad={(1, 1), (1, 4), (0, 2)})
    frees = virtual(3, 'hogwild', problem, [[6]*3])
    assert all(np.isfinite(one.consensus).all() and one.player.algorithm.rejected == 3 for one in frees)
    assert sum(n for one in frees for _, n in one.player.algorithm.staleness.split()) == 15


@pytest.mark.parametrize('size', [1, 2, 5])
def test_bytes_and_messages(size):
    values, n, steps = {'exchange.sample': 0, 'exchange.meet': 1000}, 3000, 6

    def work(comm):
        player = Player(comm, 'hogwild', Quadratic(n=n), options=values)
        before = comm.bytes_sent, comm.messages_sent
        for t in range(steps):
            player.step(t)
        return comm.bytes_sent - before[0], comm.messages_sent - before[1]
    sent, messages = (max(learners)/steps for learners in zip(*World(size).run(work), strict=True))
    config, about = Config().with_values(values, 'test'), ALGORITHMS['hogwild'].about
    assert 0 <= sent - about.bytes(8*n, size, config) <= 2*8*(SLOTS + 1)
    assert messages == about.messages(size, config)


@pytest.mark.parametrize('node_size', [1, 2])
def test_several_nodes_are_refused(node_size):
    def work(comm):
        comm.arrange(node_size)
        with pytest.raises(BadInput, match=f'are on {4//node_size} nodes, which share no memory'):
            Player(comm, 'hogwild', Quadratic())
        comm.arrange(4)
        Player(comm, 'hogwild', Quadratic())
    World(4).run(work)


def test_it_says_when_updates_take_turns():
    said = [Player(Comm(), 'hogwild', Quadratic(), journal=journal).algorithm.describe() for journal in (None, Tape())]
    assert said[0] == [] and 'under a lock' in said[1][0]
