import numpy as np
import pytest

from hpcasr.kernels.reference import update


@pytest.mark.parametrize('block', [1, 7, 30, 64])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_blocks_do_not_change_a_bit(block, dtype):
    rng = np.random.default_rng(0)
    x, g, m = (rng.standard_normal(30).astype(dtype) for _ in range(3))
    v = g*g
    for rule, state, rest in (update.sgd, [m], (0.1, 0.9)), (update.adam, [m, v], (3, 0.1, 0.9, 0.99, 1e-8)):
        results = []
        for scratch in np.empty(block, dtype), np.empty(30, dtype):
            copies = [a.copy() for a in (x, *state)]
            rule(copies[0], g, *copies[1:], *rest, scratch)
            results.append(copies)
        assert all(np.array_equal(a, b) and a.dtype == dtype for a, b in zip(*results, strict=True))


def test_nothing_to_update():
    nothing = np.empty(0)
    update.sgd(nothing, nothing, nothing, 0.1, 0.9, np.empty(4))
    update.adam(nothing, nothing, nothing, nothing, 1, 0.1, 0.9, 0.99, 1e-8, np.empty(4))
