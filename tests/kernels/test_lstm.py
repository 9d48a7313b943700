"""The LSTM against one that knows neither vectors nor gate tricks: a number at a time, with exp."""

from math import exp, tanh

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.kernels.reference import lstm


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


@pytest.mark.parametrize('reverse', [False, True])
@pytest.mark.parametrize(('lengths', 'D', 'H'), [([1], 1, 1), ([5, 2, 3], 3, 4), ([7, 7], 2, 5), ([0, 4], 3, 2)])
def test_against_the_definition(lengths, D, H, reverse):
    rng, T = np.random.default_rng(0), max(lengths)
    x, Wx, Wh, b = (rng.standard_normal(s) for s in ((T, len(lengths), D), (D, 4*H), (H, 4*H), (4*H,)))
    mask = np.arange(T)[:, None] < np.array(lengths)
    h, _ = get_backend('reference').lstm(x, Wx, Wh, b, mask, reverse)
    for k, length in enumerate(lengths):
        expected = by_hand(x[:, k].tolist(), Wx.tolist(), Wh.tolist(), b.tolist(), length, reverse)
        np.testing.assert_allclose(h[:, k], expected, rtol=1e-12, atol=1e-15)


def arrays(T, B, D, H, dtype='float64'):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(s).astype(dtype) for s in ((T, B, D), (D, 4*H), (H, 4*H), (4*H,))]


def test_a_full_mask_is_no_mask():
    x, Wx, Wh, b = arrays(5, 3, 4, 2)
    with_mask, without = (lstm.forward(x, Wx, Wh, b, mask)[0] for mask in (np.ones((5, 3), bool), None))
    assert np.array_equal(with_mask, without)


def test_a_hole_in_the_mask_starts_anew():
    x, Wx, Wh, b = arrays(7, 1, 4, 2)
    mask = np.array([1, 1, 1, 0, 1, 1, 1], bool)[:, None]
    h, _ = lstm.forward(x, Wx, Wh, b, mask)
    np.testing.assert_allclose(h[4:], lstm.forward(x[4:], Wx, Wh, b, None)[0], rtol=1e-14)
    assert not h[3].any()


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('z', [-1e4, 1e4])
def test_saturated_gates_neither_warn_nor_overflow(z, dtype):
    """All gates open: c counts the frames.  All closed: nothing passes, and no gradient either."""
    x, Wx, Wh, b = (np.zeros_like(v) for v in arrays(3, 1, 2, 1, dtype))
    b[:] = z
    h, tape = lstm.forward(x, Wx, Wh, b, None)
    assert h.dtype == dtype
    np.testing.assert_allclose(h[:, 0, 0], np.tanh([1, 2, 3]) if z > 0 else 0, rtol=1e-6)
    gradients = [np.empty_like(v) for v in (Wx, Wh, b)]
    lstm.backward(np.ones_like(h), tape, Wx, Wh, *gradients, True)
    assert not any(g.any() for g in gradients)


def test_backward_may_be_called_twice_and_changes_no_input():
    x, Wx, Wh, b = arrays(5, 3, 4, 2)
    before = [v.copy() for v in (x, Wx, Wh, b)]
    h, backward = get_backend('reference').lstm(x, Wx, Wh, b)
    results = []
    for _ in range(2):
        gradients = [np.empty_like(v) for v in (Wx, Wh, b)]
        results.append([backward(np.ones_like(h), *gradients), *gradients])
    assert all(np.array_equal(*pair) for pair in zip(*results, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(before, (x, Wx, Wh, b), strict=True))
