"""The LSTM against one that knows neither vectors nor gate tricks: a number at a time, with exp."""

from math import exp, tanh

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcasr.backend.base import Ops
from tests.kernels.arrays import error


def sigmoid(z):
    return 1/(1 + exp(-z))


def by_hand(x, Wx, Wh, b, length, reverse):
    """h of one chunk x [T][D], by the definition; zero beyond `length`."""
    T, D, H = len(x), len(Wx), len(Wh)
    out, h, c = [[0.0]*H for _ in range(T)], [0.0]*H, [0.0]*H
    for t in reversed(range(length)) if reverse else range(length):
        def z(gate, k, t=t, h=h):
            column = gate*H + k
            return (b[column] + sum(x[t][d]*Wx[d][column] for d in range(D))
                    + sum(h[j]*Wh[j][column] for j in range(H)))
        c = [sigmoid(z(1, k))*c[k] + sigmoid(z(0, k))*tanh(z(2, k)) for k in range(H)]
        h = [sigmoid(z(3, k))*tanh(c[k]) for k in range(H)]
        out[t] = h
    return out


@pytest.mark.parametrize(('dtype', 'tolerance'), [('float64', 1e-12), ('float32', 2e-6)])
@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize(('lengths', 'D', 'H'), [([1], 1, 1), ([5, 2, 3], 3, 4), ([7, 7], 2, 5), ([0, 4], 3, 2)])
def test_against_the_definition(lengths, D, H, reverse, dtype, tolerance, ops):
    T = max(lengths)
    x, Wx, Wh, b = arrays(T, len(lengths), D, H, dtype)
    mask = np.arange(T)[:, None] < np.array(lengths)
    h, _ = ops.lstm(x, Wx, Wh, b, mask, reverse)
    for k, length in enumerate(lengths):
        expected = by_hand(x[:, k].tolist(), Wx.tolist(), Wh.tolist(), b.tolist(), length, reverse)
        np.testing.assert_allclose(h[:, k], expected, rtol=tolerance, atol=tolerance/10)


def arrays(T, B, D, H, dtype='float64'):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(s).astype(dtype) for s in ((T, B, D), (D, 4*H), (H, 4*H), (4*H,))]


KINDS = pytest.mark.parametrize('kind', ['ahead', 'back', 'both'])
DTYPES = pytest.mark.parametrize('dtype', ['float32', 'float64'])


def layer(ops, kind, x, weights, mask=None):
    """(h, backward) of one LSTM of `weights`, or of two of them in both directions."""
    if kind == 'both':
        return ops.blstm(x, weights[:3], weights[3:], mask)
    return ops.lstm(x, *weights, mask, kind == 'back')


def case(kind, T, B, D, H, dtype='float32', seed=0):
    """x, dh, weights of the layer."""
    rng, twice = np.random.default_rng([seed, T, B, D, H]), 1 + (kind == 'both')
    shapes = (((D, 4*H), D**-0.5), ((H, 4*H), H**-0.5), ((4*H,), 1))*twice
    weights = [rng.standard_normal(s)*scale for s, scale in shapes]
    x, dh = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, twice*H))
    return x.astype(dtype), dh.astype(dtype), [W.astype(dtype) for W in weights]


def outcome(ops, kind, x, dh, weights, mask):
    """h, dx and all gradients."""
    h, backward = layer(ops, kind, x, weights, mask)
    gradients = [np.full_like(W, np.nan) for W in weights]
    back = backward(dh, gradients[:3], gradients[3:]) if kind == 'both' else backward(dh, *gradients)
    return h, back, *gradients


@KINDS
@settings(deadline=None, max_examples=40)
@given(T=st.integers(1, 6), B=st.integers(1, 14), D=st.integers(1, 70),
       H=st.integers(1, 200) | st.sampled_from([32, 64, 128]), holes=st.sampled_from([None, 0.0, 0.3, 1.0]))
@example(T=1, B=1, D=1, H=1, holes=None)
@example(T=3, B=0, D=5, H=4, holes=0.5)
@example(T=2, B=0, D=5, H=64, holes=None)
@example(T=6, B=1, D=1, H=195, holes=None)
@example(T=33, B=7, D=40, H=64, holes=0.1)
def test_float32_is_float64_rounded(kind, T, B, D, H, holes, ops):
    """Values and gradients, also where frames are missing in the middle."""
    x, dh, weights = case(kind, T, B, D, H)
    mask = None if holes is None else np.random.default_rng(T).random((T, B)) >= holes
    exact = outcome(Ops(), kind, *[a.astype(float) for a in (x, dh)], [W.astype(float) for W in weights], mask)
    found = outcome(ops, kind, x, dh, weights, mask)
    for a, b in zip(found, exact, strict=True):
        assert a.dtype == np.float32 and a.shape == b.shape
        assert np.abs(a - b).max(initial=0) < 2e-6*(1 + np.abs(b).max(initial=0))
    if mask is not None:
        assert not found[0][~mask].any() and not found[1][~mask].any()


