"""Elastic averaging: what the springs keep, what a recorded order says bit for bit, and what is refused."""

from collections import Counter

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
from tests.algorithms.free import Unlocked, Whole, free, replay, taped, uneven, virtual
from tests.algorithms.problems import PLAIN, Player, Quadratic, live
from tests.oracle import oracle

SYNC = {'exchange.elastic_update': 'sync'}
MOMENTUM = {'optim.momentum': 0.7}
HALF = {'exchange.elastic': 0.5, 'exchange.period': 2}
sizes = pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
servers = pytest.mark.parametrize('servers', [-1, 0, 1, 2])


def options(size, servers, more):
    return {'exchange.servers': min(servers, size)} | more


@sizes
@pytest.mark.parametrize('form', [{}, SYNC], ids=['async', 'sync'])
def test_without_springs_learners_are_independent(size, form):
    how = {'dtype': 'float32', 'options': MOMENTUM | form | {'exchange.elastic': 0.0}}
    elastic = World(size, schedule='random').run(lambda comm: live(comm, 'easgd', Quadratic(), 12, **how))
    alone = World(size).run(lambda comm: live(comm, 'local-sgd', Quadratic(), 12, dtype='float32',
                                              options=MOMENTUM | {'exchange.period': 1000}))
    start = Quadratic().learner(0, size, 'float32').params.data
    for one, other in zip(elastic, alone, strict=True):
        assert one.models.tobytes() == other.models.tobytes()
        assert np.array_equal(one.consensus, start)


def total(frees):
    return frees[0].consensus + sum(one.models[-1] for one in frees)


def started(problem, size, frees):
    """c + Σ_l w_l before the first step."""
    models = [problem.learner(rank, size, 'float64').params.data for rank in range(size)]
    bounds = frees[0].player.algorithm.shards.bounds
    return sum(models) + np.concatenate([w[lo:hi] for w, lo, hi in zip(models, bounds, bounds[1:], strict=False)])


def moved(problem, size, seed, servers=-1, journal=Journal):
    """By how much c + Σ_l w_l has moved more than the gradients say: [n], float64 is exact here."""
    plan = uneven(size, 2, 9)
    frees = virtual(size, 'easgd', problem, plan, seed=seed, lr=0.125, journal=journal,
                    options=options(size, servers, HALF))
    pulled = sum(map(sum, plan))*0.125*(problem.pull == 'constant')
    return total(frees) - started(problem, size, frees) + pulled


@given(size=st.integers(1, 5), servers=st.sampled_from([-1, 1, 2]), seed=st.integers(0, 10**6),
       pull=st.sampled_from(['none', 'constant']))
@settings(max_examples=40, deadline=None)
def test_what_a_model_loses_the_centre_gains(size, servers, seed, pull):
    """Whatever goes on between a get and its put: others come in at every reach."""
    assert not moved(Whole(apart=True, even=True, pull=pull), size, seed, servers).any()


@pytest.mark.parametrize('size', [2, 3, 4, 5])
def test_without_the_lock_it_is_lost(size):
    lost = [moved(Whole(apart=True, even=True, pull='none'), size, seed, journal=Unlocked).any() for seed in range(5)]
    assert any(lost)


@pytest.mark.mpi
def test_ranks_lose_nothing():
    """With a pause of random length before every put."""
    comm, problem = MPIComm(), Whole(apart=True, even=True, pull='none')
    rng, player = np.random.default_rng(comm.rank), Player(comm, 'easgd', problem, options=HALF)
    put = player.algorithm.centre.put
    player.algorithm.centre.put = lambda *args: (comm.sleep(rng.uniform(0, 2e-3)), put(*args))
    before = everything(player)
    for t in range(8):
        player.step(t)
    assert np.array_equal(everything(player), before)
    comm.close()


def everything(player):
    """c + Σ_l w_l now; all learners come."""
    algorithm, p = player.algorithm, player.params
    algorithm.settle(p.data, p.slots)
    total = p.data.copy()
    player.comm.sum_ordered(total)
    return total + algorithm.consensus(p.data)


