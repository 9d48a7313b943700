import numpy as np
import pytest

from hpcasr.kernels.reference import affine


@pytest.mark.parametrize('shape', [(3, 2), (1, 1), (0, 4), (5, 0)], ids=str)
def test_against_einsum(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((*shape, 3)), rng.standard_normal((*shape, 5))
    W, b, dW, db = rng.standard_normal((3, 5)), rng.standard_normal(5), np.full((3, 5), np.nan), np.full(5, np.nan)
    np.testing.assert_allclose(affine.forward(x, W, b), np.einsum('tbd,dn->tbn', x, W) + b, rtol=1e-13)
    dx = affine.backward(dy, x, W, dW, db, True)
    np.testing.assert_allclose(dx, np.einsum('tbn,dn->tbd', dy, W), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(dW, np.einsum('tbd,tbn->dn', x, dy), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(db, np.einsum('tbn->n', dy), rtol=1e-12, atol=1e-14)
    assert affine.backward(dy, x, W, dW, db, False) is None
