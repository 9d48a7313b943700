"""What masks, directions and the order of a batch mean in a recurrent layer."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.data.batch import Batch
from hpcasr.model.blstm import Blstm
from hpcasr.model.layer import Context
from hpcasr.model.lstm import Lstm
from hpcasr.model.params import Params

KINDS = {'lstm': Lstm, 'reverse lstm': lambda *a: Lstm(*a, reverse=True), 'blstm': Blstm}


def outcome(ops, layer, p, x, dy, mask=None):
    """y, dx, gradient."""
    y, backward = layer.forward(ops, p, x, Context(mask))
    return y, backward(p.g, dy), p.grad.copy()


def random_layer(kind, D=4, H=3, seed=0):
    layer, rng = KINDS[kind]('l', D, H), np.random.default_rng(seed)
    p = Params(layer.shapes, 'float64')
    p.data[:] = rng.standard_normal(p.size)
    return layer, p, rng


@pytest.mark.parametrize('kind', KINDS)
@settings(deadline=None, max_examples=25)
@given(lengths=st.lists(st.integers(0, 8), min_size=1, max_size=5))
def test_ragged_chunks_are_as_each_alone(kind, lengths, ops):
    layer, p, rng = random_layer(kind)
    T, B = 8, len(lengths)
    x, dy = rng.standard_normal((T, B, 4)), rng.standard_normal((T, B, layer.dim_out))  # noise beyond the ends, too
    mask = np.arange(T)[:, None] < np.array(lengths)
    y, dx, g = outcome(ops, layer, p, x, dy, mask)
    assert not y[~mask].any() and not dx[~mask].any()
    total = np.zeros_like(g)
    for b, n in enumerate(lengths):
        y1, dx1, g1 = outcome(ops, layer, p, x[:n, b:b + 1], dy[:n, b:b + 1])
        np.testing.assert_allclose(y[:n, b:b + 1], y1, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(dx[:n, b:b + 1], dx1, rtol=1e-12, atol=1e-13)
        total += g1
    np.testing.assert_allclose(g, total, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('kind', KINDS)
def test_permuted_batch_gives_permuted_results(kind, ops):
    layer, p, rng = random_layer(kind)
    x, dy = rng.standard_normal((7, 5, 4)), rng.standard_normal((7, 5, layer.dim_out))
    mask = np.arange(7)[:, None] < np.array([7, 1, 4, 2, 6])
    order = np.array([3, 0, 4, 1, 2])
    y, dx, g = outcome(ops, layer, p, x, dy, mask)
    y2, dx2, g2 = outcome(ops, layer, p, x[:, order], dy[:, order], mask[:, order])
    np.testing.assert_allclose(y2, y[:, order], rtol=1e-13)
    np.testing.assert_allclose(dx2, dx[:, order], rtol=1e-12)
    np.testing.assert_allclose(g2, g, rtol=1e-12, atol=1e-14)


def test_reverse_is_forward_on_reversed_input(ops):
    layer, p, rng = random_layer('lstm')
    reverse = Lstm('l', 4, 3, reverse=True)
    x, dh = rng.standard_normal((6, 2, 4)), rng.standard_normal((6, 2, 3))
    h, dx, g = outcome(ops, layer, p, x[::-1], dh[::-1])
    h2, dx2, g2 = outcome(ops, reverse, p, x, dh)
    assert np.array_equal(h2, h[::-1]) and np.array_equal(dx2, dx[::-1]) and np.array_equal(g2, g)


def test_blstm_is_both_directions_side_by_side(ops):
    layer, p, rng = random_layer('blstm')
    x, dy = rng.standard_normal((6, 2, 4)), rng.standard_normal((6, 2, 6))
    y, dx, _ = outcome(ops, layer, p, x, dy)
    halves = [outcome(ops, d, p, x, part) for d, part in zip(layer.directions, np.split(dy, 2, -1), strict=True)]
    assert np.array_equal(y, np.concatenate([half[0] for half in halves], -1))
    np.testing.assert_allclose(dx, halves[0][1] + halves[1][1], rtol=1e-14)


def test_a_frame_sees_the_whole_chunk_only_in_a_blstm(ops):
    for kind, seen in ('lstm', range(3, 8)), ('reverse lstm', range(0, 4)), ('blstm', range(8)):
        layer, p, rng = random_layer(kind)
        x = rng.standard_normal((8, 1, 4))
        y, _ = layer.forward(ops, p, x, Context())
        x[3] += 1
        y2, _ = layer.forward(ops, p, x, Context())
        assert np.flatnonzero((y != y2).any((1, 2))).tolist() == list(seen)


def test_initial_state(ops):
    """Forget gates start open, the others at zero; every gate has a Glorot range of its own."""
    layer = Lstm('l', 50, 40)
    p = Params(layer.shapes, 'float64')
    layer.init(np.random.default_rng(0), p)
    assert np.array_equal(p['l.b'].reshape(4, 40)[:, 0], [0, 1, 0, 0])
    for W in p['l.Wx'], p['l.Wh']:
        gates = np.split(W, 4, 1)
        assert not any(np.array_equal(gates[a], gates[b]) for a in range(4) for b in range(a))
    assert np.abs(p['l.Wx']).max() == pytest.approx(np.sqrt(6/90), rel=0.01)
    assert np.abs(np.linalg.eigvals(p['l.Wh'][:, :40])).max() == pytest.approx(1, rel=0.2)


@pytest.mark.parametrize('model', [dict(kind='blstm', layers=2), dict(kind='lstm', bottleneck=3), dict(kind='dnn')],
                         ids=['blstm', 'lstm', 'dnn'])
def test_loss_of_a_ragged_batch_is_the_sum_over_its_chunks(model, make_network, make_batch):
    net, batch = make_network(**model), make_batch([9, 1, 5, 4])
    loss, errors, frames = net.evaluate(batch)
    net.loss_and_grad(batch)
    total = net.params.grad.copy()
    for b, n in enumerate(batch.lengths):
        one = Batch(batch.x[:n, b:b + 1], batch.targets[:n, b:b + 1], batch.lengths[b:b + 1])
        part, wrong, count = net.evaluate(one)
        net.loss_and_grad(one)
        loss, errors, frames, total = loss - part, errors - wrong, frames - count, total - net.params.grad
    assert loss == pytest.approx(0, abs=1e-12) and errors == frames == 0
    assert np.abs(total).max() < 1e-12
