import numpy as np
import pytest

from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS, STOP, Params, count

SHAPES = {'softmax.W': (3, 4), 'softmax.b': (4,), 'lstm1.Wx': (2, 5), 'empty': (0, 3)}


def test_names_are_row_major_views_in_the_order_of_the_shapes():
    p = Params(SHAPES)
    p.data[:] = np.arange(p.size)
    assert p.size == count(SHAPES) == 26
    assert np.array_equal(p['softmax.W'], np.arange(12).reshape(3, 4))
    assert np.array_equal(p['softmax.b'], [12, 13, 14, 15])
    assert np.array_equal(p['lstm1.Wx'], 16 + np.arange(10).reshape(2, 5))


def test_views_write_through():
    p = Params(SHAPES, 'float64')
    p['lstm1.Wx'][1, 2], p.g['softmax.b'][0] = 5, 6
    assert p.data[23] == 5 and p.grad[12] == p.gradient[12] == 6
    assert p.data.dtype == p.gradient.dtype == np.float64


def test_slots_trail_the_gradient():
    p = Params(SHAPES)
    p.slots[STOP] = 1
    assert len(p.gradient) == p.size + SLOTS and p.gradient[p.size + STOP] == 1 and not p.grad.any()


def test_span_of_neighbours_only():
    p = Params(SHAPES)
    assert p.span(['softmax.W', 'softmax.b']) == (0, 16)
    assert p.span(['lstm1.Wx', 'softmax.b']) == (12, 26)
    with pytest.raises(ValueError, match='not contiguous'):
        p.span(['softmax.W', 'lstm1.Wx'])


def test_memory_may_be_given_with_padding():
    memory = np.zeros(32, 'float32')
    p = Params(SHAPES, 'float32', memory)
    p['softmax.W'][0, 0] = 3
    assert memory[0] == 3 and len(p.data) == p.size


@pytest.mark.parametrize('memory', [np.zeros(25, 'f'), np.zeros(26), np.zeros((26, 1), 'f'), np.zeros(52, 'f')[::2]])
def test_memory_that_does_not_fit(memory):
    with pytest.raises(ValueError, match='26 contiguous entries of float32'):
        Params(SHAPES, 'float32', memory)


def test_a_checkpoint_is_loaded_in_place():
    a, b = Params(SHAPES), Params(SHAPES)
    a.data[:] = np.random.default_rng(0).standard_normal(a.size)
    memory = b.data
    b.load({k: v.copy() for k, v in a.state().items()})
    assert b.data is memory and np.array_equal(a.data, b.data)
    with pytest.raises(BadInput, match='3 parameters given, this model has 26'):
        b.load({'params': np.zeros(3)})
