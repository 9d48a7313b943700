import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cpu import update as compiled
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


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 90), lr=st.floats(0, 2), momentum=st.floats(0, 1),
       scale=st.sampled_from([1e-42, 1e-3, 1.0, 1e30]))
def test_compiled_sgd_has_the_bits_of_the_reference(n, lr, momentum, scale):
    rng, results = np.random.default_rng(n), []
    x, g, v = (scale*rng.standard_normal((3, n))).astype('f')
    if n > 3:
        g[:4] = np.nan, np.inf, -np.inf, -0.0
    with np.errstate(all='ignore'):
        for rule, scratch in (update.sgd, [np.empty(17, 'f')]), (compiled.sgd, []):
            results.append((x.copy(), v.copy()))
            rule(results[-1][0], g, results[-1][1], lr, momentum, *scratch)
    assert same_bits(*results)


def same_bits(*results):
    """A NaN is a NaN: what NumPy and LLVM write of its sign is theirs."""
    bits = [[np.where(np.isnan(a), np.float32(np.nan), a).tobytes() for a in result] for result in results]
    return all(b == bits[0] for b in bits)


def test_nothing_to_update(ops):
    for dtype in 'float32', 'float64':
        nothing, scratch = np.empty(0, dtype), np.empty(4, dtype)
        ops.sgd(nothing, nothing, nothing, 0.1, 0.9, scratch)
        ops.adam(nothing, nothing, nothing, nothing, 1, 0.1, 0.9, 0.99, 1e-8, scratch)


def test_every_backend_takes_the_same_step(ops):
    for dtype in 'float32', 'float64':
        x, g, v = np.random.default_rng(1).standard_normal((3, 100)).astype(dtype)
        a, b = (x.copy(), v.copy()), (x.copy(), v.copy())
        ops.sgd(a[0], g, a[1], 0.3, 0.9, np.empty(11, dtype))
        update.sgd(b[0], g, b[1], 0.3, 0.9, np.empty(100, dtype))
        assert same_bits(a, b)


def test_without_momentum_every_backend_takes_the_same_steps_from_any_v(ops):
    """It need not assign v: then v means nothing."""
    x, g, v = np.random.default_rng(1).standard_normal((3, 100)).astype('f')
    a, b = (x.copy(), v.copy()), (x.copy(), v.copy())
    for step in g, -2*g:
        ops.sgd(a[0], step, a[1], 0.3, 0.0, np.empty(11, 'f'))
        update.sgd(b[0], step, b[1], 0.3, 0.0, np.empty(100, 'f'))
    assert same_bits(a[:1], b[:1])