@KINDS
@pytest.mark.parametrize('H', [5, 64])
def test_whatever_the_layout_of_input_and_gradient(kind, H, ops):
    x, dh, weights = case(kind, 6, 5, 7, H)
    expected = outcome(ops, kind, x, dh, weights, None)
    for way in (lambda a: a[::-1].copy()[::-1], lambda a: a.transpose(2, 1, 0).copy().transpose(2, 1, 0),
                lambda a: np.repeat(a, 2, -1)[..., ::2], lambda a: np.pad(a, ((0, 0), (0, 0), (3, 1)))[..., 3:-1],
                lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape)):  # read-only, as a mapped file is
        found = outcome(ops, kind, way(x), way(dh), weights, None)
        assert all(error(a, b) < 1e-6 for a, b in zip(found, expected, strict=True))


@KINDS
@DTYPES
def test_a_full_mask_is_no_mask(kind, dtype, ops):
    x, _, weights = case(kind, 5, 3, 4, 2, dtype)
    assert np.array_equal(*(layer(ops, kind, x, weights, mask)[0] for mask in (np.ones((5, 3), bool), None)))


@DTYPES
def test_a_hole_in_the_mask_starts_anew(dtype, ops):
    x, Wx, Wh, b = arrays(7, 1, 4, 2, dtype)
    mask = np.array([1, 1, 1, 0, 1, 1, 1], bool)[:, None]
    h, _ = ops.lstm(x, Wx, Wh, b, mask)
    np.testing.assert_allclose(h[4:], ops.lstm(x[4:], Wx, Wh, b, None)[0], rtol=1e-6 if dtype == 'float32' else 1e-14)
    assert not h[3].any()


@KINDS
@DTYPES
def test_nan_stays_in_its_own_chunk(kind, dtype, ops):
    """From its frame on, in the direction of time; and not even that beyond the end of the chunk."""
    for H in 3, 64:
        x, _, weights = case(kind, 6, 4, 3, H, dtype)
        mask = np.arange(6)[:, None] < np.array([6, 6, 3, 6])
        x[2, 1, 0] = x[4, 2, 0] = np.nan
        bad = np.isnan(layer(ops, kind, x, weights, mask)[0]).reshape(6, 4, -1, H).any((2, 3))
        first, last = {'ahead': (2, 6), 'back': (0, 3), 'both': (0, 6)}[kind]
        assert np.flatnonzero(bad[:, 1]).tolist() == list(range(first, last)) and not bad[:, [0, 2, 3]].any()


@DTYPES
@pytest.mark.parametrize('z', [-1e4, 1e4])
def test_saturated_gates_neither_warn_nor_overflow(z, dtype, ops):
    """All gates open: c counts the frames.  All closed: nothing passes, and no gradient either."""
    x, Wx, Wh, b = (np.zeros_like(v) for v in arrays(3, 1, 2, 1, dtype))
    b[:] = z
    h, backward = ops.lstm(x, Wx, Wh, b)
    assert h.dtype == dtype
    np.testing.assert_allclose(h[:, 0, 0], np.tanh([1, 2, 3]) if z > 0 else 0, rtol=1e-6, atol=1e-30)
    gradients = [np.empty_like(v) for v in (Wx, Wh, b)]
    backward(np.ones_like(h), *gradients)
    assert all(np.abs(g).max() < 1e-30 for g in gradients)


@KINDS
@DTYPES
@pytest.mark.parametrize('H', [2, 64])
def test_no_input_is_changed(kind, dtype, H, ops):
    x, dh, weights = case(kind, 5, 3, 4, H, dtype)
    before = [v.copy() for v in (x, dh, *weights)]
    outcome(ops, kind, x, dh, weights, None)
    assert all(np.array_equal(*pair) for pair in zip(before, (x, dh, *weights), strict=True))


def test_backward_of_the_reference_may_be_called_twice():
    x, Wx, Wh, b = arrays(5, 3, 4, 2)
    h, backward = Ops().lstm(x, Wx, Wh, b)
    results = []
    for _ in range(2):
        gradients = [np.empty_like(v) for v in (Wx, Wh, b)]
        results.append([backward(np.ones_like(h), *gradients), *gradients])
    assert all(np.array_equal(*pair) for pair in zip(*results, strict=True))


@KINDS
@pytest.mark.parametrize('H', [2, 64])
def test_where_backward_may_be_called_once_it_says_so(kind, H, ops):
    if ops.name == 'reference':
        pytest.skip('it may be called again')
    x, dh, weights = case(kind, 5, 3, 4, H)
    _, backward = layer(ops, kind, x, weights)
    gradients = [np.empty_like(W) for W in weights]
    arguments = (dh, gradients[:3], gradients[3:]) if kind == 'both' else (dh, *gradients)
    backward(*arguments)
    with pytest.raises(RuntimeError, match='once'):
        backward(*arguments)
