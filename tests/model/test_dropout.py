import numpy as np
import pytest

from hpcasr.model.dropout import Dropout
from hpcasr.model.layer import Context


def dropped(ops, seed, q=0.25, dtype='float64', shape=(20, 30, 50)):
    context = Context(rng=np.random.default_rng(seed))
    return Dropout('d', shape[-1], q).forward(ops, None, np.ones(shape, dtype), context)[0]


def test_units_are_dropped_with_probability_q_and_the_mean_is_kept(ops):
    y = dropped(ops, 0)
    assert set(np.unique(y)) == {0, np.float64(np.float32(1)/np.float32(0.75))}
    assert (y == 0).mean() == pytest.approx(0.25, abs=4*np.sqrt(0.25*0.75/y.size))
    assert y.mean() == pytest.approx(1, abs=0.01)


def test_the_generator_decides(ops):
    assert np.array_equal(dropped(ops, 1), dropped(ops, 1)) and not np.array_equal(dropped(ops, 1), dropped(ops, 2))


def test_both_types_drop_the_same_units(ops):
    single = dropped(ops, 3, dtype='float32')
    assert single.dtype == np.float32 and np.array_equal(single, dropped(ops, 3))


def test_evaluation_drops_nothing(ops):
    x = np.ones((2, 3, 4))
    y, backward = Dropout('d', 4, 0.9).forward(ops, None, x, Context())
    assert y is x and backward(None, x) is x


def test_a_batch_has_its_own_units(make_network, make_batch):
    """The same at each visit in an epoch, others in the next epoch, at another place, or for another seed."""
    net, batch = make_network(dropout=0.5), make_batch([6, 6])

    def loss(epoch=0, position=0, seed=0):
        batch.epoch, batch.position = epoch, position
        return net.loss_and_grad(batch, seed=seed)

    assert loss() == loss()
    assert len({loss(), loss(epoch=1), loss(position=1), loss(seed=1), net.evaluate(batch)[0]}) == 5