def serial(problem, size, plan, stretches, bounds, config):
    """[L] the models of all learners after each step, and the centre, when exchanges come in the order of tickets."""
    learners = [problem.learner(rank, size, 'float32') for rank in range(size)]
    centre = np.concatenate([learners[k].params.data[slice(*bounds[k:k + 2])] for k in range(size)])
    speeds, models, steps = [np.zeros_like(centre) for _ in learners], [[] for _ in learners], [0]*size
    late = [[] for _ in learners]

    def live(rank, count, tickets):
        """Gives (server, ticket) where the learner must wait for its turn."""
        w, v, last = learners[rank].params.data, speeds[rank], Counter()
        for t in range(steps[rank], steps[rank] + count):
            learners[rank].compute(t)
            p = learners[rank].params
            if not p.slots[NONFINITE]:
                v[:] = np.float32(config.optim.momentum)*v + p.grad/max(p.slots[FRAMES], 1)
                w -= v*np.float32(0.1)
            if (t + 1) % config.exchange.period == 0:
                most = 0
                for _ in range(np.count_nonzero(np.diff(bounds))):
                    _, server, ticket, _ = next(tickets).tolist()
                    yield server, ticket
                    s = slice(*bounds[server:server + 2])
                    d = (w[s] - centre[s])*np.float32(config.exchange.elastic)
                    w[s], centre[s] = w[s] - d, centre[s] + d
                    most, last[server] = max(most, ticket - last[server]), ticket + 1
                late[rank].append(most)
            models[rank].append(w.copy())
        assert next(tickets, None) is None
        steps[rank] += count
        models[rank].append(w.copy())

    for counts, stretch in zip(plan, stretches, strict=True):
        lives = [live(rank, counts[rank], iter(stretch[rank][1])) for rank in range(size)]
        wanted, served = {rank: next(life, None) for rank, life in enumerate(lives)}, Counter()
        while any(wanted.values()):
            rank = next(rank for rank, want in wanted.items() if want and served[want[0]] == want[1])
            served[wanted[rank][0]] += 1
            wanted[rank] = next(lives[rank], None)
    return models, centre, late


@sizes
@servers
@pytest.mark.parametrize('n', [8, 37])
def test_exchanges_are_those_of_the_recorded_order_bit_for_bit(size, servers, n):
    problem, plan = Quadratic(n=n, bad={(0, 2), (size - 1, 5)}), uneven(size, 3, 9)
    values = options(size, servers, MOMENTUM | {'exchange.elastic': 0.3, 'exchange.period': 2})
    frees, stretches = taped(size, 'easgd', problem, plan, dtype='float32', options=values, seed=servers + 9)
    config = Config().with_values(values, 'test')
    models, centre, late = serial(problem, size, plan, stretches, frees[0].player.algorithm.shards.bounds, config)
    for one, expected, stale in zip(frees, models, late, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one.models, expected, strict=True))
        assert np.array_equal(one.consensus, centre)
        assert one.player.algorithm.staleness.split() == sorted(Counter(stale).items())


def test_more_servers_than_entries():
    [one, *_], _ = taped(9, 'easgd', Quadratic(n=8), uneven(9), options={'exchange.period': 1})
    assert len(one.player.algorithm.shards.ranks) == 8 and np.isfinite(one.consensus).all()


@pytest.mark.parametrize('form', [{}, SYNC], ids=['async', 'sync'])
def test_a_learner_alone_follows_the_rule(form):
    problem = Quadratic(bad={(0, 4)})
    models, consensus = oracle('easgd', problem, 1, 12, 'float64', 0.1, PLAIN | MOMENTUM)
    life = live(Comm(), 'easgd', problem, 12, options=MOMENTUM | form)
    assert np.linalg.norm(life.models - models[:, :, 0]) <= 1e-13*np.linalg.norm(models)
    assert np.linalg.norm(life.consensus - consensus) <= 1e-13*np.linalg.norm(consensus)


@sizes
@servers
@pytest.mark.parametrize('optimizer', [MOMENTUM, {'optim.optimizer': 'adam'}], ids=['momentum', 'adam'])
def test_replay_repeats_every_bit_also_from_a_checkpoint(size, servers, optimizer):
    problem, plan = Quadratic(bad={(0, 3)}), uneven(size, 3)
    how = {'dtype': 'float32', 'options': options(size, servers, optimizer)}
    frees, stretches = taped(size, 'easgd', problem, plan, seed=3, **how)

    def again(comm):
        return free(comm, 'easgd', problem, plan, journal=replay(comm.rank, stretches), **how)

    def resumed(comm):
        journals = [replay(comm.rank, stretches[k:]) for k in range(3)]
        return free(comm, 'easgd', problem, plan, journal=journals[0], resume={1: journals[1], 2: journals[2]}, **how)
    for life in again, resumed:
        found = World(size, schedule='random', seed=77, strict=True).run(life)
        assert [a.bits() for a in found] == [b.bits() for b in frees]


