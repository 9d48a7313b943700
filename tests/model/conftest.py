"""What the tests of the model share: a gradient check, ragged batches, and networks of any shape."""

import numpy as np
import pytest

from hpcasr.config import Model
from hpcasr.data.batch import Batch
from hpcasr.model.network import build


@pytest.fixture(scope='session')
def assert_gradient():
    def check(loss, x, gradient, step=1e-5, directions=4):
        """gradient · d = central difference of loss() along random d, where x is changed in place; x float64."""
        rng, x0, pairs = np.random.default_rng(7), x.copy(), []
        for d in rng.standard_normal((directions, *x.shape)):
            x[...] = x0 + step*d
            above = loss()
            x[...] = x0 - step*d
            pairs.append(((above - loss())/(2*step), np.vdot(gradient, d)))
        x[...] = x0
        numeric, analytic = np.array(pairs).T
        assert np.linalg.norm(numeric - analytic) <= 1e-6*np.linalg.norm(analytic)
    return check


@pytest.fixture(scope='session')
def make_batch():
    def make(lengths, dim=5, num_targets=7, T=None, dtype='float64', seed=0):
        """Chunks of `lengths` frames, padded to T; what is masked is zero, as in the loader."""
        rng, lengths = np.random.default_rng(seed), np.array(lengths, int)
        T = T or lengths.max()
        x = rng.standard_normal((T, len(lengths), dim)).astype(dtype)
        targets = rng.integers(0, num_targets, (T, len(lengths)), np.int32)
        past = np.arange(T)[:, None] >= lengths
        x[past], targets[past] = 0, 0
        return Batch(x, targets, lengths, epoch=3, position=11)
    return make


@pytest.fixture(scope='session')
def make_network(ops):
    def make(dim=5, num_targets=7, dtype='float64', seed=1, buffer=None, **model):
        """An initialized network; biases are random, so that no gradient is tested at zero only."""
        net = build(Model(**{'preset': 'tiny', 'cells': 6} | model), dim, num_targets, dtype, ops, buffer)
        net.init(seed)
        rng = np.random.default_rng(seed)
        for name in net.params.shapes:
            if name.endswith('.b'):
                net.params[name][...] += 0.3*rng.standard_normal(net.params.shapes[name])
        return net
    return make
