import numpy as np
import pytest

from hpcasr.optim.clip import BLOCK, clip


@pytest.mark.parametrize('n', [0, 1, BLOCK, 2*BLOCK + 3])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_norm_and_scaled_gradient(n, dtype):
    g = np.random.default_rng(0).standard_normal(n).astype(dtype)
    before, norm = g.copy(), np.linalg.norm(g.astype('float64'))
    assert clip(g, 0) == pytest.approx(norm, rel=1e-12) and np.array_equal(g, before)
    assert clip(g, 2*norm) == pytest.approx(norm, rel=1e-12) and np.array_equal(g, before)
    assert clip(g, norm/4) == pytest.approx(norm, rel=1e-12)
    np.testing.assert_allclose(g, before/4, rtol=1e-6)
    assert g.dtype == dtype


def test_squares_do_not_overflow_and_small_entries_count():
    assert clip(np.full(4, 1e30, 'float32'), 0) == pytest.approx(2e30)
    g = np.full(10**6, 1e-4, 'float32')
    g[0] = 1
    assert clip(g, 0) == pytest.approx(np.sqrt(1 + (10**6 - 1)*1e-8), rel=1e-7)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_what_is_not_finite_is_left_as_it_is(bad):
    g = np.array([1, bad, 2], 'float32')
    assert not np.isfinite(clip(g, 0.1))
    assert np.array_equal(g, np.array([1, bad, 2], 'float32'), equal_nan=True)
