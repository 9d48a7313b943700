import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cpu.affine import sum_rows
from tests.kernels.arrays import error


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-13), ('float32', 2e-6)])
@pytest.mark.parametrize('shape', [(3, 2), (1, 1), (0, 4), (5, 0), (21, 13)], ids=str)
@pytest.mark.parametrize(('D', 'N'), [(3, 5), (1, 1), (40, 72)])
def test_against_einsum(shape, D, N, dtype, tolerance, ops):
    rng = np.random.default_rng(0)
    x, dy, W, b = (rng.standard_normal(s).astype(dtype) for s in ((*shape, D), (*shape, N), (D, N), (N,)))
    dW, db = np.full((D, N), np.nan, dtype), np.full(N, np.nan, dtype)
    exact = [a.astype(float) for a in (x, W, b, dy)]
    y, backward = ops.affine(x, W, b)
    assert error(y, np.einsum('tbd,dn->tbn', *exact[:2]) + exact[2]) < tolerance
    for _ in range(2):
        dx = backward(dy, dW, db)
        assert error(dx, np.einsum('tbn,dn->tbd', exact[3], exact[1])) < tolerance
        assert error(dW, np.einsum('tbd,tbn->dn', exact[0], exact[3])) < tolerance
        assert error(db, np.einsum('tbn->n', exact[3])) < tolerance
        assert {a.dtype for a in (y, dx, dW, db)} == {np.dtype(dtype)}
    assert backward(dy, dW, db, False) is None


def test_whatever_the_layout_of_input_and_gradient(ops):
    rng = np.random.default_rng(0)
    x, dy, W, b = (rng.standard_normal(s).astype('f') for s in ((9, 4, 6), (9, 4, 7), (6, 7), (7,)))
    expected, gradients = None, [np.empty_like(W), np.empty_like(b)]
    for way in (lambda a: a, lambda a: a[::-1].copy()[::-1], lambda a: a.transpose(2, 1, 0).copy().transpose(2, 1, 0),
                lambda a: np.repeat(a, 2, -1)[..., ::2]):
        y, backward = ops.affine(way(x), W, b)
        found = [y, backward(way(dy), *gradients), *(g.copy() for g in gradients)]
        expected = expected or found
        assert all(error(a, b) < 1e-6 for a, b in zip(found, expected, strict=True))


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(0, 300), columns=st.integers(0, 80))
def test_compiled_sum_of_rows(rows, columns):
    x = np.random.default_rng([rows, columns]).standard_normal((rows, columns)).astype('f')
    out = np.full(columns, np.nan, 'f')
    sum_rows(x, out)
    np.testing.assert_allclose(out, x.sum(0, dtype=float), atol=1e-6*max(rows, 1))
