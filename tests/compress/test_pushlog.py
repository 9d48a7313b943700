"""Coded pushes to servers: what the tickets say is done to shards, by whoever reads them, and what is left over."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.checkpoint import Checkpoints, part, prefixed
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.compress import get_codec
from hpcasr.compress.parcel import padded
from hpcasr.config import Config
from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS
from hpcasr.resume import Former, moved
from tests.algorithms.free import Tape, free, replay, taped, uneven
from tests.algorithms.problems import Player, Quadratic
from tests.algorithms.test_async_ps import ADAM, CASES, MOMENTUM, Serial
from tests.test_checkpoint import FACTS

METHODS = 'fp16', 'bf16', 'onebit', 'topk', 'qsgd'
WIDE = Quadratic(n=2607, stride=301)
methods = pytest.mark.parametrize('method', METHODS)
LATER = {'later': {'compress.after': 3, 'exchange.servers': 1} | MOMENTUM}
CELLS = [('onebit', case) for case in CASES | LATER] + [(m, 'push 1, pull 2, bounded') for m in METHODS[:2]] + [
    (m, case) for m in METHODS[3:] for case in ('compensated', 'push 2, pull 3')]
cells = pytest.mark.parametrize(('method', 'options'), [(m, (CASES | LATER)[case]) for m, case in CELLS],
                                ids=[' '.join(cell) for cell in CELLS])


def choices(method, **more):
    return {'compress.method': method, 'compress.ratio': 0.3, 'compress.least': 100} | more


class Coded(Serial):
    """Serial, of which servers hear what the codes of gradients say; r [L, n] is what these have not said."""

    def __init__(self, problem, L, options):
        super().__init__(problem, L, 'float32', options)
        c = Config().with_values(options, 'test').compress
        self.codec, self.coded = get_codec(c, get_backend('reference')), slice(0, problem.n - 7)  # then a bias
        self.r, self.after = np.zeros((L, problem.n), np.float32), c.after

    def push(self, rank, *how):
        for s in super().push(rank, *how):
            yield s
            self.rank = rank  # whose update comes now

    def update(self, s, part, g, point, rate, tau):
        w = self.w[part].copy()
        if self.exchange.delay_compensation:
            g = (w - point)*g*g*self.exchange.delay_compensation + g
        super().update(s, part, self.said(part, g), w, rate, tau)

    def said(self, part, g):
        said, n = g.copy(), max(0, min(part.stop, self.coded.stop) - part.start)
        if n and self.t[self.rank] > self.after:
            message = np.zeros(self.codec.size(n), np.uint8)
            self.codec.encode(g[:n].copy(), self.r[self.rank, part][:n], message,
                              (self.rank, self.t[self.rank] - 1, part.start))
            self.codec.decode(message, said[:n])
        return said


@cells
@given(size=st.integers(1, 5), seed=st.integers(0, 10**6))
@settings(max_examples=3, deadline=None)
def test_serially_in_the_order_of_the_tickets(method, options, size, seed):
    """Bit for bit, whoever does the updates; with gradients that are not finite, and meetings in between."""
    problem, plan = Quadratic(n=2607, stride=301, bad={(0, 3), (1, 0), (1, 1)}, seed=seed % 3), uneven(size, 3, 7)
    options = choices(method) | options
    frees, stretches = taped(size, 'async-ps', problem, plan, dtype='float32', options=options, seed=seed)
    serial = Coded(problem, size, options)
    for stretch, steps in zip(stretches, plan, strict=True):
        serial.stretch([tickets for _, tickets in stretch], steps)
    for rank, (one, models) in enumerate(zip(frees, serial.models, strict=True)):
        assert np.array_equal(one.models, models)
        assert np.array_equal(one.player.algorithm.apart()['residual'], serial.r[rank])
        assert one.player.algorithm.known.tolist() == serial.version
    found = sum((one.player.algorithm.staleness.counts for one in frees), Counter())
    assert found == Counter({tau: n for tau, n in serial.taus.items() if tau is not None})


@pytest.mark.parametrize(('method', 'options'), [
    ('onebit', MOMENTUM), ('onebit', CASES['bounded']), ('qsgd', ADAM), ('topk', CASES['push 2, pull 3'])])
@pytest.mark.parametrize('size', [1, 4])
def test_a_record_is_replayed_also_from_a_meeting_on(method, options, size):
    plan, how = uneven(size, 3, 6), {'dtype': 'float32', 'options': choices(method) | options}
    frees, stretches = taped(size, 'async-ps', WIDE, plan, **how)

    def again(comm, resume=()):
        tail = {k: replay(comm.rank, stretches[k:]) for k in resume}
        return free(comm, 'async-ps', WIDE, plan, replay(comm.rank, stretches), tail, **how)
    for resume in (), (1, 2):
        world = World(size, schedule='random', seed=7, strict=True)
        found = world.run(lambda comm, resume=resume: again(comm, resume))
        assert [one.bits() for one in found] == [one.bits() for one in frees]


@pytest.mark.mpi
@cells
def test_virtual_learners_repeat_what_ranks_did(method, options):
    comm = MPIComm()
    plan, how = uneven(comm.size, 2, 6), {'dtype': 'float32', 'options': choices(method) | options}
    real = free(comm, 'async-ps', WIDE, plan, Tape(), **how)
    stretches = real.journal.stretches
    found = World(comm.size).run(lambda v: free(v, 'async-ps', WIDE, plan, replay(v.rank, stretches), **how))
    assert real.bits() == found[comm.rank].bits()
    comm.close()


# what is sent

def bytes_sent(method, momentum, plan=((6, 6, 6),), **more):
    """[(bytes, what is told, log)] of each learner; the first one serves."""
    options = choices(method, **{'exchange.servers': 1, 'optim.momentum': momentum}) | more

    def work(comm):
        found = free(comm, 'async-ps', WIDE, list(plan), dtype='float32', options=options,
                     pause=lambda rank, t: 1.0 + rank/10)
        return comm.bytes_sent, found.player.algorithm.told(), found.player.algorithm.compressed
    return World(len(plan[0])).run(work)


@methods
def test_a_push_is_a_record_and_a_pull_a_model(method):
    """From a server who never steps, twice: a record there; w, the optimizer's state and all records back."""
    (_, _, log), (sent, told, _) = bytes_sent(method, 0.5, [[0, 2]])
    coded = 8 + padded(log.codec.size(WIDE.n - 7)) + padded(4*7)
    assert log.sizes == [coded] and told['compressed_bytes'] == 2*coded
    whole, beside = 4*WIDE.n, bytes_sent(method, 0.5, [[0, 0]])[1][0] + 8*SLOTS  # what is told at meetings
    assert sent - beside == (coded + 2*whole + coded) + (coded + 2*whole + 2*coded)


