"""A node is one learner of async-decentralized that takes the steps of sync-allreduce."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS
from hpcasr.comm.base import arrangement
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.data.work import get_work
from hpcasr.errors import BadInput
from hpcasr.journal import Journal, require_same_run
from hpcasr.model.params import FAULT, FRAMES, LOSS, NONFINITE, SAMPLES, SLOTS, STOP
from tests.algorithms.free import Tape, free, replay
from tests.algorithms.problems import Player, Quadratic, live

MOMENTUM = {'optim.momentum': 0.7}
OPTIMIZERS = [MOMENTUM, {'optim.optimizer': 'adam', 'optim.clip': 0.3}]
NODES = [(0,), (0, 0), (0, 1), (0, 0, 0), (0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 1, 2, 3, 4),
         (0, 0, 1, 1, 2, 2), (0, 0, 0, 1, 1, 1)]
nodes_of_all = pytest.mark.parametrize('nodes', NODES, ids=arrangement)
STEPS = 9


def arranged(comm, nodes, *args, **how):
    comm.nodes = nodes
    return free(comm, 'hierarchical', *args, **how)


def run(nodes, *args, seed=0, journals=None, resumes=None, **how):
    """[Free] of virtual learners on `nodes`; journals, resumes: of each learner."""
    def work(comm):
        return arranged(comm, nodes, *args, journal=journals and journals[comm.rank],
                        resume=resumes and resumes[comm.rank], **how)
    return World(len(nodes), schedule='random', seed=seed, strict=True).run(work)


def record(nodes, *args, **how):
    """([Free], stretches)."""
    frees = run(nodes, *args, journals=[Tape() for _ in nodes], **how)
    return frees, frees[0].journal.stretches


def replays(nodes, stretches):
    return [replay(rank, stretches) for rank in range(len(nodes))]


def uneven(nodes, meetings=2):
    """A plan in which nodes differ, and the learners of one do not."""
    return [[(STEPS - 2*node - k) % (STEPS + 1) for node in nodes] for k in range(meetings)]


def leaders(nodes):
    return [nodes.index(node) for node in sorted(set(nodes))]


def bits(frees):
    return [one.bits() for one in frees]


# invariant 7

@pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=['momentum', 'adam'])
def test_one_node_is_allreduce_bit_for_bit(size, dtype, optimizer):
    problem, how = Quadratic(bad={(0, 3), (size - 1, 3), (size - 1, 5)}), {'dtype': dtype, 'options': optimizer}
    world = World(size, schedule='random', strict=True)
    for a, b in zip(run((0,)*size, problem, [[STEPS]*size], **how),
                    world.run(lambda comm: live(comm, 'sync-allreduce', problem, STEPS, **how)), strict=True):
        assert np.array_equal(a.models[:STEPS], b.models)
        assert np.array_equal(a.consensus, b.consensus)


@pytest.mark.parametrize('topology', ['ring', 'random-ring', 'pairs', 'complete'])
@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_a_learner_per_node_is_async_decentralized_under_the_same_order(size, topology):
    nodes, how = tuple(range(size)), {'dtype': 'float32', 'options': {'exchange.topology': topology, **MOMENTUM}}
    plan, problem = uneven(nodes), Quadratic(bad={(0, 3)}, apart=True)
    flat = World(size, schedule='random', seed=1, strict=True).run(
        lambda comm: free(comm, 'async-decentralized', problem, plan, journal=Tape(), **how))
    journals = replays(nodes, flat[0].journal.stretches)
    assert bits(run(nodes, problem, plan, journals=journals, seed=2, **how)) == bits(flat)


@dataclass
class Merged(Quadratic):
    """Learner k computes what the learners of node k of a Quadratic do together."""

    nodes: tuple = ()

    def learner(self, rank, size, *where):
        members = [member for member, node in enumerate(self.nodes) if node == rank]
        one, *others = (super(Merged, self).learner(member, size, *where[:1]) for member in (members[0], *members))
        return Crew(one, others)


class Crew:
    """One learner of a Merged."""

    def __init__(self, one, members):
        self.params, self.members = one.params, members

    def compute(self, t, ready):
        for member in self.members:
            member.params.data[:] = self.params.data
            member.compute(t)
        np.copyto(self.params.gradient, self.members[0].params.gradient)
        for member in self.members[1:]:
            self.params.gradient[:] += member.params.gradient
        ready(0, 0)


@pytest.mark.parametrize('nodes', [(0, 0, 1, 1), (0, 1, 0, 1), (0, 0, 0, 1, 1), (0, 1, 1, 2)], ids=arrangement)
def test_a_node_is_a_learner_with_the_data_of_all(nodes):
    """Also where nodes are uneven: in a node frames weigh, between nodes models weigh equally."""
    options, plan = {'exchange.topology': 'pairs', **MOMENTUM}, uneven(nodes)
    found, stretches = record(nodes, Quadratic(bad={(1, 2)}), plan, options=options)
    firsts, size = leaders(nodes), max(nodes) + 1
    own = [[stretch[first] for first in firsts] for stretch in stretches]
    expected = World(size, schedule='random', seed=3, strict=True).run(lambda comm: free(
        comm, 'async-decentralized', Merged(bad={(1, 2)}, nodes=nodes),
        [[steps[first] for first in firsts] for steps in plan], journal=replay(comm.rank, own), options=options))
    assert bits(found[first] for first in firsts) == bits(expected)


# one model in a node

@nodes_of_all
@given(seed=st.integers(0, 10**6))
@settings(max_examples=5, deadline=None)
def test_the_learners_of_a_node_hold_the_same_bits_after_every_step(nodes, seed):
    """Also if they began with different models; a node takes that of its leader."""
    found = run(nodes, Quadratic(apart=True, bad={(0, 2)}), uneven(nodes), seed=seed, dtype='float32', options=MOMENTUM)
    for rank, node in enumerate(nodes):
        assert found[rank].bits() == found[nodes.index(node)].bits()


@nodes_of_all
def test_the_consensus_is_the_mean_over_nodes(nodes):
    plan, options = uneven(nodes), {'exchange.sample': 10**6, 'exchange.topology': 'ring'}
    found = run(nodes, Quadratic(apart=True), plan, options=options)
    W = np.stack([found[first].models[-1] for first in leaders(nodes)], 1)
    np.testing.assert_allclose(found[0].consensus, W.mean(1), rtol=1e-13, atol=1e-15)
    assert len({one.consensus.tobytes() for one in found}) == 1
    spread = np.sqrt(((W - W.mean(1, keepdims=True))**2).sum(0).mean())
    assert [one.player.algorithm.distance for one in found] == [pytest.approx(spread, rel=1e-6, abs=1e-6)]*len(nodes)


@nodes_of_all
def test_averaging_keeps_the_mean_over_nodes(nodes):
    problem = Quadratic(apart=True, pull='none')
    start = [problem.learner(first, len(nodes), 'float64').params.data for first in leaders(nodes)]
    found = run(nodes, problem, uneven(nodes))
    np.testing.assert_allclose(found[0].consensus, np.mean(start, 0), rtol=0, atol=1e-14)


# what is told

def totals(comm, nodes, problem, steps, stop=()):
    """(what a learner has computed, what it was told) in all steps and at the end, its rejected updates, its stops."""
    comm.nodes = nodes
    player = Player(comm, 'hierarchical', problem, options={'exchange.meet': 3}, stop=stop)
    own, told, stops, compute = np.zeros(SLOTS), np.zeros(SLOTS), [], player.learner.compute

    def counted(t, ready):
        compute(t, ready)
        own[:] += np.where(player.params.slots[NONFINITE], 0, player.params.slots)
    player.learner.compute = counted
    for t in range(steps):
        player.step(t)
        stops.append(bool(player.params.slots[STOP]))
        told += player.params.slots
    player.params.slots[STOP] = 0
    player.algorithm.settle(player.params.data, player.params.slots)
    player.algorithm.close(player.params.data)
    return own, told + player.params.slots, player.algorithm.rejected, stops, player.params.slots.copy()


@nodes_of_all
def test_what_all_have_done_is_told_once(nodes):
    found = World(len(nodes), schedule='random', strict=True).run(lambda comm: totals(comm, nodes, Quadratic(), 7))
    own, told = (sum(learners) for learners in list(zip(*found, strict=True))[:2])
    np.testing.assert_array_equal(told[[FRAMES, SAMPLES]], own[[FRAMES, SAMPLES]])
    assert told[LOSS] == pytest.approx(own[LOSS], rel=1e-6)
    assert not any(rejected for _, _, rejected, _, _ in found)


def test_an_update_with_two_bad_gradients_is_one_that_is_left_out():
    nodes, problem = (0, 0, 1, 1), Quadratic(bad={(0, 1), (1, 1), (3, 4)}, even=True)
    found = World(4, strict=True).run(lambda comm: totals(comm, nodes, problem, 6))
    assert [rejected for _, _, rejected, _, _ in found] == [2]*4
    assert sum(told[FRAMES] for _, told, *_ in found) == 5*(4*6 - 2*2)


def test_if_all_updates_are_bad_it_has_diverged():
    problem = Quadratic(bad={(1, t) for t in range(4)})
    found = World(2, strict=True).run(lambda comm: totals(comm, (0, 0), problem, 4))
    assert [slots[NONFINITE] for *_, slots in found] == [1, 1]


@pytest.mark.parametrize('who', range(5))
def test_a_wish_to_stop_is_heard_at_once_in_the_node_and_by_all_at_the_meeting(who):
    nodes = (0, 0, 0, 1, 1)
    found = World(5, schedule='random', strict=True).run(
        lambda comm: totals(comm, nodes, Quadratic(), 4, stop=(2,) if comm.rank == who else ()))
    for node, (*_, stops, slots) in zip(nodes, found, strict=True):
        assert stops == [False, False, node == nodes[who], False] and slots[STOP]


def test_a_fault_is_heard_too():
    def work(comm):
        comm.nodes = 0, 1, 1
        player = Player(comm, 'hierarchical', Quadratic())
        compute = player.learner.compute

        def faulty(t, ready):
            compute(t, ready)
            player.params.slots[FAULT] = comm.rank == 2
        player.learner.compute = faulty
        player.step(0)
        asked = bool(player.params.slots[STOP])
        player.algorithm.settle(player.params.data, player.params.slots)
        return asked, bool(player.params.slots[FAULT])
    assert World(3).run(work) == [(False, True), (True, True), (True, True)]


# record and replay

@nodes_of_all
@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=['momentum', 'adam'])
def test_a_record_is_replayed_bit_for_bit_with_a_resume_between(nodes, optimizer):
    how = {'dtype': 'float32', 'options': {'exchange.topology': 'random-ring', **optimizer}}
    plan, problem = uneven(nodes, 3), Quadratic(bad={(0, 3)}, apart=True)
    found, stretches = record(nodes, problem, plan, seed=1, **how)
    assert bits(run(nodes, problem, plan, journals=replays(nodes, stretches), seed=2, **how)) == bits(found)
    resumes = [{k: replay(rank, stretches[k:]) for k in (1, 2)} for rank in range(len(nodes))]
    again = run(nodes, problem, plan, journals=replays(nodes, stretches), resumes=resumes, seed=3, **how)
    assert bits(again) == bits(found)


@nodes_of_all
def test_only_leaders_draw_tickets(nodes):
    _, stretches = record(nodes, Quadratic(), uneven(nodes))
    for stretch in stretches:
        assert {rank for rank, (_, tickets) in enumerate(stretch) if len(tickets)} <= set(leaders(nodes))


def test_a_record_of_other_nodes_is_refused():
    head = {'config': {}, 'ranks': 4, 'nodes': '2 x 2', 'store': '', 'dev': '', 'total': 1, 'first': 0}
    require_same_run('r.bin', head, head, 0)
    with pytest.raises(BadInput, match=r'r\.bin: .* nodes of 2 x 2 ranks, and now they are of 4 x 1; give'):
        require_same_run('r.bin', head, head | {'nodes': '4 x 1'}, 0)


# real ranks

def node_sizes(comm):
    return [n for n in (1, 2) if comm.size % n == 0]


@pytest.mark.mpi
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_ranks_are_virtual_learners_under_the_same_order(dtype):
    comm, problem = MPIComm(), Quadratic(n=61, apart=True, bad={(0, 3)})
    how = {'dtype': dtype, 'options': {'exchange.topology': 'random-ring', **MOMENTUM}}
    for n in node_sizes(comm):
        comm.arrange(n)
        nodes, plan = comm.nodes, uneven(comm.nodes)
        real = arranged(comm, nodes, problem, plan, journal=Tape(), **how)
        again = run(nodes, problem, plan, journals=replays(nodes, real.journal.stretches), **how)
        assert real.bits() == again[comm.rank].bits()
        virtual, stretches = record(nodes, problem, plan, seed=n, **how)
        here = arranged(comm, nodes, problem, plan, journal=replay(comm.rank, stretches),
                        resume={1: replay(comm.rank, stretches[1:])}, **how)
        assert here.bits() == virtual[comm.rank].bits()
    comm.close()


@pytest.mark.mpi
def test_ranks_of_one_node_are_allreduce():
    comm, how = MPIComm(), {'dtype': 'float32', 'options': MOMENTUM}
    found = arranged(comm, (0,)*comm.size, Quadratic(n=61), [[STEPS]*comm.size], **how)
    assert np.array_equal(found.models[:STEPS], live(comm, 'sync-allreduce', Quadratic(n=61), STEPS, **how).models)
    comm.close()


@pytest.mark.mpi
def test_ranks_on_uneven_nodes_hold_one_model_each():
    comm = MPIComm()
    nodes = tuple(rank//3 for rank in range(comm.size))
    found = arranged(comm, nodes, Quadratic(n=61), uneven(nodes), options=MOMENTUM)
    everybody = comm.allgather(found.bits())
    assert all(everybody[rank] == everybody[nodes.index(node)] for rank, node in enumerate(nodes))
    comm.close()


# work

def walk(comm, nodes, assign, halts, every, tempo):
    """The claims of a learner that takes its steps with its crew, one claim ahead, as the loader does.

    halts   {rank: step in which it wants to stop}
    """
    comm.nodes, crew = nodes, comm.split(nodes)
    config = Config().with_values({'data.batch': 3, 'checkpoint.every': every, 'exchange.assign': assign}, 'test')
    work = get_work(SimpleNamespace(asynchronous=True, journal=Journal(), crew=crew), 83, config, comm)
    claims, stop = [], False
    while not work.over and not stop:
        drawn = work.rest()
        ahead, begun = next(drawn, None), len(claims)
        while ahead:
            claim, ahead = ahead, next(drawn, None)
            claims.append(claim)
            comm.sleep(tempo[nodes[comm.rank] % len(tempo)])
            if any(crew.allgather(halts.get(comm.rank) == len(claims))):
                work.halt()
                stop = True
            work.finish(claim)
        assert len(set(crew.allgather(len(claims) - begun))) == 1
        work.meet()
        stop = any(comm.allgather(stop))
    return claims, work.consumed


@pytest.mark.parametrize('assign', ['counter', 'static'])
@given(nodes=st.sampled_from([n for n in NODES if len(n) > 1]), halts=st.dictionaries(
    st.integers(0, 4), st.integers(1, 6), max_size=2), every=st.sampled_from([0, 20]), seed=st.integers(0, 10**6),
    tempo=st.lists(st.floats(0.1, 3), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_a_crew_keeps_step_also_if_somebody_wants_to_stop(assign, nodes, halts, every, seed, tempo):
    """Nothing is left out and nothing is taken twice, whoever halts and when; the learners of a node end together."""
    world = World(len(nodes), schedule='random', seed=seed, strict=True)
    found = world.run(lambda comm: walk(comm, nodes, assign, halts, every, tempo))
    taken = sorted(k for claims, _ in found for claim in claims for k in range(claim.lo, claim.hi))
    assert taken == list(range(found[0][1]))
    assert halts or len(taken) == 83
    for rank, node in enumerate(nodes):
        assert [claim.at for claim in found[rank][0]] == [claim.at for claim in found[nodes.index(node)][0]]


# what is said of it

@pytest.mark.parametrize(('size', 'node_size'), [(1, 0), (3, 0), (2, 1), (4, 2), (6, 2), (6, 3), (4, 1)])
@pytest.mark.parametrize('topology', ['ring', 'complete'])
def test_bytes_and_messages(size, node_size, topology):
    """In one bucket; sums of slots count as messages, their bytes are left out."""
    options = {'exchange.sample': 0, 'exchange.meet': 1000, 'train.bucket': 10**6, 'exchange.node_size': node_size,
               'exchange.topology': topology}

    def work(comm):
        comm.arrange(node_size)
        player = Player(comm, 'hierarchical', Quadratic(n=3000), options=options)
        before = comm.bytes_sent, comm.messages_sent
        for t in range(6):
            player.step(t)
        return comm.bytes_sent - before[0], comm.messages_sent - before[1]
    sent, messages = (max(learners)/6 for learners in zip(*World(size).run(work), strict=True))
    config, about = Config().with_values(options, 'test'), ALGORITHMS['hierarchical'].about
    assert 0 <= sent - about.bytes(8*3000, size, config) <= 2*8*(SLOTS + 1)
    assert messages == pytest.approx(about.messages(size, config))


@pytest.mark.parametrize('nodes, text', [((0,), '1 x 1'), ((0, 0, 1, 1), '2 x 2'), ((0, 0, 0, 1, 1), '3 + 2'),
                                         ((0, 1, 0, 1), '0 1 0 1'), ((0,)*8, '1 x 8')])
def test_nodes_in_words(nodes, text):
    def work(comm):
        comm.nodes = nodes
        return ALGORITHMS['hierarchical'](comm, Config()).describe()
    lines = World(len(nodes)).run(work)[0]
    assert lines[0] == f'nodes     {text} ranks'
    assert lines[1].startswith(f'topology  ring of {max(nodes) + 1}, fixed')
