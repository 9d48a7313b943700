"""Averaging without a meeting: what is conserved, what a record repeats, what an update that is not finite does."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms.topology import get_topology
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.model.params import FRAMES, LOSS, NONFINITE, SLOTS, STOP
from hpcasr.optim import get_optimizer
from tests.algorithms.free import Tape, Unlocked, free, replay, uneven
from tests.algorithms.problems import PLAIN, TOPOLOGIES, Player, Quadratic

NAME = 'async-decentralized'
MOMENTUM, ADAM = {'optim.momentum': 0.7}, {'optim.optimizer': 'adam', 'optim.clip': 0.3}
SCHEDULES = 'clock', 'random'
topologies = pytest.mark.parametrize('topology', TOPOLOGIES)


def recorded(world, plan, problem, topology, more, **how):
    """([Free], stretches) of a run that is recorded; `world` as World.run."""
    found = world(lambda comm: free(comm, NAME, problem, plan, Tape(), dtype='float32', options=options(topology, more),
                                    **how))
    return found, found[0].journal.stretches


def repeated(comm, stretches, plan, problem, topology, more, resume=(), **how):
    """The Free of one learner that does what a record says; saved, thrown away and made anew at the meetings resume."""
    journals = {k: replay(comm.rank, stretches[k:]) for k in {0, *resume}}
    return free(comm, NAME, problem, plan, journals.pop(0), resume=journals, dtype='float32',
                options=options(topology, more), **how)


def options(topology, more):
    return {'exchange.topology': topology} | more


def pauses(seed):
    """Other speeds for every seed."""
    return lambda rank, t: float(np.random.default_rng([seed, rank, t]).exponential())


# invariants 9 and 11

@topologies
@pytest.mark.parametrize('more', [MOMENTUM, ADAM], ids=['momentum', 'adam'])
@given(size=st.sampled_from([1, 2, 3, 5, 7]), seed=st.integers(0, 10**6), first=st.sampled_from(SCHEDULES),
       second=st.sampled_from(SCHEDULES), resume=st.sets(st.integers(1, 3), max_size=3))
@settings(max_examples=5, deadline=None)
def test_a_record_is_repeated_bit_for_bit_at_any_speed_and_after_any_resume(topology, more, size, seed, first, second,
                                                                           resume):
    plan, problem = uneven(size, 4, 5), Quadratic(seed=seed, n=23, bad={(0, 2)}, apart=True)
    frees, stretches = recorded(World(size, schedule=first, seed=seed, strict=True).run, plan, problem, topology, more,
                                pause=pauses(seed))
    again = World(size, schedule=second, seed=seed + 1, strict=True).run(lambda comm: repeated(
        comm, stretches, plan, problem, topology, more, resume, pause=pauses(seed + 1)))
    assert [one.bits() for one in frees] == [one.bits() for one in again]


@topologies
@pytest.mark.mpi
def test_ranks_and_virtual_learners_repeat_each_other(topology):
    comm, problem = MPIComm(), Quadratic(n=23, apart=True)
    plan, seeds = uneven(comm.size, 3, 5), iter(range(9))
    def alike(life, lives):
        return life.bits() == lives[comm.rank].bits()

    def pause(rank, t):
        return 5e-4*pauses(next(seeds, 9))(rank, t)
    own, stretches = recorded(lambda work: [work(comm)], plan, problem, topology, MOMENTUM, pause=pause)
    args = stretches, plan, problem, topology, MOMENTUM
    for resume in (), (1, 2):
        real = repeated(comm, *args, resume)
        assert real.bits() == own[0].bits()
        assert alike(real, World(comm.size, schedule='random').run(lambda c, r=resume: repeated(c, *args, r)))
    lives, tape = recorded(World(comm.size, schedule='random', seed=7).run, plan, problem, topology, ADAM,
                           pause=pauses(3))
    assert alike(repeated(comm, tape, plan, problem, topology, ADAM, (2,)), lives)
    comm.close()


def test_the_record_of_a_run_that_was_resumed_tells_all_of_it():
    """Each part is recorded by another process; together they are the record of the whole."""
    plan, problem = uneven(3, 4, 5), Quadratic(apart=True)
    whole = World(3, schedule='random', seed=1)
    tapes = [[Tape() for _ in range(3)] for _ in range(3)]
    frees = whole.run(lambda comm: free(comm, NAME, problem, plan, tapes[0][comm.rank], dtype='float32',
                                        options=MOMENTUM, resume={1: tapes[1][comm.rank], 3: tapes[2][comm.rank]}))
    stretches = [s for tape in tapes for s in tape[0].stretches]
    assert len(stretches) == 4
    again = World(3, seed=2).run(lambda comm: repeated(comm, stretches, plan, problem, 'ring', MOMENTUM))
    assert [one.bits() for one in frees] == [one.bits() for one in again]


# the rule

@dataclass
class Column:
    """A learner of the oracle: its model, where it last read it, its optimizer."""

    learner: object
    optimizer: object
    w: np.ndarray
    t: int = 0


def in_order(size, stretches, problem, topology, more):
    """[size] models after all updates of a record, one after the other, in one process."""
    config = Config().with_values({'train.dtype': 'float32', **PLAIN, **options(topology, more)}, 'test')
    graph, ops = get_topology(topology, size), get_backend('reference')
    learners = [problem.learner(rank, size, 'float32') for rank in range(size)]
    columns = [Column(one, get_optimizer(config.optim, one.params.size, 'float32', ops), one.params.data.copy())
               for one in learners]
    for stretch in stretches:
        for one in columns:
            one.learner.params.data[:] = one.w
        for rank in sequence(stretch):
            apply(columns, rank, graph, ops)
    return [one.w for one in columns]


def sequence(stretch):
    """The learners in an order in which all tickets of every part rise: who has all the lowest goes next."""
    todo, served = [[row[1:3].tolist() for row in tickets] for _, tickets in stretch], Counter()
    sets = [locks(rows) for rows in todo]
    while any(sets):
        rank = next(k for k, rows in enumerate(sets) if rows and all(served[p] == t for p, t in rows[0]))
        served.update(p for p, _ in sets[rank].pop(0))
        yield rank


def locks(rows):
    """The rows of a learner as the locks that it took: the parts of one rise, and the own one is in each."""
    found = []
    for part, ticket in rows:
        if not found or found[-1][-1][0] >= part:
            found.append([])
        found[-1].append((part, ticket))
    return found


def apply(columns, rank, graph, ops):
    """w_j ← mean over N for all j in N, summed in learner order; w_l ← w_l − a·g_l(x_l)."""
    one, partners = columns[rank], graph.receivers(rank, columns[rank].t)
    p = one.learner.params
    one.learner.compute(one.t)
    grad, frames, bad = p.grad.copy(), max(p.slots[FRAMES], 1), bool(p.slots[NONFINITE])
    circle = sorted({rank, *partners})
    mean = np.empty_like(one.w)
    ops.mix(mean, [columns[k].w for k in circle], [1/len(circle)]*len(circle), np.empty((2, mean.size), mean.dtype))
    for k in circle:
        columns[k].w = mean.copy()
    if not bad:
        one.optimizer.begin()
        one.optimizer.part(one.w, grad/frames, 0.1, 0)
    p.data[:] = one.w
    one.t += 1


@pytest.mark.parametrize('topology', ['random-ring', 'pairs', 'complete'])
@pytest.mark.parametrize('size', [1, 2, 3, 5])
@pytest.mark.parametrize('more', [MOMENTUM, {'optim.optimizer': 'adam'}], ids=['momentum', 'adam'])
def test_all_updates_one_after_the_other_give_every_model(topology, size, more):
    """In the order of the tickets, in one process, bit for bit."""
    plan, problem = uneven(size, 3, 6), Quadratic(n=23, apart=True, bad={(0, 3)})
    frees, stretches = recorded(World(size, schedule='random', seed=size, strict=True).run, plan, problem, topology,
                                more)
    assert [one.models[-1].tobytes() for one in frees] == [
        w.tobytes() for w in in_order(size, stretches, problem, topology, more)]


# invariant 4

@dataclass
class Whole(Quadratic):
    """Learners that pull at nothing start from whole numbers: ten halvings are exact in float32."""

    def learner(self, rank, *where):
        learner = super().learner(rank, *where)
        learner.params.data[:] = np.random.default_rng([self.seed, rank]).integers(-9, 10, self.n)*1024
        return learner


def sums(size, seed, journal=None, steps=10, pause=1.0):
    """Σ_l w_l before and after `steps` pair averages in all."""
    problem, done = Whole(n=11, seed=seed, pull='none'), [steps//size]*size
    frees = World(size, schedule='random', seed=seed).run(lambda comm: free(
        comm, NAME, problem, [done], journal and journal(), dtype='float32', options={'exchange.topology': 'pairs'},
        pause=lambda rank, t: pause*pauses(seed)(rank, t)))
    return sum(problem.learner(rank, size, 'float32').params.data for rank in range(size)), sum(
        one.models[-1] for one in frees)


@given(size=st.integers(2, 5), seed=st.integers(0, 10**6))
@settings(max_examples=50, deadline=None)
def test_the_sum_of_all_models_does_not_move_by_one_bit(size, seed):
    """Others go on between every read and its write."""
    before, after = sums(size, seed)
    assert np.array_equal(before, after)


def test_without_the_lock_it_does():
    moved = [not np.array_equal(*sums(size, seed, Unlocked)) for size in (2, 3, 4, 5) for seed in range(10)]
    assert sum(moved) > 10


@pytest.mark.mpi
def test_nor_does_it_on_ranks():
    """With a pause of random length between each read and its write."""
    comm, rng = MPIComm(), np.random.default_rng(MPIComm().rank)
    player = Player(comm, NAME, Whole(n=11, pull='none'), dtype='float32', options={'exchange.topology': 'pairs'})
    published, p = player.algorithm.published, player.params
    get = published.get

    def slowly(*args):
        get(*args)
        comm.sleep(rng.random()*2e-3)
    published.get = slowly
    before = total(comm, p.data)
    for t in range(10//comm.size):
        player.step(t)
    player.algorithm.settle(p.data, p.slots)
    assert np.array_equal(total(comm, p.data), before)
    comm.close()


def total(comm, x):
    x = x.astype('float64')
    comm.sum_ordered(x)
    return x


@topologies
@pytest.mark.parametrize('size', [2, 3, 5, 8])
def test_the_spread_falls_and_the_mean_stays(topology, size):
    """A step of every learner in turn mixes at least as much as one of all at once; twice as many steps must do."""
    graph, problem = get_topology(topology, size), Quadratic(n=60, apart=True, pull='none')
    steps = 2*graph.steps(1e-3) + 2
    frees = World(size, seed=3, strict=True).run(lambda comm: free(
        comm, NAME, problem, [[steps]*size], dtype='float64', options={'exchange.topology': topology}, lr=0.0))
    start = np.stack([problem.learner(rank, size, 'float64').params.data for rank in range(size)], 1)
    end = np.stack([one.models[-1] for one in frees], 1)
    assert np.abs(end.mean(1) - start.mean(1)).max() <= 4*np.finfo('f8').eps*steps*size*np.abs(start).max()
    assert np.linalg.norm(end - end.mean(1, keepdims=True)) <= 1e-3*np.linalg.norm(start - start.mean(1, keepdims=True))


# what is not finite

def player(comm, **how):
    return Player(comm, NAME, Quadratic(n=11, apart=True, **how.pop('problem', {})), **how)


def test_an_update_that_is_not_finite_is_left_out_and_counted():
    def work(comm):
        one = player(comm, problem={'bad': {(1, 0), (1, 2)}, 'empty': 0.0})
        for t in range(4):
            one.step(t)
            assert np.isfinite(one.params.data).all()
        slots = one.params.slots
        one.algorithm.settle(one.params.data, slots)
        return one.algorithm.told(), bool(slots[NONFINITE]), bool(slots[STOP]), float(slots[FRAMES])
    found = World(3, schedule='random', strict=True).run(work)
    for told, lost, stop, _ in found:
        assert told['rejected'] == 2 and not lost and not stop
        assert [sum(one['counts']) for one in told['staleness'].values()] == [4, 4, 4]
    assert all(frames >= 0 for *_, frames in found)


@pytest.mark.parametrize('size', [1, 3])
def test_if_all_are_not_finite_the_run_has_diverged(size):
    def work(comm):
        one = player(comm, problem={'bad': {(rank, t) for rank in range(size) for t in range(3)}})
        for t in range(3):
            one.step(t)
        one.algorithm.settle(one.params.data, one.params.slots)
        return bool(one.params.slots[NONFINITE])
    assert World(size, schedule='random', strict=True).run(work) == [True]*size


def test_nobody_averages_with_a_model_that_is_lost_and_its_learner_calls_a_halt():
    def work(comm):
        one = player(comm)
        if comm.rank == 1:
            one.algorithm.published.own[3] = one.params.data[3] = np.nan
        comm.barrier()
        stops = []
        for t in range(4):
            one.step(t)
            stops.append(bool(one.params.slots[STOP]))
        assert np.isfinite(one.params.data).all() == (comm.rank != 1)
        one.algorithm.settle(one.params.data, one.params.slots)
        assert one.params.slots[NONFINITE]
        return stops
    assert World(3, schedule='random', strict=True).run(work) == [[rank == 1]*4 for rank in range(3)]


# what is told

@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('meet', [1, 3, 1000])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_every_frame_is_told_once(dtype, meet, size):
    """Also where float32 cannot hold the sum: a step has more frames than 2^24/7."""
    plan = uneven(size, 3, 7)

    class Many(Quadratic):
        def learner(self, *where):
            learner = super().learner(*where)
            compute = learner.compute

            def more(t, ready):
                compute(t, ready)
                learner.params.slots[FRAMES] = 2_500_001 + learner.rank
                learner.params.slots[LOSS] = 0.5
            learner.compute = more
            return learner

    def work(comm):
        one, told = Player(comm, NAME, Many(), dtype=dtype, options={'exchange.meet': meet}), np.zeros(SLOTS)
        for t, steps in enumerate(plan):
            for k in range(steps[comm.rank]):
                one.step(10*t + k)
                told += one.params.slots
            one.algorithm.settle(one.params.data, one.params.slots)
            told += one.params.slots
        return told[[FRAMES, LOSS]]
    found = World(size, schedule='random', seed=size, strict=True).run(work)
    frames = sum((2_500_001 + rank)*steps[rank] for steps in plan for rank in range(size))
    assert abs(found[0][0] - frames) <= 16 and found[0][1] == 0.5*sum(map(sum, plan))
    assert not np.any(found[1:])


def test_staleness_counts_the_averages_of_others():
    """On a clock without latency learner 0 takes a step while each of the two others takes four."""
    def work(comm):
        one = player(comm, options={'exchange.topology': 'complete'}, pause=lambda rank, t: 4.0 if rank == 0 else 1.0)
        for t in range(40 if comm.rank else 10):
            one.step(t)
        one.algorithm.settle(one.params.data, one.params.slots)
        return one.algorithm.told()
    told = World(3).run(work)[0]
    assert {rank: sum(one['counts']) for rank, one in told['staleness'].items()} == {'0': 10, '1': 40, '2': 40}
    assert 7 <= told['staleness']['0']['mean'] <= 8 and told['staleness']['1']['mean'] < 2
    assert told['staleness_max'] <= 10


def test_a_vote_of_a_learner_without_work_counts_at_the_meeting():
    def work(comm):
        one = player(comm)
        if comm.rank:
            one.step(0)
        one.params.slots[STOP] = comm.rank == 0
        one.algorithm.settle(one.params.data, one.params.slots)
        return bool(one.params.slots[STOP])
    assert World(3, strict=True).run(work) == [True]*3


def test_a_learner_alone():
    [one] = [free(Comm(), NAME, Quadratic(), [[5], [3]], dtype='float32', options=MOMENTUM)]
    [virtual] = World(1).run(lambda comm: free(comm, NAME, Quadratic(), [[5], [3]], dtype='float32', options=MOMENTUM))
    assert one.bits() == virtual.bits()
