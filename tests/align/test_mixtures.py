import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from hpcasr.align.mixtures import FLOOR, Mixtures, Sums, estimate, split, targets


def random_model(K=4, D=3, seed=0):
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 4, K)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    weights = np.concatenate([rng.dirichlet(np.ones(n)) for n in sizes])
    return Mixtures(weights, rng.standard_normal((starts[-1], D)), rng.uniform(0.5, 2, (starts[-1], D)), starts)


def by_definition(model, x, k):
    """ln Σ_g w_g N(x; μ_g, σ²_g) of one frame in float64."""
    own = slice(model.starts[k], model.starts[k+1])
    m, v = model.means[own], model.variances[own]
    return np.logaddexp.reduce(np.log(model.weights[own]) - 0.5*(np.log(2*np.pi*v) + (x - m)**2/v).sum(1))


def test_loglikes_are_those_of_the_densities():
    model, x = random_model(), np.random.default_rng(1).standard_normal((9, 3)).astype(np.float32)
    expected = [[by_definition(model, row.astype(float), k) for k in range(4)] for row in x]
    np.testing.assert_allclose(model.loglikes(x), expected, atol=1e-5)
    np.testing.assert_allclose(model.loglikes(x, np.array([3, 1])), np.array(expected)[:, [3, 1]], atol=1e-5)


def one_pass(model, x, pdfs):
    sums = Sums(model)
    sums.add(x, pdfs.astype(np.int32))
    return sums, float(model.loglikes(x)[np.arange(len(x)), pdfs].sum())


def test_a_long_utterance_is_scored_a_stretch_at_a_time():
    model, T = random_model(), 100_000
    x = np.random.default_rng(1).standard_normal((T, 3)).astype(np.float32)
    tracemalloc.start()
    found = model.loglikes(x, np.array([2]))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < found.nbytes + 100_000
    for t in 0, 255, 256, 99_999:
        np.testing.assert_allclose(found[t], model.loglikes(x[t:t+1], np.array([2]))[0], rtol=1e-6)


def test_one_gaussian_is_mean_and_variance():
    rng = np.random.default_rng(0)
    x, pdfs = rng.standard_normal((500, 3)).astype(np.float32), rng.integers(0, 2, 500)
    x[:, 2] = 1e-3*x[:, 2]
    model, occupancy = estimate(Mixtures.one_each(3, 3), one_pass(Mixtures.one_each(3, 3), x, pdfs)[0])
    for k in range(2):
        np.testing.assert_allclose(model.means[k], x[pdfs == k].mean(0), atol=1e-6)
        np.testing.assert_allclose(model.variances[k], np.maximum(x[pdfs == k].var(0), FLOOR), rtol=1e-5)
    assert occupancy.tolist() == [*np.bincount(pdfs), 0]
    assert not model.means[2].any() and (model.variances[2] == 1).all()  # never seen: all frames are its model


def test_every_pass_of_expectation_maximization_raises_the_likelihood():
    rng = np.random.default_rng(3)
    centres = 4*rng.standard_normal((2, 4, 2))
    pdfs = rng.integers(0, 2, 3000)
    x = (centres[pdfs, rng.integers(0, 4, 3000)] + rng.standard_normal((3000, 2))).astype(np.float32)
    model, found = Mixtures.one_each(2, 2), []
    for n in 2, 4, 8:
        for _ in range(8):
            sums, loglike = one_pass(model, x, pdfs)
            model, occupancy = estimate(model, sums)
            found.append((n, loglike))
        model = split(model, occupancy, n) if n > 2 else split(model, occupancy, 4)
    steps = [b - a for (m, a), (n, b) in pairwise(found) if m == n]
    assert min(steps) > -0.05 and found[-1][1] > found[7][1] + 500
    np.testing.assert_allclose(np.add.reduceat(model.weights, model.starts[:-1]), 1)


def test_splitting_keeps_weights_and_centres():
    model = random_model()
    more = split(model, np.full(model.num_gauss, 500.0), 20)
    assert more.num_gauss == 20 and more.num_pdfs == 4
    again = split(model, np.full(model.num_gauss, 500.0), 20)
    assert np.array_equal(more.means, again.means)
    for k in range(4):
        own, old = slice(more.starts[k], more.starts[k+1]), slice(model.starts[k], model.starts[k+1])
        assert more.weights[own].sum() == pytest.approx(1)
        assert set(more.variances[own, 0]) == set(model.variances[old, 0])


def test_components_go_where_the_frames_are():
    goals = targets(np.array([10000.0, 10000.0, 30.0, 0.0]), np.array([1, 1, 1, 1]), 20)
    assert goals.tolist() == [9, 9, 1, 1]
    assert targets(np.array([100.0]), np.array([1]), 1000).tolist() == [5]  # 20 frames each
    assert targets(np.array([100.0]), np.array([7]), 3).tolist() == [7]
    rare, frequent = targets(np.array([1000.0, 16000.0]), np.array([1, 1]), 30)
    assert frequent/rare == pytest.approx(2, abs=0.2)  # 16 to the power of a quarter


def test_components_without_frames_go_but_never_the_last():
    model = Mixtures(np.full(4, 0.5), np.arange(4.0)[:, None], np.ones((4, 1)), [0, 2, 4])
    sums = Sums(model)
    sums.occupancy[:] = 100, 1, 2, 3
    sums.first[:, 0], sums.second[:, 0] = sums.occupancy*7, sums.occupancy*50
    found, _ = estimate(model, sums)
    assert found.starts.tolist() == [0, 1, 2] and found.weights.tolist() == [1, 1]
    assert found.means[:, 0].tolist() == [7, 3] and found.variances[:, 0].tolist() == [1, 1]
