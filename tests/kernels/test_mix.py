import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.reference.mix import mix


@pytest.mark.parametrize('block', [1, 7, 30, 64])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('where', [0, 1, 2, None], ids=['first', 'middle', 'last', 'apart'])
@pytest.mark.parametrize('count', [1, 2, 3, 4])
def test_weighted_sum_in_order_whatever_the_block_and_also_in_place(count, block, dtype, where, ops):
    if where is not None and where >= count:
        return
    vectors, weights = list(np.random.default_rng(0).standard_normal((count, 30)).astype(dtype)), [0.3, -1.7, 0.11, 9.0]
    expected = vectors[0]*weights[0]
    for x, w in zip(vectors[1:], weights[1:], strict=False):
        expected += x*w
    out = np.empty(30, dtype) if where is None else vectors[where]
    ops.mix(out, vectors, weights[:count], np.empty((2, block), dtype))
    assert out.dtype == dtype and out.tobytes() == expected.tobytes()


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 70), count=st.integers(2, 3), data=st.data())
def test_the_bits_of_the_reference(n, count, data, ops):
    weights = data.draw(st.lists(st.floats(-2, 2), min_size=count, max_size=count))
    scale = 10.0**data.draw(st.integers(-44, 30))
    vectors = list((scale*np.random.default_rng(n).standard_normal((count, n))).astype('f'))
    results = np.empty((2, n), 'f')
    ops.mix(results[0], vectors, weights, np.empty((2, 13), 'f'))
    mix(results[1], vectors, weights, np.empty((2, 70), 'f'))
    assert results[0].tobytes() == results[1].tobytes()


def test_one_vector_and_none_at_all(ops):
    for dtype in 'float32', 'float64':
        x = np.arange(4, dtype=dtype)
        ops.mix(x, [x], [0.5], np.empty((2, 3), dtype))
        assert x.tolist() == [0, 0.5, 1, 1.5]
        ops.mix(x[:0], [x[:0]], [1.0], np.empty((2, 3), dtype))


def test_a_weight_for_every_vector(ops):
    for dtype in 'float32', 'float64':
        x = np.zeros(3, dtype)
        with pytest.raises((ValueError, TypeError)):
            ops.mix(x, [x, x], [1.0], np.empty((2, 3), dtype))
