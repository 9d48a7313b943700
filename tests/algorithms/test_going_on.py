"""Steps 1..N are steps 1..k, save, load, k + 1..N, bit for bit, for every algorithm and any k."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from tests.algorithms.problems import IDS, VARIANTS, Acoustic, Player, Quadratic, live

STEPS = 12
OPTIMIZERS = [{'optim.momentum': 0.7}, {'optim.optimizer': 'adam', 'optim.clip': 0.3}]
variants = pytest.mark.parametrize(('name', 'options'), VARIANTS, ids=IDS)


def uneven(rank, t, size):
    """A digraph whose out-degrees and in-degrees differ; some learners get nothing in a step."""
    return [k for k in range(size) if k != rank and (3*rank + 5*k + t) % 4 < 2]


@variants
@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=['momentum', 'adam'])
@given(size=st.integers(1, 5), resume=st.sets(st.integers(0, STEPS - 1), min_size=1, max_size=3))
@settings(max_examples=6, deadline=None)
def test_nothing_is_forgotten(name, options, optimizer, size, resume):
    """Two or three resumes in one run, also right after each other."""
    def lives(resume):
        return World(size, schedule='random', strict=True).run(lambda comm: live(
            comm, name, Quadratic(bad={(0, 3)}), STEPS, dtype='float32', options=options | optimizer, resume=resume))
    assert [a.bits() for a in lives(resume)] == [b.bits() for b in lives(())]


@given(size=st.integers(2, 5), delay=st.integers(0, 4), resume=st.sets(st.integers(0, STEPS - 1), min_size=1))
@settings(max_examples=20, deadline=None)
def test_messages_under_way_are_not_forgotten(size, delay, resume):
    def lives(resume):
        return World(size, schedule='random', strict=True).run(lambda comm: live(
            comm, 'push-sum', Quadratic(), STEPS, dtype='float32', options={'exchange.push_delay': delay},
            resume=resume, targets=uneven))
    assert [a.bits() for a in lives(resume)] == [b.bits() for b in lives(())]


def saves(comm, name, options, when):
    """The models of one who saves before the steps `when`, and goes on."""
    player, models = Player(comm, name, Quadratic(), options=options | OPTIMIZERS[0]), []
    for t in range(STEPS):
        if t in when:
            p = player.params
            player.algorithm.settle(p.data, p.slots)
            player.algorithm.consensus(p.data)
            player.algorithm.state()
        player.step(t)
        models.append(player.params.data.tobytes())
    player.algorithm.close(player.params.data)
    return models


@variants
def test_saving_changes_nothing_for_the_one_who_saves(name, options):
    assert (World(3).run(lambda comm: saves(comm, name, options, {2, 3, 7}))
            == World(3).run(lambda comm: saves(comm, name, options, ())))


@pytest.mark.mpi
@variants
def test_saving_changes_nothing_for_ranks(name, options):
    comm = MPIComm()
    assert saves(comm, name, options, {2, 3, 7}) == saves(comm, name, options, ())


@variants
@pytest.mark.parametrize('k', [1, 4, 5])
def test_who_saves_and_who_resumes_are_told_the_same(name, options, k):
    """At the same steps, too: the next meeting is as far away for both."""
    def told(comm):
        one, slots = Player(comm, name, Quadratic(), options=options | {'exchange.meet': 3}), []
        for t in range(k):
            one.step(t)
        for player in one, one.again():
            slots.append([])
            for t in range(k, STEPS):
                player.step(t)
                slots[-1].append(player.params.slots.tolist())
            player.algorithm.close(player.params.data)
        return slots[0] == slots[1]
    assert World(3).run(told) == [True]*3


@pytest.mark.mpi
@pytest.mark.parametrize('problem', [Quadratic(), Acoustic()], ids=['quadratic', 'acoustic'])
@variants
def test_ranks_forget_nothing(name, options, problem):
    comm, how = MPIComm(), {'dtype': 'float32', 'options': options | OPTIMIZERS[0]}
    resumed = live(comm, name, problem, 8, resume=(2, 3, 7), **how)
    assert resumed.bits() == live(comm, name, problem, 8, **how).bits()