def test_who_finds_the_log_full_empties_it():
    """Where the server does not come; what is in it never is more than the shard itself."""
    options = {'exchange.servers': 1}
    for method, most in ('onebit', 3), ('fp16', 1):
        frees, stretches = taped(3, 'async-ps', WIDE, [[0, 9, 8]], dtype='float32', options=choices(method) | options)
        serial = Coded(WIDE, 3, choices(method) | options)
        serial.stretch([tickets for _, tickets in stretches[0]], [0, 9, 8])
        log = frees[0].player.algorithm.compressed
        assert log.most == [most] and frees[0].player.algorithm.known.tolist() == [17] == serial.version
        assert all(np.array_equal(one.consensus, serial.w) for one in frees)


def test_coded_pushes_are_fewer_bytes():
    plain = bytes_sent('onebit', 0.5, **{'compress.after': 10**9})
    coded = bytes_sent('onebit', 0.5)
    assert sum(sent for sent, *_ in coded) < 0.6*sum(sent for sent, *_ in plain)


# going on

def player(comm):
    return Player(comm, 'async-ps', WIDE, dtype='float32', options=choices('onebit'), lr=0.02)


def left(player):
    """Σ over all learners of what has not been said."""
    return np.sum(player.comm.allgather(player.algorithm.compressed.first.r.astype(float)), 0)


@pytest.mark.parametrize(('then', 'now'), [(3, 3), (3, 2), (1, 4)])
def test_what_was_not_said_yet_is_kept(tmp_path, then, now):
    def before(comm):
        one = player(comm)
        for t in range(5):
            one.step(t)
        a, p = one.algorithm, one.params
        a.settle(p.data, p.slots)
        shared = prefixed(algorithm=a.state(), params={'params': a.consensus(p.data)})
        facts = FACTS | {'versions': {'ranks': comm.size}}
        Checkpoints(tmp_path, comm).save(1, shared, prefixed(algorithm=a.apart()), facts)
        return left(one), p.data.copy()

    def after(comm):
        one, checkpoints = player(comm), Checkpoints(tmp_path, comm)
        path, manifest, _ = checkpoints.newest()
        elsewhere = moved(manifest, {'ranks': comm.size}, one.algorithm)
        shared, own = checkpoints.load(path, 0 if elsewhere else comm.rank)
        one.params.load(part(shared, 'params'))
        one.algorithm.load(part(shared if elsewhere else shared | own, 'algorithm'))
        if elsewhere:
            one.algorithm.regroup(Former(path, manifest, comm, 'algorithm'))
        return left(one), one.params.data.copy(), elsewhere
    r, x = World(then).run(before)[0]
    for kept, model, elsewhere in World(now).run(after):
        assert np.linalg.norm(kept - r) < 1e-6*np.linalg.norm(r) > 0
        assert np.array_equal(model, x) and elsewhere == (then != now)


def test_momentum_stays_with_the_servers():
    config = Config().with_values(choices('topk', **{'compress.correction': True}), 'test')
    with pytest.raises(BadInput, match='correction = true: momentum of async-ps lives with its servers; leave it out'):
        get_algorithm('async-ps')(Comm(), config)
