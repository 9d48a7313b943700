import numpy as np
import pytest

from hpcasr.kernels.cpu import gmm as compiled
from hpcasr.kernels.reference import gmm as reference

KERNELS = pytest.mark.parametrize('kernel', [reference, compiled], ids=['reference', 'cpu'])


def case(T=37, K=5, spread=20.0):
    rng = np.random.default_rng([T, K])
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, 6, K))])
    return (spread*rng.standard_normal((starts[-1], T)) - 60).astype(np.float32), starts


@KERNELS
@pytest.mark.parametrize('spread', [0.0, 1.0, 20.0, 1e4])
def test_mixtures_are_log_sums_in_extended_precision(kernel, spread):
    scores, starts = case(spread=spread)
    out = np.empty((scores.shape[1], len(starts) - 1), np.float32)
    kernel.mixtures(scores, starts, out)
    for k in range(out.shape[1]):
        expected = np.logaddexp.reduce(scores[starts[k]:starts[k+1]].astype(np.longdouble), axis=0)
        np.testing.assert_allclose(out[:, k], expected.astype(float), rtol=5e-7, atol=5e-7)


@KERNELS
def test_sums_are_those_of_posteriors(kernel):
    rng, T, K, D = np.random.default_rng(1), 37, 5, 3
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, 6, K))])
    G = starts[-1]
    x, pdfs = rng.standard_normal((T, D)).astype(np.float32), rng.integers(0, K, T).astype(np.int32)
    rows, constants = rng.standard_normal((G, 2*D)).astype(np.float32), rng.standard_normal(G).astype(np.float32) - 60
    occupancy, first, second = np.ones(G), np.zeros((G, D)), np.zeros((G, D))  # they are added to
    kernel.accumulate(x, pdfs, starts, rows, constants, occupancy, first, second)
    expected = np.zeros((G, 1 + 2*D))
    for y, k in zip(x.astype(float), pdfs, strict=True):
        own = range(starts[k], starts[k+1])
        p = np.exp([constants[g] + rows[g].astype(float) @ [*y, *y**2] for g in own])
        expected[own] += (p/p.sum())[:, None]*[1, *y, *y**2]
    np.testing.assert_allclose(np.column_stack([occupancy - 1, first, second]), expected, rtol=1e-5, atol=1e-5)
    assert occupancy.sum() == pytest.approx(T + G)


def test_compiled_exponential():
    x = np.concatenate([-np.logspace(-8, 2.5, 5000), [0.0, -86.0, -87.5, -1e30]]).astype(np.float32)
    scores = np.stack([np.zeros_like(x), x])
    out = np.empty((len(x), 1), np.float32)
    compiled.mixtures(scores, np.array([0, 2]), out)
    np.testing.assert_allclose(out[:, 0], np.log1p(np.exp(x.astype(float))), atol=3e-7)
