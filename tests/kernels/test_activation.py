import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cpu import activation as compiled
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
def test_extremes_neither_warn_nor_change_the_type(name, dtype, ops):
    x = np.array([-np.finfo(dtype).max, -100, 0, 100, np.finfo(dtype).max], dtype)
    y, backward = ops.activation(name, x)
    dx = backward(np.ones_like(x))
    assert y.dtype == dx.dtype == dtype and np.isfinite(y).all() and np.isfinite(dx).all()
    ends = {'sigmoid': (0, 1), 'tanh': (-1, 1), 'relu': (0, np.finfo(dtype).max)}
    np.testing.assert_allclose(y[[0, -1]], ends[name], atol=1e-37)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('name', activation.FUNCTIONS)
def test_nan_stays_nan(name, dtype, ops):
    """In every lane, and beside the last whole vector."""
    for n in 1, 16, 37:
        for k in range(n):
            x = np.zeros(n, dtype)
            x[k] = np.nan
            y, _ = ops.activation(name, x)
            assert np.flatnonzero(np.isnan(y)).tolist() == [k]
    np.testing.assert_allclose(ops.activation(name, np.array([np.inf, -np.inf], dtype))[0],
                               {'sigmoid': [1, 0], 'tanh': [1, -1], 'relu': [np.inf, 0]}[name], atol=1e-37)


@settings(deadline=None, max_examples=80)
@given(name=st.sampled_from(list(activation.FUNCTIONS)), n=st.integers(0, 70),
       scale=st.sampled_from([1e-3, 1.0, 20.0, 1e3]))
def test_compiled_against_float64(name, n, scale):
    rng, number = np.random.default_rng(n), compiled.FUNCTIONS[name]
    x, dy = (scale*rng.standard_normal(n)).astype('f'), rng.standard_normal(n).astype('f')
    y, dx = np.full((2, n + 2), 7, 'f')
    compiled.forward(number, x, y[1:-1])
    exact = activation.forward(name, x.astype(float))
    np.testing.assert_allclose(y[1:-1], exact, rtol=3e-7, atol=2e-7)
    compiled.backward(number, dy, y[1:-1], dx[1:-1])
    np.testing.assert_allclose(dx[1:-1], activation.backward(name, dy.astype(float), exact), rtol=5e-7, atol=2e-6)
    assert (y[[0, -1]] == 7).all() and (dx[[0, -1]] == 7).all()


def test_no_value_of_a_compiled_function_is_out_of_range():
    """Whatever the rounding: 1 − y² and y (1 − y) are not negative."""
    x = np.concatenate([np.linspace(-100, 100, 200001), np.geomspace(1e-30, 1, 1000)]).astype('f')
    for name, least in ('sigmoid', 0), ('tanh', -1):
        y = np.empty_like(x)
        compiled.forward(compiled.FUNCTIONS[name], x, y)
        assert y.min() >= least and y.max() <= 1


def test_input_is_not_changed(ops):
    for name in activation.FUNCTIONS:
        x = X.astype('f')
        y, backward = ops.activation(name, x)
        same = y.copy()
        backward(np.ones_like(y))
        assert np.array_equal(x, X.astype('f')) and np.array_equal(y, same)
