import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.acoustic.windows import cut, join
from hpcasr.backend import get_backend
from hpcasr.config import Model
from hpcasr.model.network import build


@given(st.integers(1, 50), st.integers(1, 20), st.integers(0, 15))
def test_windows_cover_every_frame_once(T, window, context):
    x = np.arange(1.0, 2*T + 1).reshape(T, 2)
    y, mask = cut(x, window, context, 0, T)
    assert y.shape == (window + 2*context, -(-T//window), 2) and mask.shape == y.shape[:2]
    np.testing.assert_array_equal(join(y, window, context, T), x)
    assert (y[~mask] == 0).all() and (y[mask] > 0).all()


@given(st.integers(1, 40), st.integers(1, 10), st.integers(0, 5))
def test_context_is_that_of_the_utterance(T, window, context):
    x = np.arange(T)[:, None]
    y, mask = cut(x, window, context, 0, T)
    for b in range(y.shape[1]):
        inside = y[mask[:, b], b, 0]
        first = max(0, b*window - context)
        np.testing.assert_array_equal(inside, np.arange(first, min(T, (b + 1)*window + context)))


@given(st.integers(1, 60), st.integers(1, 10), st.integers(0, 5), st.integers(1, 4))
def test_some_windows_are_those_of_all(T, window, context, at_once):
    x = np.arange(1, T + 1)[:, None]
    whole = cut(x, window, context, 0, T)
    for first in range(0, T, at_once*window):
        some = cut(x, window, context, first, min(first + at_once*window, T))
        columns = slice(first//window, first//window + some[1].shape[1])
        assert (some[0] == whole[0][:, columns]).all() and (some[1] == whole[1][:, columns]).all()


@pytest.mark.parametrize('kind', ['blstm', 'lstm', 'dnn'])
def test_enough_context_is_the_whole_utterance(kind):
    rng = np.random.default_rng(0)
    network = build(Model('tiny', kind, 2, 5), 3, 4, 'float64', get_backend('reference'))
    network.init(0)
    x = rng.normal(size=(23, 3))
    whole = network.log_posteriors(x[:, None])[:, 0]
    y, mask = cut(x, 7, 23, 0, 23)
    np.testing.assert_allclose(join(network.log_posteriors(y, mask), 7, 23, 23), whole, rtol=1e-10)
