"""Every layer, and whole networks, against central differences in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.model.activation import GAIN, Activation
from hpcasr.model.affine import Affine
from hpcasr.model.blstm import Blstm
from hpcasr.model.dropout import Dropout
from hpcasr.model.layer import Context
from hpcasr.model.lstm import Lstm
from hpcasr.model.params import Params
from hpcasr.model.softmax import Softmax

LAYERS = {
    'affine': lambda D, H: Affine('a', D, H),
    'softmax': lambda D, H: Softmax('s', D, H),
    'lstm': lambda D, H: Lstm('l', D, H),
    'reverse lstm': lambda D, H: Lstm('l', D, H, reverse=True),
    'blstm': lambda D, H: Blstm('b', D, H),
    'dropout': lambda D, H: Dropout('d', D, 0.4),
    **{name: lambda D, H, name=name: Activation('n', D, name) for name in GAIN},
}
NETWORKS = {
    'dnn': dict(kind='dnn', layers=2, activation='sigmoid'),
    'relu': dict(kind='dnn', layers=3, activation='relu'),
    'tanh, bottleneck': dict(kind='dnn', layers=1, activation='tanh', bottleneck=3),
    'lstm': dict(kind='lstm', layers=2),
    'blstm': dict(kind='blstm', layers=2),
    'blstm, bottleneck, dropout': dict(kind='blstm', layers=2, bottleneck=4, dropout=0.3),
}


def tails(draw, T, B):
    """A mask whose chunks have 1 to T frames."""
    lengths = draw(st.lists(st.integers(1, T), min_size=B, max_size=B))
    return np.arange(T)[:, None] < np.array(lengths)


def masks(draw, T, B):
    return tails(draw, T, B) if draw(st.booleans()) else None


@pytest.mark.parametrize('kind', LAYERS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_layer(kind, data, ops, assert_gradient):
    T, B, D, H = (data.draw(st.integers(1, most)) for most in (9, 5, 7, 6))
    mask = masks(data.draw, T, B)
    layer, rng = LAYERS[kind](D, H), np.random.default_rng([T, B, D, H])
    p = Params(layer.shapes, 'float64')
    p.data[:], p.grad[:] = rng.standard_normal(p.size), np.nan  # backward assigns; it does not accumulate
    x, weights = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, layer.dim_out))
    x += np.copysign(0.01, x)  # no difference reaches across the kink of relu

    def forward():
        return layer.forward(ops, p, x, Context(mask, np.random.default_rng(5)))

    def loss():
        return np.vdot(forward()[0], weights)

    dx = forward()[1](p.g, weights)
    assert_gradient(loss, x, dx)
    if p.size:
        assert_gradient(loss, p.data, p.grad)


@pytest.mark.parametrize('kind', LAYERS)
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_layer_in_float32_is_that_in_float64_rounded(kind, data, ops):
    T, B, D, H = (data.draw(st.integers(1, most)) for most in (9, 8, 70, 70))
    mask = masks(data.draw, T, B)
    layer, rng, results = LAYERS[kind](D, H), np.random.default_rng([T, B, D, H]), []
    numbers = [rng.standard_normal(s) for s in (Params(layer.shapes).size, (T, B, D), (T, B, layer.dim_out))]
    numbers[0] /= np.sqrt(D + H)  # else a recurrence that amplifies also what was rounded
    for dtype in 'float32', 'float64':
        p = Params(layer.shapes, dtype)
        p.data[:], x, dy = (a.astype('float32').astype(dtype) for a in numbers)
        p.grad[:] = np.nan
        y, backward = layer.forward(ops, p, x, Context(mask, np.random.default_rng(5)))
        results.append([y.copy(), backward(p.g, dy), p.grad])
        assert {a.dtype for a in results[-1]} == {np.dtype(dtype)}
    for single, double in zip(*results, strict=True):
        assert np.abs(single - double).max(initial=0) < 3e-6*(1 + np.abs(double).max(initial=0))


@pytest.mark.parametrize('kind', LAYERS)
def test_layer_without_dx_gives_the_same_gradient(kind, ops):
    layer, rng = LAYERS[kind](4, 3), np.random.default_rng(0)
    p = Params(layer.shapes, 'float64')
    p.data[:] = rng.standard_normal(p.size)
    x, dy = rng.standard_normal((6, 2, 4)), rng.standard_normal((6, 2, layer.dim_out))
    gradients = []
    for need_dx in True, False:
        layer.forward(ops, p, x, Context())[1](p.g, dy, need_dx=need_dx)
        gradients.append(p.grad.copy())
    assert np.array_equal(*gradients)


@pytest.mark.parametrize('lengths', [[1], [40], [3, 1, 9], [7, 7], [21, 2, 13, 21, 5]], ids=str)
@pytest.mark.parametrize('model', NETWORKS.values(), ids=NETWORKS)
def test_network(model, lengths, make_network, make_batch, assert_gradient):
    net, batch = make_network(**model), make_batch(lengths)
    p = net.params
    p.grad[:] = np.nan
    net.loss_and_grad(batch, seed=4)
    gradient = p.grad.copy()
    assert_gradient(lambda: net.loss_and_grad(batch, seed=4), p.data, gradient, step=1e-6)
