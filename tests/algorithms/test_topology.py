"""Invariants 4 and 5: every T is symmetric and doubly stochastic, and its gap tells how fast models approach."""

import math

import numpy as np
import pytest

from hpcasr.algorithms import topology
from hpcasr.algorithms.topology import TOPOLOGIES, Topology, get_topology, push_targets
from hpcasr.errors import BadInput

SIZES = [*range(1, 18), 64]
FIXED = sorted(name for name, cls in TOPOLOGIES.items() if cls.fixed)
DRAWN = sorted(set(TOPOLOGIES) - set(FIXED))
every = pytest.mark.parametrize('name', TOPOLOGIES)


def second(T):
    """The second largest |eigenvalue| of T, the oracle of `contraction`."""
    return sorted(np.abs(np.linalg.eigvalsh(T)))[-2] if len(T) > 1 else 0


def spread(W):
    """‖W − W·J‖, models in columns."""
    return np.linalg.norm(W - W.mean(1, keepdims=True))


def rows_of_columns(size):
    """[(rows, columns)] of all grids of that size."""
    return [(r, size//r) for r in range(1, size + 1) if size % r == 0]


@every
@pytest.mark.parametrize('size', SIZES)
def test_doubly_stochastic_and_symmetric(name, size):
    for t in range(4):
        T = get_topology(name, size, seed=3).matrix(t)
        assert T.min() >= 0 and (np.diag(T) > 0).all() and np.array_equal(T, T.T)
        np.testing.assert_allclose([T.sum(0), T.sum(1)], np.ones((2, size)), rtol=1e-14)


@every
@pytest.mark.parametrize('size', SIZES)
def test_one_learners_view_is_its_column_and_those_it_sends_to_its_row(name, size):
    there, here = get_topology(name, size, seed=1), get_topology(name, size, seed=1)
    for t in 5, 0:
        T = there.matrix(t)
        for rank in range(size):
            weights = here.weights(rank, t)
            assert list(weights) == sorted(weights) and all(type(peer) is int for peer in weights)
            assert weights == {j: T[j, rank] for j in np.flatnonzero(T[:, rank])}
            assert here.receivers(rank, t) == [j for j in np.flatnonzero(T[rank]) if j != rank]


@every
@pytest.mark.parametrize('size, T', [(1, [[1]]), (2, np.full((2, 2), 1/2)), (3, np.full((3, 3), 1/3))])
def test_few_learners(name, size, T):
    if name != 'pairs' or size < 3:
        np.testing.assert_allclose(get_topology(name, size).matrix(7), T)
        assert get_topology(name, size).gap() == pytest.approx(1)


def test_a_ring_has_a_left_and_a_right():
    assert get_topology('ring', 8).weights(0, 5) == dict.fromkeys([0, 1, 7], 1/3)
    assert get_topology('ring', 8).receivers(7) == [0, 6]


def test_a_random_ring_is_a_ring_in_another_order():
    for t in range(20):
        T = get_topology('random-ring', 9).matrix(t)
        order = [0]
        while len(order) < 9:
            order.append(next(j for j in np.flatnonzero(T[:, order[-1]]) if j not in order))
        assert np.array_equal(T[np.ix_(order, order)], get_topology('ring', 9).matrix())


@pytest.mark.parametrize('size', SIZES)
def test_pairs_leave_at_most_one_alone(size):
    for t in range(20):
        met = [len(get_topology('pairs', size).receivers(rank, t)) for rank in range(size)]
        assert set(met) <= {0, 1} and met.count(0) == size % 2


def test_every_pair_is_as_likely():
    pairs, n = get_topology('pairs', 6, seed=2), 3000
    met = sum((pairs.matrix(t) > 0).astype(int) for t in range(n))
    off = met[~np.eye(6, dtype=bool)]/n
    assert np.abs(off - 1/5).max() < 5*math.sqrt(0.2*0.8/n)


@pytest.mark.parametrize('size', SIZES)
def test_exponential_neighbours_are_powers_of_two_away_either_way(size):
    for rank in range(size):
        far = {min((j - rank) % size, (rank - j) % size) for j in get_topology('exponential', size).receivers(rank)}
        assert far == {1 << i for i in range(20) if 1 << i <= size//2}


@pytest.mark.parametrize('size', SIZES)
def test_a_torus_is_as_square_as_it_can_be(size):
    torus = get_topology('torus', size)
    rows, columns = torus.shape
    assert (rows, columns) == min((g for g in rows_of_columns(size) if g[0] <= g[1]), key=lambda g: g[1] - g[0])
    for rank in range(size):
        row, column = divmod(rank, columns)
        near = {((row + a) % rows, (column + b) % columns) for a, b in [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]}
        assert set(torus.weights(rank)) == {r*columns + c for r, c in near}


@pytest.mark.parametrize('size', [2, 3, 5, 7, 13, 17])
def test_a_torus_of_a_prime_number_is_a_ring(size):
    assert np.array_equal(get_topology('torus', size).matrix(), get_topology('ring', size).matrix())
    assert 'a ring' in get_topology('torus', size).describe()


@pytest.mark.parametrize('name', FIXED)
@pytest.mark.parametrize('size', [*SIZES, 128])
def test_the_gap_of_a_fixed_one_is_that_of_its_matrix(name, size):
    assert get_topology(name, size).gap() == pytest.approx(1 - second(get_topology(name, size).matrix()), abs=1e-12)


@pytest.mark.parametrize('size, gap', [(8, 0.195), (64, 0.0032), (128, 0.0008)])
def test_the_published_gaps_of_a_ring(size, gap):
    found = get_topology('ring', size).gap()
    assert found == pytest.approx((2 - 2*math.cos(2*math.pi/size))/3)
    assert round(found, 3 if gap > 0.1 else 4) == gap


@pytest.mark.parametrize('size, shrinks', [(8, 0.49), (64, 0.57), (128, 0.57)])
def test_the_published_contraction_of_a_random_ring(size, shrinks):
    assert round(get_topology('random-ring', size).contraction(), 2) == shrinks


@pytest.mark.parametrize('name', DRAWN)
@pytest.mark.parametrize('size', [4, 5, 8])
def test_the_gap_of_a_drawn_one_is_that_of_the_expectation(name, size):
    drawn, n = get_topology(name, size, seed=4), 2000
    mean = sum(np.linalg.matrix_power(drawn.matrix(t), 2) for t in range(n))/n
    assert drawn.contraction()**2 == pytest.approx(second(mean), rel=0.1)  # the largest of noisy ones is above all
    others = (np.trace(mean) - 1)/(size - 1)
    assert drawn.contraction()**2 == pytest.approx(others, rel=1e-12)


@every
@pytest.mark.parametrize('size', [1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 32])
def test_averaging_keeps_the_mean_and_shrinks_the_spread_as_the_gap_predicts(name, size):
    mixing, W = get_topology(name, size, seed=5), np.random.default_rng(size).normal(size=(50, size))
    mean, began = W.mean(1), spread(W)
    for t in range(mixing.steps(1e-3)):
        mixed = W @ mixing.matrix(t)
        assert spread(mixed) <= spread(W)*(1 + 1e-12)
        W = mixed
    assert spread(W) <= (1e-3 if mixing.fixed else 2e-3)*began + 1e-12  # of what is drawn, only the mean is known
    np.testing.assert_allclose(W.mean(1), mean, rtol=0, atol=1e-13)


@pytest.mark.parametrize('name', sorted(set(FIXED) - {'complete'}))
def test_the_gap_is_no_underestimate(name):
    mixing = get_topology(name, 16)
    slowest = np.linalg.eigh(mixing.matrix())
    W = slowest.eigenvectors[:, [np.argsort(np.abs(slowest.eigenvalues))[-2]]].T
    for _ in range(mixing.steps(1e-3) - 1):
        W = W @ mixing.matrix()
    assert spread(W) > 1e-3


def test_steps():
    assert get_topology('complete', 8).steps(1e-3) == get_topology('ring', 3).steps(1e-9) == 1
    ring = get_topology('ring', 8)
    assert ring.contraction()**ring.steps(1e-3) <= 1e-3 < ring.contraction()**(ring.steps(1e-3) - 1)


@every
def test_learners_agree_without_talking_and_in_any_order(name):
    a, b = (get_topology(name, 11, seed=6) for _ in range(2))
    forward = {t: a.matrix(t) for t in range(6)}
    assert all(np.array_equal(forward[t], b.matrix(t)) for t in reversed(range(6)))


@pytest.mark.parametrize('name', DRAWN)
def test_what_is_drawn_depends_on_seed_and_step(name):
    T = get_topology(name, 16, seed=1).matrix(0)
    assert not np.array_equal(T, get_topology(name, 16, seed=2).matrix(0))
    assert not np.array_equal(T, get_topology(name, 16, seed=1).matrix(1))
    assert np.array_equal(T, get_topology(name, 16, seed=1).matrix(0))


@pytest.mark.parametrize('name', FIXED)
def test_what_is_fixed_is_fixed(name):
    T = get_topology(name, 12, seed=1).matrix(0)
    assert np.array_equal(T, get_topology(name, 12, seed=2).matrix(99))


@pytest.mark.parametrize('name, size, line', [
    ('ring', 8, 'ring of 8, fixed: 2 neighbours, doubly stochastic, connected, spectral gap 0.195'),
    ('ring', 1, 'ring of 1, fixed: 0 neighbours, doubly stochastic, connected, spectral gap 1'),
    ('torus', 12, 'torus of 12 (3 x 4), fixed: 4 neighbours, doubly stochastic, connected, spectral gap 0.4'),
    ('random-ring', 64, 'random-ring of 64, drawn every step: 2 neighbours, doubly stochastic, '
                        'connected within 1 step, spectral gap 0.432 in expectation'),
    ('ring', 4096, 'ring of 4096, fixed: 2 neighbours, not checked (more than 2048 learners), spectral gap 7.84e-07'),
])
def test_the_line_for_the_log(name, size, line):
    assert get_topology(name, size).describe() == line


@pytest.mark.parametrize('size', SIZES)
@every
def test_every_one_is_connected(name, size):
    line = get_topology(name, size).describe()
    assert ', doubly stochastic, connected' in line
    assert ('one stays alone' in line) == (name == 'pairs' and size % 2 == 1 < size)


class Torn(topology.Grid):
    """Two rings that never meet, and one learner who listens to nobody though others listen to it."""

    name = 'torn'

    def distances(self):
        return 2, -2

    def weights(self, rank, t=0):
        return super().weights(rank, t) if rank else {0: 1.0}


def test_the_line_tells_what_is_wrong():
    assert 'not doubly stochastic, not connected' in Torn(8).describe()


@every
def test_one_learner_of_thousands_is_no_matter_of_all(name, monkeypatch):
    monkeypatch.setattr(Topology, 'matrix', None)
    mixing = get_topology(name, 5003)
    assert 4711 in mixing.weights(4711, 3) and 'not checked' in mixing.describe()


@pytest.mark.parametrize('name, near', [('rings', 'ring'), ('random_ring', 'random-ring'), ('Torus', 'torus'),
                                        ('', ''), ('pair', 'pairs')])
def test_an_unknown_name(name, near):
    with pytest.raises(BadInput, match=f'no such topology; did you mean {near}?'):
        get_topology(name, 4)


@pytest.mark.parametrize('size', SIZES)
def test_pushing_reaches_everybody_once_around(size):
    around = math.ceil(math.log2(size))
    heard = np.eye(size, dtype=bool)
    for t in range(3, 3 + around):
        pushed = heard.copy()
        for rank in range(size):
            target, = push_targets(rank, t, size)
            assert target == (rank + 2**(t % around)) % size != rank
            pushed[target] |= heard[rank]
        heard = pushed
    assert heard.all()


def test_alone_there_is_nobody_to_push_to():
    assert push_targets(0, 3, 1) == []
