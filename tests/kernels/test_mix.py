import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.kernels.reference.mix import mix


@pytest.mark.parametrize('block', [1, 7, 30, 64])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('where', [0, 1, 2, None], ids=['first', 'middle', 'last', 'apart'])
def test_weighted_sum_in_order_whatever_the_block_and_also_in_place(block, dtype, where):
    vectors = list(np.random.default_rng(0).standard_normal((3, 30)).astype(dtype))
    weights = [0.3, -1.7, 0.11]
    expected = vectors[0]*weights[0] + vectors[1]*weights[1] + vectors[2]*weights[2]
    out = np.empty(30, dtype) if where is None else vectors[where]
    mix(out, vectors, weights, np.empty((2, block), dtype))
    assert out.dtype == dtype and out.tobytes() == expected.tobytes()


def test_one_vector_and_none_at_all():
    x = np.arange(4.0)
    get_backend('reference').mix(x, [x], [0.5], np.empty((2, 3)))
    assert x.tolist() == [0, 0.5, 1, 1.5]
    mix(x[:0], [x[:0]], [1.0], np.empty((2, 3)))


def test_a_weight_for_every_vector():
    x = np.zeros(3)
    with pytest.raises(ValueError):
        mix(x, [x, x], [1.0], np.empty((2, 3)))
