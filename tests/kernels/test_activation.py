import numpy as np
import pytest

from hpcasr.kernels.reference import activation

X = np.linspace(-8, 8, 101).reshape(1, 101, 1)
EXPECTED = {
    'sigmoid': (1/(1 + np.exp(-X)), np.exp(-X)/(1 + np.exp(-X))**2),
    'tanh': ((np.exp(X) - np.exp(-X))/(np.exp(X) + np.exp(-X)), 4/(np.exp(X) + np.exp(-X))**2),
    'relu': (np.where(X > 0, X, 0), np.where(X > 0, 1, 0)),
}


@pytest.mark.parametrize('name', activation.FUNCTIONS)
def test_value_and_derivative(name):
    y, dy = activation.forward(name, X), np.cos(X)
    np.testing.assert_allclose(y, EXPECTED[name][0], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(activation.backward(name, dy, y), EXPECTED[name][1]*dy, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('name', activation.FUNCTIONS)
def test_extremes_neither_warn_nor_change_the_type(name, dtype):
    x = np.array([-np.finfo(dtype).max, -100, 0, 100, np.finfo(dtype).max], dtype)
    y = activation.forward(name, x)
    dx = activation.backward(name, np.ones_like(x), y)
    assert y.dtype == dx.dtype == dtype and np.isfinite(y).all() and np.isfinite(dx).all()


def test_input_is_not_changed():
    for name in activation.FUNCTIONS:
        x = X.copy()
        activation.forward(name, x)
        assert np.array_equal(x, X)
