import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.reference import softmax_ce as kernel
from hpcasr.kernels.reference.softmax_ce import ROWS, softmax_ce


def by_definition(logits, targets, mask):
    """Σ (ln Σ exp z − z_target) in extended precision, errors, and the gradient, row by row."""
    loss, errors, d = np.longdouble(0), 0, np.zeros(logits.shape)
    for t, b in zip(*np.nonzero(mask), strict=True):
        z, k = logits[t, b].astype(np.longdouble), targets[t, b]
        p = np.exp(z - np.logaddexp.reduce(z))
        loss -= np.log(p[k])
        errors += int(max(z) > z[k])
        d[t, b] = p - (np.arange(len(z)) == k)
    return float(loss), errors, d


def case(T, B, K, scale=3.0, dtype='float64'):
    rng = np.random.default_rng([T, B, K])
    logits = (scale*rng.standard_normal((T, B, K))).astype(dtype)
    return logits, rng.integers(0, K, (T, B), np.int32), rng.random((T, B)) < 0.7


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-12), ('float32', 2e-6)])
@pytest.mark.parametrize('shape', [(1, 1, 1), (3, 5, 7), (21, 13, 72), (2, ROWS, 3), (2, 2, 4097), (2, 2, 32000)],
                         ids=str)
def test_against_log_sum_exp(shape, dtype, tolerance, ops):
    logits, targets, mask = case(*shape, dtype=dtype)
    loss, errors, d = by_definition(logits, targets, mask)
    result = ops.softmax_ce(logits, targets, mask)
    assert type(result[0]) is float and result[0] == pytest.approx(loss, rel=tolerance, abs=tolerance)
    assert result[1] == errors
    np.testing.assert_allclose(result[2], d, atol=tolerance)
    assert not result[2][~mask].any()


DTYPES = pytest.mark.parametrize('dtype', ['float32', 'float64'])


@settings(deadline=None, max_examples=60)
@given(T=st.integers(0, 5), B=st.integers(0, 5), K=st.integers(1, 80), few=st.booleans(),
       scale=st.sampled_from([0.1, 3.0, 80.0]))
def test_any_shape_also_with_ties(T, B, K, few, scale, ops):
    """Of equal largest logits the first is the choice."""
    logits, targets, mask = case(T, B, K, scale, 'float32')
    logits = np.round(logits) if few else logits
    loss, _, d = by_definition(logits, targets, mask)
    errors = int((logits.argmax(-1) != targets)[mask].sum())
    result = ops.softmax_ce(logits, np.asfortranarray(targets), np.asfortranarray(mask))
    assert result[:2] == (pytest.approx(loss, rel=2e-6, abs=2e-6), errors)
    np.testing.assert_allclose(result[2], d, atol=2e-6)


@DTYPES
def test_no_mask_counts_all_frames(dtype, ops):
    logits, targets, _ = case(4, 3, 5, dtype=dtype)
    loss, errors, d = by_definition(logits, targets, np.ones((4, 3), bool))
    result = ops.softmax_ce(logits, targets, None)
    assert result[:2] == (pytest.approx(loss), errors)
    np.testing.assert_allclose(result[2], d, atol=1e-14 if dtype == 'float64' else 1e-6)


@DTYPES
def test_the_gradient_takes_the_memory_of_the_logits(dtype, ops):
    logits, targets, mask = case(4, 3, 5, dtype=dtype)
    assert np.shares_memory(ops.softmax_ce(logits, targets, mask)[2], logits)
    log_p = case(4, 3, 5, dtype=dtype)[0]
    assert np.shares_memory(ops.log_softmax(log_p), log_p)


@DTYPES
def test_large_logits_neither_overflow_nor_warn(dtype, ops):
    logits = np.array([[[1e30, -1e30, 0], [-1e30, -1e30, -1e30]]], dtype)
    loss, errors, d = ops.softmax_ce(logits.copy(), np.array([[0, 2]], np.int32), None)
    assert loss == pytest.approx(np.log(3)) and errors == 1
    np.testing.assert_allclose(d, [[[0, 0, 0], [1/3, 1/3, -2/3]]], rtol=1e-6, atol=1e-35)
    assert np.isfinite(ops.log_softmax(logits)).all()


def test_loss_is_summed_in_float64(ops):
    """A million frames of float32: a float32 sum would be wrong in the fourth digit."""
    N = 1 << 20
    loss, _, _ = ops.softmax_ce(np.zeros((N, 1, 3), 'float32'), np.zeros((N, 1), np.int32), None)
    assert loss == pytest.approx(N*np.log(3), rel=1e-7)


@DTYPES
@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('K', [1, 5, 16, 37])
def test_what_is_not_finite_shows_in_the_loss(bad, K, dtype, ops):
    """Wherever it is in a row, the target included; but not where it is masked."""
    for k in range(K):
        logits, targets, mask = case(4, 3, K, dtype=dtype)
        logits[2, 1, k], mask[2, 1] = bad, False
        same = logits.copy()
        with np.errstate(invalid='ignore'):
            assert np.isnan(ops.softmax_ce(logits.copy(), targets, None)[0])
            loss, _, d = ops.softmax_ce(logits, targets, mask)
            assert np.isfinite(loss) and not d[~mask].any()
            assert not np.isfinite(ops.log_softmax(same)[2, 1]).all()


@DTYPES
@pytest.mark.parametrize('shape', [(0, 3, 5), (4, 0, 5)], ids=str)
def test_nothing(shape, dtype, ops):
    logits = np.zeros(shape, dtype)
    loss, errors, d = ops.softmax_ce(logits, np.zeros(shape[:2], np.int32), np.ones(shape[:2], bool))
    assert (loss, errors, d.shape) == (0, 0, shape)


def test_the_block_size_does_not_matter(monkeypatch):
    results = []
    for rows in 1, 5, 1000:
        monkeypatch.setattr(kernel, 'ROWS', rows)
        results.append(softmax_ce(*case(7, 4, 9)))
    assert all(r[:2] == (pytest.approx(results[0][0], rel=1e-14), results[0][1]) for r in results)
    assert all(np.array_equal(r[2], results[0][2]) for r in results)


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-12), ('float32', 1e-6)])
@pytest.mark.parametrize('K', [1, 11, 72, 32000])
def test_log_softmax(K, dtype, tolerance, ops):
    logits, _, _ = case(20, 3, K, dtype=dtype)
    z = logits.astype(float)
    expected = z - np.log(np.exp(z).sum(-1, keepdims=True))
    np.testing.assert_allclose(ops.log_softmax(logits), expected, rtol=tolerance, atol=tolerance)


@DTYPES
@pytest.mark.parametrize('wrong', [7, 1 << 30])
def test_a_target_that_is_no_class(wrong, dtype, ops):
    """Compiled code would write beside the row."""
    logits, targets, _ = case(4, 3, 7, dtype=dtype)
    targets[2, 1] = wrong
    with pytest.raises(IndexError):
        ops.softmax_ce(logits, targets, None)