@pytest.mark.mpi
@pytest.mark.parametrize('servers', [0, 1])
def test_ranks_and_virtual_learners_replay_each_other(servers):
    comm = MPIComm()
    problem, plan, how = Quadratic(n=61), uneven(comm.size), {'dtype': 'float32', 'options': {
        'exchange.servers': servers, 'exchange.period': 2} | MOMENTUM}
    frees, stretches = taped(comm.size, 'easgd', problem, plan, **how)
    real = free(comm, 'easgd', problem, plan, journal=replay(comm.rank, stretches), **how)
    assert real.bits() == frees[comm.rank].bits()
    tape = type(frees[0].journal)()
    real = free(comm, 'easgd', problem, plan, journal=tape, **how)
    simulated = World(comm.size, schedule='random', seed=5).run(lambda virtual: free(
        virtual, 'easgd', problem, plan, journal=replay(virtual.rank, tape.stretches), **how))
    assert real.bits() == simulated[comm.rank].bits()
    comm.close()


@pytest.mark.parametrize(('form', 'counted'), [({}, 5), (SYNC, 3)], ids=['async', 'sync'])
def test_a_model_that_is_not_finite_pulls_nobody(form, counted):
    """From step 4 on: counted are 5 gradients, or 3 exchanges, after steps 4, 6 and 8."""
    def work(comm):
        player = Player(comm, 'easgd', Quadratic(), options=form | HALF | {'exchange.elastic': 0.2})
        x, rejected = player.params.data, 0
        for t in range(8):
            if (comm.rank, t) == (1, 3):
                x[5] = np.nan
            player.step(t)
            rejected += player.params.slots[NONFINITE]
        player.algorithm.settle(x, player.params.slots)
        rejected = getattr(player.algorithm, 'rejected', rejected + player.params.slots[NONFINITE])
        centre = player.algorithm.consensus(x).copy()
        player.algorithm.close(x)
        return x.copy(), centre, rejected
    for rank, (x, centre, rejected) in enumerate(World(3, schedule='random', strict=True).run(work)):
        assert np.isfinite(x).all() == (rank != 1)
        assert np.isfinite(centre).all()
        assert rejected == counted


@pytest.mark.parametrize('size', [1, 2, 5, 6])
@pytest.mark.parametrize('servers', [-1, 1, 2])
def test_bytes_and_messages(size, servers):
    servers, n, steps = min(servers, size), 3000, 6
    values = {'exchange.sample': 0, 'exchange.meet': 1000, 'exchange.period': 3, 'exchange.servers': servers}

    def work(comm):
        player = Player(comm, 'easgd', Quadratic(n=n), options=values)
        before = comm.bytes_sent, comm.messages_sent
        for t in range(steps):
            player.step(t)
        return comm.bytes_sent - before[0], comm.messages_sent - before[1]
    sent, messages = (max(learners)/steps for learners in zip(*World(size).run(work), strict=True))
    config, about = Config().with_values(values, 'test'), ALGORITHMS['easgd'].about
    assert 0 <= sent - about.bytes(8*n, size, config) <= 2*8*(SLOTS + 1)
    assert messages == pytest.approx(about.messages(size, config))


@pytest.mark.parametrize(('values', 'size', 'message'), [
    ({'exchange.elastic': 1.01}, 3, 'give 0 to 1, or -1'),
    ({'exchange.elastic': -0.5}, 3, 'give 0 to 1, or -1'),
    (SYNC | {'exchange.elastic': 0.34}, 3, r'give 0 to 0\.3333, or -1'),
    ({'exchange.servers': 4}, 3, 'there are 3 ranks'),
])
def test_what_is_refused(values, size, message):
    def work(comm):
        with pytest.raises(BadInput, match=message):
            Player(comm, 'easgd', Quadratic(), options=values)
    World(size).run(work)


@pytest.mark.parametrize('other', [SYNC, {'exchange.servers': 1}])
def test_a_checkpoint_of_another_kind_is_refused(other):
    def work(comm):
        state = Player(comm, 'easgd', Quadratic()).algorithm.state()
        with pytest.raises(BadInput, match=r'keep its exchange\.servers and exchange.elastic_update'):
            Player(comm, 'easgd', Quadratic(), options=other).algorithm.load(state)
    World(3).run(work)


def test_the_form_is_chosen_by_its_key():
    forms = [ALGORITHMS['easgd'](Comm(), Config().with_values({'exchange.elastic_update': form}, 'test'))
             for form in ('async', 'sync')]
    assert [form.asynchronous for form in forms] == [True, False]
    assert {form.name for form in forms} == {'easgd'}
