"""PowerSGD: factors of sums, what they leave over, and from what the next ones begin."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.backend import get_backend
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.compress.factored import orthonormal, total
from hpcasr.compress.sum import CompressedSum
from hpcasr.config import Config
from hpcasr.model.params import NONFINITE, Params
from tests.algorithms.problems import Player, Quadratic, live
from tests.compress import test_regroup
from tests.compress.test_sum import bits

SHAPES = {'a': (31, 23), 'b': (23,), 'c': (9, 80), 'd': (3, 3), 'e': (41, 5, 4)}  # one too small; one of three axes
MATRICES = {'a': (31, 23), 'c': (9, 80), 'e': (41, 20)}
OPTIONS = {'compress.method': 'powersgd', 'compress.rank': 3, 'compress.least': 1, 'optim.momentum': 0.5}
TAKERS = 'sync-allreduce', 'local-sgd', 'bmuf'
sizes, takers = pytest.mark.parametrize('size', [1, 2, 3, 4, 5]), pytest.mark.parametrize('name', TAKERS)


@dataclass
class Matrices(Quadratic):
    n: int = Params(SHAPES).size
    empty: float = 0.3
    stride: int = 301

    @property
    def shapes(self):
        return SHAPES


PULL = Matrices()


class Learner:
    """A CompressedSum of one learner, with views of its tensors."""

    def __init__(self, comm, **options):
        options = {**OPTIONS, **{f'compress.{k}': v for k, v in options.items()}}
        self.comm, self.params, self.steps = comm, Params(SHAPES, 'float32'), 0
        self.sum = CompressedSum(comm, Config().with_values(options, 'test').compress, self.params,
                                 get_backend('reference'), comm.start_sum)

    def named(self, x):
        views = self.params.named(x)
        return {name: views[name].reshape(shape) for name, shape in MATRICES.items()}

    def drawn(self, scale=1.0):
        """[n + 1] of the next step: matrices with singular values that fall off."""
        rng = np.random.default_rng([self.comm.rank, self.steps])
        x = rng.normal(size=self.params.size + 1).astype(np.float32)
        for m in self.named(x).values():
            U, s, V = np.linalg.svd(m, full_matrices=False)
            m[:] = (U*s*0.7**np.arange(len(s)))@V*scale
        return x

    def add(self, x):
        """Its sum over all learners, in two buckets."""
        x = x.copy()
        ends = [self.sum.start(x, lo, hi) for lo, hi in ((0, 1000), (1000, x.size))]
        for end in ends:
            end()
        self.steps += 1
        return x

    @property
    def r(self):
        return self.sum.carrier.first.r


def play(size, name, steps, seed=0, problem=PULL, resume=(), **options):
    options = {**OPTIONS, 'train.bucket': 500, **{k.replace('__', '.'): v for k, v in options.items()}}
    return World(size, schedule='random', seed=seed, strict=True).run(
        lambda comm: live(comm, name, problem, steps, dtype='float32', options=options, lr=0.02, resume=resume))


# what is summed

@sizes
def test_the_factors_are_those_of_the_paper(size):
    """Algorithms 1 and 2 in float64, with orthonormal bases of LAPACK: they differ in signs, which cancel."""
    def work(comm):
        learner, found = Learner(comm), []
        Q = [q.astype(np.float64) for q in learner.sum.carrier.factors.values()]
        for _ in range(4):
            x = learner.drawn()
            found.append((x, learner.add(x)))
        return learner, Q, found
    learners = World(size, schedule='random', strict=True).run(work)
    left = [{name: 0.0 for name in MATRICES} for _ in learners]
    for k, name in enumerate(MATRICES):
        Q = learners[0][1][k]
        for step in range(4):
            V = [learner.named(found[step][0])[name] + r[name]
                 for (learner, _, found), r in zip(learners, left, strict=True)]
            P = np.linalg.qr(sum(V)@Q)[0]
            N = [v.T@P for v in V]
            Q = sum(N)
            for (learner, _, found), r, v, n in zip(learners, left, V, N, strict=True):
                r[name] = v - P@n.T
                np.testing.assert_allclose(learner.named(found[step][1])[name], P@Q.T, atol=1e-4)
        for (learner, *_), r in zip(learners, left, strict=True):
            np.testing.assert_allclose(learner.named(learner.r)[name], r[name], atol=1e-4)


@pytest.mark.parametrize('size', [1, 3])
def test_what_was_said_and_what_is_left_is_what_there_was(size):
    def work(comm):
        learner, given, got = Learner(comm), 0.0, 0.0
        for step in range(25):
            x = learner.drawn(10.0**(step % 7 - 3))
            given, got = given + x.astype(np.float64), got + learner.add(x).astype(np.float64)
        left = np.append(np.sum(comm.allgather(learner.r.astype(np.float64)), 0), 0)
        return np.sum(comm.allgather(given), 0), got, left, learner.add(x).tobytes()
    found = World(size, strict=True).run(work)
    assert len({bits for *_, bits in found}) == 1
    for wanted, got, left, _ in found:
        assert np.linalg.norm(left) > 1 and np.linalg.norm(got + left - wanted) < 1e-5*np.linalg.norm(wanted)


def test_a_sum_of_low_rank_is_said_whole_and_a_zero_is_no_end():
    """Also after steps in which all, or all but one of the columns, had nothing to say."""
    def work(comm):
        learner, rng, errors = Learner(comm), np.random.default_rng(1), []
        for rank in 0, 1, 0, 3:
            x = np.zeros(learner.params.size + 1, np.float32)
            for name, (rows, columns) in MATRICES.items():
                learner.named(x)[name][:] = rng.normal(size=(rows, rank))@rng.normal(size=(rank, columns))
            found = learner.add((comm.rank + 1)*x)
            errors += [abs(found - 6*x).max(), abs(learner.r).max()]
        return errors
    for errors in World(3, strict=True).run(work):
        assert max(errors) < 1e-3


def test_the_factors_of_the_same_sum_become_the_best_ones():
    def work(comm):
        learner = Learner(comm, feedback=False)
        x = learner.drawn()
        for _ in range(40):
            found = learner.add(x)
        return learner.named(x)['a'], learner.named(found)['a']
    learners = World(2).run(work)
    whole = sum(x.astype(np.float64) for x, _ in learners)
    U, s, V = np.linalg.svd(whole)
    best = np.linalg.norm(whole - (U[:, :3]*s[:3])@V[:3])
    assert all(np.linalg.norm(whole - found) < 1.001*best for _, found in learners)


@pytest.mark.parametrize('size', [2, 5])
def test_bytes_are_those_of_two_factors(size):
    def work(comm):
        learner = Learner(comm)
        before = comm.bytes_sent
        learner.add(learner.drawn())
        sent = comm.bytes_sent - before
        assert learner.sum.told()['compressed_bytes'] == sum(comm.allgather(sent))
        return sent
    factors = sum(3*(rows + columns) for rows, columns in MATRICES.values())
    exact = 23 + 9 + 2  # the bias, the small matrix, what is behind the model, and whether all is sound
    assert all(abs(sent - 8*(factors + exact)*(size - 1)/size) < 4 for sent in World(size).run(work))


# who computes it

@takers
def test_neither_buckets_nor_the_order_of_learners_change_a_bit(name):
    one, other = (play(3, name, 7, seed, train__bucket=bucket) for seed, bucket in ((0, 1), (1, 10**9)))
    assert bits(one) == bits(other) != bits(play(3, name, 7, compress__method='none'))


@pytest.mark.mpi
@takers
def test_ranks_are_virtual_learners_bit_for_bit(name):
    comm, how = MPIComm(), {'dtype': 'float32', 'options': OPTIONS, 'lr': 0.02}
    here = lambda comm: live(comm, name, PULL, 7, **how)
    assert here(comm).bits() == World(comm.size).run(here)[comm.rank].bits()


# going on

@takers
@given(size=st.integers(1, 5), resume=st.sets(st.integers(0, 8), min_size=1, max_size=3))
@settings(max_examples=4, deadline=None)
def test_nothing_is_forgotten(name, size, resume):
    options = {'compress__after': 2}
    assert bits(play(size, name, 9, resume=resume, **options)) == bits(play(size, name, 9, **options))


@pytest.mark.parametrize(('name', 'was', 'now', 'sizes'), [
    ('sync-allreduce', 'powersgd', 'powersgd', (3, 2)), ('bmuf', 'powersgd', 'powersgd', (2, 5)),
    ('sync-allreduce', 'onebit', 'powersgd', (3, 3)), ('sync-allreduce', 'powersgd', 'topk', (3, 4))])
def test_what_was_not_said_yet_is_kept(monkeypatch, tmp_path, name, was, now, sizes):
    monkeypatch.setattr(test_regroup, 'WIDE', PULL)
    monkeypatch.setattr(test_regroup, 'OPTIONS', {k: v for k, v in OPTIONS.items() if k != 'compress.method'})
    before, _ = test_regroup.first(tmp_path, name, was, sizes[0])
    learners = test_regroup.then(tmp_path, name, now, sizes[1])
    assert np.linalg.norm(before) > 0 and len({x for *_, x in learners}) == 1
    for after, *_ in learners:
        assert np.linalg.norm(after - before) < 1e-6*np.linalg.norm(before)


def test_the_factors_are_warm_with_other_learners_unless_they_do_not_fit():
    def warm(comm, state=None, **options):
        learner = Learner(comm, **options)
        if state:
            learner.sum.load(state)
            return learner.sum.carrier.warm
        cold = learner.sum.carrier.warm.copy()
        learner.add(learner.drawn())
        return cold, {key: value.copy() for key, value in learner.sum.state().items()}
    _, state = World(2).run(warm)[0]
    found = World(3).run(lambda comm: (warm(comm, state), warm(comm, state, rank=2), warm(comm, rank=2)[0]))
    for same, other, cold in found:
        assert np.array_equal(same, state['warm']) and np.array_equal(other, cold)


# what cannot be said

def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told():
    def work(comm):
        player = Player(comm, 'sync-allreduce', Matrices(bad={(1, 3)}), dtype='float32', options=OPTIONS)
        for t in range(3):
            player.step(t)
        r = player.algorithm.compressed.carrier.first.r
        before = player.params.data.copy(), r.copy()
        player.step(3)
        same = np.array_equal(before[0], player.params.data), np.array_equal(before[1], r)
        told = player.params.slots[NONFINITE]
        player.step(4)
        return same, told, np.isfinite(player.params.data).all(), player.params.slots[NONFINITE]
    found = World(3, strict=True).run(work)
    assert [same[0] for same, *_ in found] == [True]*3 and found[1][0][1]
    assert all(told > 0 and sound and not next_one for _, told, sound, next_one in found)


def test_what_is_too_large_is_kept_and_told():
    """Entries are finite, but not their products."""
    def work(comm):
        learner = Learner(comm)
        x = learner.drawn()
        learner.named(x)['a'][:] = 3e38 if comm.rank else 1.0
        found = learner.named(learner.add(x))
        left = learner.named(learner.r)['a']
        learner.add(np.zeros_like(x))
        return abs(found['a']).max(), np.array_equal(left, learner.named(x)['a']), learner.sum.bad
    assert World(2).run(work) == [(0.0, True, True)]*2


# arithmetic

@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 9), st.floats(-30, 30))
@settings(max_examples=60, deadline=None)
def test_columns_are_orthonormal_or_zero(rows, columns, seed, exponent):
    rng = np.random.default_rng(seed)
    P = (rng.normal(size=(rows, columns))*10.0**exponent).astype(np.float32)
    if columns > 2:
        P[:, 1] = 2*P[:, 0]  # nothing of its own
    found, P = orthonormal(P).astype(np.float64), P.astype(np.float64)
    own = min(rows, columns - (columns > 2))
    gram = found.T@found
    np.testing.assert_allclose(gram, np.diag(np.round(np.diag(gram))), atol=1e-6)
    assert np.round(np.trace(gram)) == own
    assert np.linalg.norm(P - found@(found.T@P)) <= 1e-5*np.linalg.norm(P)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 5))
@settings(max_examples=20, deadline=None)
def test_products_and_totals(rows, columns, rank):
    """Also that the processor's own kernel rounds every product and sum as NumPy does."""
    rng = np.random.default_rng(rows)
    P, Q = (rng.normal(size=shape).astype(np.float32) for shape in ((rows, rank), (rank, columns)))
    one, other = np.empty((2, rows, columns), np.float32)
    get_backend('reference').product(P, Q, one)
    get_backend('auto').product(P, Q, other)
    np.testing.assert_allclose(one, P@Q, atol=1e-5)
    assert np.array_equal(one, other)
    np.testing.assert_allclose(total(np.ascontiguousarray(P.T, float)), P.sum(0, dtype=float), atol=1e-12)
