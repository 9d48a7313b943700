"""Servers that apply what comes: what the recorded tickets say, how stale, and what is refused and kept."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS, get_algorithm
from hpcasr.algorithms.gate import BoundedGate, Gate
from hpcasr.algorithms.shards import Shards
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import Deadlock, World
from hpcasr.config import Config
from hpcasr.errors import BadInput
from hpcasr.model.params import FRAMES, NONFINITE, SLOTS
from hpcasr.optim.clip import clip
from tests.algorithms.free import Tape, free, replay, taped, uneven, virtual
from tests.algorithms.problems import PLAIN, Acoustic, Player, Quadratic, live
from tests.optim.conftest import make_optimizer  # noqa: F401

MOMENTUM, ADAM = {'optim.momentum': 0.7}, {'optim.optimizer': 'adam', 'optim.clip': 0.3}
TOLERANCE = {'float32': 1e-6, 'float64': 1e-13}
PERIODS = [(1, 1), (2, 2), (1, 3), (3, 1), (2, 4), (4, 2)]  # push_every, pull_every
CASES = {
    'plain': {}, 'momentum': MOMENTUM, 'adam': ADAM, 'one server': MOMENTUM | {'exchange.servers': 1},
    'rate': {'exchange.staleness_rate': True} | MOMENTUM,
    'compensated': {'exchange.delay_compensation': 0.4},
    'bounded': {'exchange.max_staleness': 2, 'exchange.delay_compensation': 0.4} | MOMENTUM,
    'push 3': {'exchange.push_every': 3, 'exchange.delay_compensation': 0.4},
    'pull 2': {'exchange.pull_every': 2} | ADAM,
    'push 2, pull 3': {'exchange.push_every': 2, 'exchange.pull_every': 3, 'exchange.delay_compensation': 0.4,
                       **MOMENTUM},
    'push 4, pull 2, bounded': {'exchange.push_every': 4, 'exchange.pull_every': 2, 'exchange.max_staleness': 1},
    'push 1, pull 2, bounded': {'exchange.pull_every': 2, 'exchange.max_staleness': 3} | ADAM,
}
cases = pytest.mark.parametrize('options', CASES.values(), ids=CASES)
sizes = pytest.mark.parametrize('size', [1, 2, 3, 4, 5])


def periods(p, q, **more):
    return {'exchange.push_every': p, 'exchange.pull_every': q} | {f'exchange.{k}': v for k, v in more.items()}


# the oracle: all that is done to the shards, one after the other, as the tickets say

class Serial:
    """Servers and learners in one process, on whole vectors; between two meetings a learner is a generator of the
    shards that it wants next.

    w, m, v   the model and the optimizer's state
    version   [S] of each shard
    taus      of all pushes; None: there was nothing to push
    """

    def __init__(self, problem, L, dtype, options, lr=0.1):
        c = Config().with_values({**PLAIN, **options}, 'test')
        self.L, self.dtype, self.optim, self.exchange, self.lr = L, np.dtype(dtype), c.optim, c.exchange, lr
        self.learners = [problem.learner(rank, L, dtype) for rank in range(L)]
        self.w = self.learners[0].params.data.copy()
        S = L if c.exchange.servers < 1 else c.exchange.servers
        self.ranks = [-(-s*L//S) for s in range(S)]
        self.slices = [slice(s*self.w.size//S, (s + 1)*self.w.size//S) for s in range(S)]
        self.m, self.v, self.version = np.zeros_like(self.w), np.zeros_like(self.w), [0]*S
        self.t, self.taus, self.models, self.mixed = [0]*L, Counter(), [[] for _ in range(L)], 0

    def stretch(self, tickets, steps):
        """All learners to their next meeting; tickets and steps [L]."""
        rows = [iter(table[:, 1:3].tolist()) for table in tickets]
        alive = {rank: self.live(rank, steps[rank]) for rank in range(self.L)}
        wanted, served = {rank: next(one, None) for rank, one in alive.items()}, Counter()
        turns = {rank: next(rows[rank], None) for rank in alive}
        while any(s is not None for s in wanted.values()):
            rank = next(r for r, turn in turns.items() if turn and served[turn[0]] == turn[1])
            assert turns[rank][0] == self.ranks[wanted[rank]]
            served[turns[rank][0]] += 1
            wanted[rank], turns[rank] = next(alive[rank], None), next(rows[rank], None)
        assert not any(turns.values())
        for models in self.models:
            models.append(self.w.copy())

    def live(self, rank, steps):
        e, x, known = self.exchange, self.learners[rank].params.data, list(self.version)
        order = sorted(range(len(self.ranks)), key=lambda s: (self.ranks[s] - rank) % self.L)
        x[:], fresh, held, base = self.w, e.max_staleness < 0, [], None
        for k in range(1, steps + 1):
            if (k - 1) % e.pull_every == 0 and not fresh:
                for s in order:
                    yield s
                    x[self.slices[s]], known[s] = self.w[self.slices[s]], self.version[s]
                self.mixed += len(set(known)) > 1
            base, sound = base if held else list(known), self.gradient(rank)
            held += [(self.learners[rank].params.gradient.copy(), x.copy())]*sound
            pushes, fresh = k % e.push_every == 0, False
            if pushes:
                fresh = k % e.pull_every == 0 and e.max_staleness < 0
                yield from self.push(rank, order, held, base, known if fresh else None)
                held = []
            if sound and not fresh:
                x -= self.mean(self.learners[rank].params.gradient)*(self.lr/self.L)
            self.models[rank].append(x.copy())
        if held:
            yield from self.push(rank, order, held, base, None)

    def gradient(self, rank):
        self.learners[rank].compute(self.t[rank])
        self.t[rank] += 1
        return not self.learners[rank].params.slots[NONFINITE]

    def mean(self, total):
        g = total[:-SLOTS]/max(total[-SLOTS + FRAMES], 1)
        clip(g, self.optim.clip)
        return g

    def push(self, rank, order, held, base, known):
        x, taus = self.learners[rank].params.data, []
        if held:
            g, rate = self.mean(sum(g for g, _ in held)), sum([self.lr/self.L]*len(held))
            point = mean_point(held) if self.exchange.push_every > 1 else x.copy()
        for s in order:
            if not held and known is None:
                return
            yield s
            part = self.slices[s]
            if held:
                taus.append(self.version[s] - base[s])
                self.update(s, part, g[part], point[part], rate, taus[-1])
            if known is not None:
                x[part], known[s] = self.w[part], self.version[s]
        self.taus[max(taus, default=None)] += 1
        self.mixed += len(set(known or [])) > 1

    def update(self, s, part, g, point, rate, tau):
        w, m, v, o = self.w[part], self.m[part], self.v[part], self.optim
        self.version[s] += 1
        rate = rate/max(tau, 1) if self.exchange.staleness_rate else rate
        if self.exchange.delay_compensation:
            g = (w - point)*g*g*self.exchange.delay_compensation + g
        if o.optimizer == 'sgd':
            v[:] = v*o.momentum + g
            w -= v*rate
        else:
            m[:], v[:], t = m*o.beta1 + g*(1 - o.beta1), v*o.beta2 + g*g*(1 - o.beta2), self.version[s]
            w -= m/(np.sqrt(v/(1 - o.beta2**t)) + o.epsilon)*(rate/(1 - o.beta1**t))


def mean_point(held):
    """The mean over frames."""
    return sum(x*float(g[-SLOTS + FRAMES]) for g, x in held)/max(sum(g[-SLOTS + FRAMES] for g, _ in held), 1)


@cases
@given(size=st.integers(1, 5), seed=st.integers(0, 10**6))
@settings(max_examples=8, deadline=None)
def test_serially_in_the_order_of_the_tickets(options, size, seed):
    """Bit for bit; with gradients that are not finite, and meetings in between."""
    problem, plan = Quadratic(bad={(0, 3), (1, 0), (1, 1), (1, 2)}, seed=seed % 3), uneven(size, 3, 9)
    frees, stretches = taped(size, 'async-ps', problem, plan, dtype='float64', options=options, seed=seed)
    serial = Serial(problem, size, 'float64', options)
    for stretch, steps in zip(stretches, plan, strict=True):
        serial.stretch([tickets for _, tickets in stretch], steps)
    for one, models in zip(frees, serial.models, strict=True):
        assert np.array_equal(one.models, models)
        assert one.player.algorithm.known.tolist() == serial.version
    found = sum((one.player.algorithm.staleness.counts for one in frees), Counter())
    assert found == Counter({tau: n for tau, n in serial.taus.items() if tau is not None})
    assert sum(one.player.algorithm.mixed for one in frees) == serial.mixed


@cases
@pytest.mark.parametrize('size', [1, 3, 4])
def test_a_record_is_replayed_also_from_a_meeting_on(options, size):
    problem, plan = Quadratic(), uneven(size, 3, 8)
    how = {'dtype': 'float32', 'options': options}
    frees, stretches = taped(size, 'async-ps', problem, plan, **how)

    def again(comm, resume=()):
        tail = {k: replay(comm.rank, stretches[k:]) for k in resume}
        return free(comm, 'async-ps', problem, plan, replay(comm.rank, stretches), tail, **how)
    for resume in (), (1,), (1, 2), (2,):
        world = World(size, schedule='random', seed=7, strict=True)
        found = world.run(lambda comm, resume=resume: again(comm, resume))
        assert [one.bits() for one in found] == [one.bits() for one in frees]
        assert type(found[0].player.algorithm.gate) is Gate


@pytest.mark.mpi
@cases
def test_virtual_learners_repeat_what_ranks_did(options):
    comm = MPIComm()
    problem, plan, how = Quadratic(), uneven(comm.size, 2, 7), {'dtype': 'float32', 'options': options}
    real = free(comm, 'async-ps', problem, plan, Tape(), **how)
    stretches = real.journal.stretches
    found = World(comm.size).run(lambda v: free(v, 'async-ps', problem, plan, replay(v.rank, stretches), **how))
    assert real.bits() == found[comm.rank].bits()
    assert free(comm, 'async-ps', problem, plan, replay(comm.rank, stretches), **how).bits() == real.bits()
    comm.close()


# equalities

@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('more', [MOMENTUM, ADAM, {'optim.clip': 0.5}], ids=['momentum', 'adam', 'clip'])
@pytest.mark.parametrize('comm', [Comm, lambda: None], ids=['alone', 'virtual'])
def test_one_worker_is_serial_sgd(dtype, more, comm):
    def run(problem, name, options=more):
        def work(comm):
            return live(comm, name, problem, 10, dtype=dtype, options=options)
        return work(comm()) if comm() else World(1).run(work)[0]
    for problem in Quadratic(bad={(0, 4)}), Acoustic():
        expected, found = run(problem, 'sync-allreduce'), run(problem, 'async-ps')
        assert found.bits() == expected.bits()
        bounded = run(problem, 'async-ps', more | {'exchange.max_staleness': 1})
        assert bounded.consensus.tobytes() == expected.consensus.tobytes()


@sizes
@pytest.mark.parametrize('servers', [0, 1, 2])
@pytest.mark.parametrize('dtype', TOLERANCE)
def test_waiting_for_all_is_the_synchronous_server(size, servers, dtype):
    """All pull, all push, all pull: the mean of the gradients, at a/L each; max_staleness makes pulls of their own."""
    how = {'options': {'exchange.servers': min(servers, size)}, 'dtype': dtype}

    def together(comm, bound):
        bounded = {**how, 'options': how['options'] | {'exchange.max_staleness': bound}}
        player = Player(comm, 'async-ps', Quadratic(even=True), **bounded)
        x, g = player.params.data, player.params.gradient
        for t in range(12):
            player.algorithm.begin(x)
            comm.barrier()
            player.learner.compute(t)
            player.algorithm.step(x, g, player.lr)
            comm.barrier()
        player.algorithm.settle(x, player.params.slots)
        return x, player.algorithm.staleness.counts
    expected = World(size).run(lambda comm: live(comm, 'sync-ps', Quadratic(even=True), 12, **how))[0].models[-1]
    for bound in max(1, size - 1), 100:
        for x, taus in World(size, schedule='random', strict=True).run(lambda comm, bound=bound: together(comm, bound)):
            assert np.linalg.norm(x - expected) <= TOLERANCE[dtype]*np.linalg.norm(expected)
            assert sum(taus.values()) == 12 and max(taus) <= size - 1


@pytest.mark.parametrize(('p', 'q'), [(3, 3), (2, 4), (4, 2), (3, 2)])
def test_one_worker_that_pushes_seldom(p, q):
    """Under a constant gradient the sum of what was pushed is that of all steps, at the same rate."""
    problem = Quadratic(pull='constant', even=True)
    [one] = virtual(1, 'async-ps', problem, [[7], [4]], options=periods(p, q))
    start = problem.learner(0, 1, 'float64').params.data
    np.testing.assert_allclose(start - one.consensus, 11*0.1, rtol=1e-12)
    assert one.player.algorithm.known.tolist() == [-(-7//p) + -(-4//p)]


# staleness

def histograms(steps, pause, **options):
    """[Counter] of each learner on the simulated clock; `steps` [L]."""
    def work(comm):
        how = {'options': options, 'pause': pause, 'dtype': 'float32'}
        return free(comm, 'async-ps', Quadratic(n=50), [steps], **how).player.algorithm.staleness.counts
    return World(len(steps), schedule='clock').run(work)


def mean(counts):
    return sum(tau*n for tau, n in counts.items())/counts.total()


def test_pulls_of_unequal_versions_are_told():
    def told(comm, servers):
        found = free(comm, 'async-ps', Quadratic(), [[9]*4], options={'exchange.servers': servers})
        own = found.player.algorithm.mixed
        return own, found.player.algorithm.told()['mixed_pulls'], found.player.algorithm.told()['mixed_pulls']
    for servers in 1, 4:
        found = World(4, schedule='random').run(lambda comm, servers=servers: told(comm, servers))
        total = sum(own for own, *_ in found)
        assert [rest for _, *rest in found] == [[total, 0]]*4 and (total > 0) == (servers > 1)


@pytest.mark.parametrize('size', [2, 3, 5, 8])
def test_equal_learners_are_about_as_stale_as_they_are_many(size):
    rng = np.random.default_rng(0)
    found = sum(histograms([600//size]*size, lambda rank, t: rng.uniform(0.9, 1.1)), Counter())
    assert size/2 - 0.01*(size == 2) <= mean(found) <= 2*size  # two: L/2 = L − 1, and the first push is not stale
    assert mean(found) == pytest.approx(size - 1, rel=0.05)


def test_a_slow_learner_is_staler():
    """Four times as slow beside three others: they make twelve updates in one step of it."""
    found = histograms([40, 40, 10, 40], lambda rank, t: 4.0 if rank == 2 else 1.0)
    assert mean(found[2]) == pytest.approx(12, abs=1)
    for fast in found[0], found[1], found[3]:
        assert 2 <= mean(fast) <= 2.5 and max(fast) <= 3


@given(size=st.integers(1, 7), bound=st.integers(1, 5), at=st.sampled_from(PERIODS), seed=st.integers(0, 10**6),
       schedule=st.sampled_from(['clock', 'random']), servers=st.integers(0, 2), data=st.data())
@settings(max_examples=100, deadline=None)
def test_no_update_is_staler_than_allowed_and_none_is_lost(size, bound, at, seed, schedule, servers, data):
    """Whatever their speeds; some have nothing to do, or stop in the middle of their periods; nobody waits for ever."""
    (p, q), plan = at, data.draw(st.lists(st.lists(st.integers(0, 9), min_size=size, max_size=size), min_size=1,
                                          max_size=2))
    speeds = data.draw(st.lists(st.sampled_from([0.0, 1.0, 1.0, 4.0, 30.0]), min_size=size, max_size=size))
    bound = max(bound, max(p, q)//p - 1)
    options = periods(p, q, max_staleness=bound, servers=min(servers, size))

    def work(comm):
        return free(comm, 'async-ps', Quadratic(n=11), plan, Tape(), options=options,
                    pause=lambda rank, t: speeds[rank]*(1 + (seed*rank + t) % 3))
    found = World(size, schedule=schedule, seed=seed, strict=True).run(work)
    pushes = sum(-(-steps//p) for stretch in plan for steps in stretch)
    for one in found:
        assert max(one.player.algorithm.staleness.counts, default=0) <= bound
        assert set(one.player.algorithm.known.tolist()) == {pushes}
    assert sum(one.player.algorithm.staleness.counts.total() for one in found) == pushes
    if p == q == 1:
        assert max((gap for stretch in found[0].journal.stretches for gap in gaps(stretch)), default=0) <= bound


def gaps(stretch):
    """Of every push the updates of others since the pull, as the tickets tell: pulls and pushes take turns."""
    tables = [tickets for _, tickets in stretch]
    for part in {part for table in tables for part in table[:, 1].tolist()}:
        own = [table[table[:, 1] == part, 2] for table in tables]
        pushes = np.concatenate([tickets[1::2] for tickets in own])
        for tickets in own:
            for pull, push in zip(tickets[::2], tickets[1::2], strict=True):
                yield int(((pull < pushes) & (pushes < push)).sum())


def test_the_bound_is_what_keeps_it():
    """Seven learners go to any staleness without it; with 1, two compute at a time."""
    def pause(rank, t):
        return 1.0 + 10*(rank == 3)
    assert max(max(c) for c in histograms([20]*7, pause)) > 50
    for bound in 1, 2, 4:
        found = histograms([20]*7, pause, **{'exchange.max_staleness': bound})
        assert max(max(c) for c in found) == bound and all(c.total() == 20 for c in found)


def test_whoever_leaves_with_pushes_to_come_must_say_so(monkeypatch):
    options = periods(1, 4, max_staleness=3)
    virtual(3, 'async-ps', Quadratic(), [[2, 9, 9]], options=options)
    monkeypatch.setattr(BoundedGate, 'leave', Gate.leave)
    with pytest.raises(Deadlock, match='a push by one of those who have pulled'):
        virtual(3, 'async-ps', Quadratic(), [[2, 9, 9]], options=options)


def test_nobody_is_passed_over():
    """In the order in which they ask: while one waits, each other one enters once."""
    def work(comm):
        gate, waits = BoundedGate(comm, 1), []
        for _ in range(8):
            turn = len(entered)
            gate.enter(1)
            waits.append(len(entered) - turn)
            entered.append(comm.rank)
            comm.sleep(1.0)
            gate.pushed()
        return max(waits)
    entered = []
    assert max(World(5, schedule='clock', seed=3).run(work)) <= 5


@pytest.mark.mpi
@pytest.mark.parametrize('more', [{}, {'exchange.max_staleness': 1}, periods(2, 4, max_staleness=2), periods(3, 1)])
def test_ranks_lose_no_push(more):
    comm = MPIComm()
    plan, p = uneven(comm.size, 2, 12), more.get('exchange.push_every', 1)
    found = free(comm, 'async-ps', Quadratic(n=1000), plan, dtype='float32', options=more)
    algorithm, pushes = found.player.algorithm, sum(-(-steps//p) for stretch in plan for steps in stretch)
    assert set(algorithm.known.tolist()) == {pushes}
    assert len(set(comm.allgather(found.consensus.tobytes().hex()))) == 1
    assert max(algorithm.staleness.counts, default=0) <= more.get('exchange.max_staleness', 10**9)
    assert sum(comm.allgather(algorithm.staleness.counts.total())) == pushes
    comm.close()


# what is not finite

def test_a_gradient_that_is_not_finite_changes_nothing_and_is_counted():
    def work(comm):
        player = Player(comm, 'async-ps', Quadratic(bad={(1, t) for t in range(5)}), options=MOMENTUM)
        for t in range(5*comm.rank):  # learner 0 has nothing
            player.step(t)
        player.algorithm.settle(player.params.data, player.params.slots)
        return player, player.params.slots.copy()
    start = Quadratic().learner(0, 2, 'float64').params.data
    for player, slots in World(2, strict=True).run(work):
        assert np.array_equal(player.params.data, start) and not player.algorithm.known.any()
        assert slots[NONFINITE] and player.algorithm.rejected == 5 and not player.algorithm.staleness.counts


def test_who_computes_nonsense_pulls_what_the_others_have_done():
    def work(comm):
        player = Player(comm, 'async-ps', Quadratic(bad={(1, t) for t in range(9)}), pause=lambda rank, t: 1.0)
        for t in range(9):
            player.step(t)
        return player.params.data.copy(), player.params.slots.copy()
    ones = World(2).run(work)
    start = Quadratic().learner(0, 2, 'float64').params.data
    assert not np.array_equal(ones[1][0], start) and np.isfinite(ones[1][0]).all()


def test_of_several_steps_only_the_finite_ones_are_pushed():
    options = periods(4, 4)
    [with_bad] = virtual(1, 'async-ps', Quadratic(bad={(0, 1)}, pull='constant', even=True), [[4]], options=options)
    [without] = virtual(1, 'async-ps', Quadratic(pull='constant', even=True), [[3]], options=options)
    assert with_bad.consensus.tobytes() == without.consensus.tobytes()
    assert with_bad.player.algorithm.rejected == 1


def test_a_sum_that_overflows_is_left_out():
    player = Player(Comm(), 'async-ps', Quadratic(even=True), dtype='float32', options=periods(2, 2))
    x, g = player.params.data, player.params.gradient
    before = x.copy()
    for _ in range(2):  # both gradients are finite
        player.learner.compute(0)
        g[:x.size] = 2.5e18
        player.algorithm.step(x, g, 0.0)
    player.algorithm.settle(x, player.params.slots)
    assert np.array_equal(x, before) and player.algorithm.rejected == 1 and player.algorithm.known.tolist() == [0]


# checkpoints

def saved(comm, options, plan=(9,)):
    found = free(comm, 'async-ps', Quadratic(), [[steps]*comm.size for steps in plan], options=options)
    algorithm = found.player.algorithm
    return {k: np.array(v) for k, v in algorithm.state().items()}, found.consensus


@pytest.mark.parametrize('optimizer', [MOMENTUM, ADAM], ids=['momentum', 'adam'])
@pytest.mark.parametrize('then', [1, 3, 4])
@pytest.mark.parametrize('now', [1, 2, 5])
def test_other_ranks_and_servers_go_on(optimizer, then, now):
    states = World(then, schedule='random').run(lambda comm: saved(comm, optimizer))
    state, x = states[0]
    assert all(k[1].tobytes() == x.tobytes() and all(np.array_equal(k[0][n], state[n]) for n in state) for k in states)
    assert state['versions'].tolist() == [9*then]*then and state['v'].any()

    def go_on(comm):
        player = Player(comm, 'async-ps', Quadratic(), options=optimizer | {'exchange.servers': min(2, now)})
        player.params.data[:] = x
        player.algorithm.load(state)
        again = {k: np.array(v) for k, v in player.algorithm.state().items()}
        player.step(9)
        player.algorithm.settle(player.params.data, player.params.slots)
        return again, player.algorithm.known.tolist()
    for again, known in World(now, schedule='random').run(go_on):
        assert all(np.array_equal(again[k], state[k]) for k in state if k != 'versions')
        assert again['versions'].tolist() == [9*then]*min(2, now) and known == [9*then + now]*min(2, now)


def test_shards_of_other_versions_go_on_from_their_mean():
    def work(comm):
        player = Player(comm, 'async-ps', Quadratic(), options=ADAM)
        state = player.algorithm.state() | {'versions': np.array([3, 4, 8])}
        player.algorithm.load(state)
        return player.algorithm.known.tolist(), player.algorithm.state()['steps']
    assert World(3).run(work)[0] == ([3, 4, 8], 5)
    assert World(2).run(work)[0] == ([5, 5], 5)


def test_learners_that_start_apart_take_up_one_model():
    found = virtual(3, 'async-ps', Quadratic(apart=True), [[0, 0, 0]])
    bounds = found[0].player.algorithm.shards.bounds
    starts = [Quadratic(apart=True).learner(rank, 3, 'float64').params.data for rank in range(3)]
    expected = np.concatenate([x[lo:hi] for x, lo, hi in zip(starts, bounds, bounds[1:], strict=False)])
    assert all(np.array_equal(one.consensus, expected) for one in found)


# what the rest of hpcasr is told

TRAFFIC = [{}, MOMENTUM, ADAM, MOMENTUM | {'exchange.servers': 1}, periods(2, 1), periods(1, 3), periods(2, 3),
           periods(3, 3), periods(1, 1, max_staleness=1000), periods(2, 4, max_staleness=1000),
           periods(4, 2, max_staleness=1000)]


@pytest.mark.parametrize('size', [1, 2, 3, 6])
@pytest.mark.parametrize('options', TRAFFIC, ids=str)
def test_bytes_and_messages(options, size):
    """Of whole periods; a learner begins with what it has, so the pull before the first step is counted at the end."""
    options = options | {'exchange.meet': 1000, 'exchange.servers': min(options.get('exchange.servers', 0), size)}
    n, steps = 3000, 12

    def work(comm):
        player = Player(comm, 'async-ps', Quadratic(n=n), options=options)
        before = comm.bytes_sent, comm.messages_sent
        for t in range(steps):
            player.step(t)
        if not player.algorithm.bounded:
            player.algorithm.begin(player.params.data)
        return comm.bytes_sent - before[0], comm.messages_sent - before[1]
    sent, messages = (max(learners)/steps for learners in zip(*World(size).run(work), strict=True))
    config, about = Config().with_values({**PLAIN, **options}, 'test'), ALGORITHMS['async-ps'].about
    assert 0 <= sent - about.bytes(8*n, size, config) <= 8*(2*size + 4)
    assert messages == pytest.approx(about.messages(size, config))


@pytest.mark.parametrize(('options', 'match'), [
    ({'exchange.servers': 4}, 'exchange.servers = 4: there are 3 ranks; give 3 at most'),
    ({'exchange.max_staleness': 0}, 'exchange.max_staleness = 0: nobody could compute .* use sync-ps'),
    (periods(2, 3, max_staleness=4), 'let one be a multiple of the other'),
    (periods(1, 4, max_staleness=2), 'pushes 4 times on one pull, .* give 3 or more'),
])
def test_what_cannot_be_is_said_before_anything_is_made(options, match):
    with pytest.raises(BadInput, match=match):
        World(3).run(lambda comm: get_algorithm('async-ps')(comm, Config().with_values(options, 'test')))


@given(n=st.integers(1, 40), L=st.integers(1, 9), data=st.data())
@example(n=2, L=7, data=None)
def test_shards(n, L, data):
    S = data.draw(st.integers(1, L)) if data else L
    found = [Shards(n, rank, L, S) for rank in range(L)]
    sizes = [part.stop - part.start for part in found[0].slices]
    assert sum(sizes) == n and min(sizes) > 0 and max(sizes) - min(sizes) <= 1 and len(sizes) == min(n, S)
    assert [one.size for one in found] == np.diff(found[0].bounds).tolist()
    for rank, one in enumerate(found):
        assert sorted(one.order) == list(range(len(sizes)))
        assert rank not in one.ranks or (one.ranks[one.order[0]] == rank and one.own == one.slices[one.order[0]])
        assert one.largest == max(sizes)
    assert found[0].describe().startswith(f'servers   {len(sizes)} of {L} ranks: ')


@pytest.mark.parametrize(('options', 'kept'), [({}, 1), ({'momentum': 0.0}, 0), ({'optimizer': 'adam'}, 2)])
def test_an_optimizer_whose_state_is_kept_elsewhere(options, kept, make_optimizer):  # noqa: F811
    """What `vectors` and `at` put in is all that a step depends on."""
    g = np.random.default_rng(0).standard_normal((4, 30))
    one, x, y = make_optimizer(30, **options), np.ones(30), np.ones(30)
    assert len(one.vectors()) == kept
    stored = [np.zeros(30) for _ in range(kept)]
    for t in range(4):
        one(x, g[t], 0.1)
        other = make_optimizer(30, **options)
        other.load({k: np.full_like(v, 7.0) for k, v in other.state().items()})
        for vector, value in zip(other.vectors(), stored, strict=True):
            vector[:] = value
        other.at(t)
        other(y, g[t], 0.1)
        stored = [vector.copy() for vector in other.vectors()]
        assert np.array_equal(x, y)
