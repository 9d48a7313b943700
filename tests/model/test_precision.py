"""Whole networks in bf16 against float64, at odd sizes."""

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.config import Model
from hpcasr.model.network import build
from tests.kernels.arrays import error

NETWORKS = {
    'dnn': dict(kind='dnn', layers=3, cells=97, activation='sigmoid'),
    'tanh, bottleneck': dict(kind='dnn', layers=2, cells=131, activation='tanh', bottleneck=33),
    'lstm': dict(kind='lstm', layers=2, cells=65),
    'blstm': dict(kind='blstm', layers=2, cells=33),
    'dropout': dict(kind='blstm', layers=2, cells=64, dropout=0.3),
}
BACKENDS = pytest.mark.parametrize('name', ['cpu', 'reference'])


@pytest.fixture
def gradient(make_batch):
    def compute(model, dtype, ops):
        """(loss, {parameter: gradient}) of 19 ragged chunks."""
        net = build(Model(**{'preset': 'tiny', 'dropout': 0.0} | model), 37, 71, dtype, ops)
        net.init(1)
        lengths = np.random.default_rng(2).integers(1, 22, 19)
        loss = net.loss_and_grad(make_batch(lengths, 37, 71, dtype=dtype), seed=3)
        assert net.params.data.dtype == net.params.grad.dtype == dtype
        return loss, net.params.g
    return compute


def assert_near(found, exact, shapes):
    assert abs(found[0]/exact[0] - 1) < 1e-3
    for name in shapes:
        assert error(found[1][name], exact[1][name]) < 1e-2, name


@BACKENDS
@pytest.mark.parametrize('model', NETWORKS.values(), ids=NETWORKS)
def test_gradients(model, name, gradient):
    exact = gradient(model, 'float64', get_backend('reference'))
    assert_near(gradient(model, 'float32', get_backend(name, 'bf16')), exact, list(exact[1]))


@BACKENDS
def test_gradients_of_relu_with_the_same_units_on(name, gradient, monkeypatch):
    """A sum close to 0 gets the other sign by rounding, and the unit's whole gradient appears or is gone: 0.1 and more
    of the largest entry.  Apart from that they are as near as those of smooth functions.
    """
    model, on = dict(kind='dnn', layers=2, cells=131, activation='relu', bottleneck=33), []
    ops, reference = get_backend(name, 'bf16'), get_backend('reference')
    forward = ops.activation

    def record(function, x):
        y, backward = forward(function, x)
        on.append(y > 0)
        return y, backward

    def repeat(function, x):
        same = on.pop(0)
        return x*same, lambda dy: dy*same
    monkeypatch.setattr(ops, 'activation', record)
    monkeypatch.setattr(reference, 'activation', repeat)
    found = gradient(model, 'float32', ops)
    exact = gradient(model, 'float64', reference)
    assert_near(found, exact, list(exact[1]))
