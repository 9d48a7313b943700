"""Kernels over flat vectors, of lengths around those of a block and of all blocks together."""

import numpy as np
import pytest

from hpcasr.kernels.cuda import activation, mix, pack, update
from hpcasr.kernels.reference import activation as exact
from hpcasr.kernels.reference import mix as summed
from hpcasr.kernels.reference import update as exact_update
from tests.cuda.memory import POISON, bf16, device, error, host, poison

pytestmark = pytest.mark.usefixtures('few_blocks')  # of THREADS: 16 at a time
THREADS = 8
SIZES = [1, 7, 16, 37]


def draw(n, count, seed=0):
    return np.random.default_rng([n, seed]).normal(size=(count, n)).astype('f4')


@pytest.mark.parametrize('n', SIZES)
@pytest.mark.parametrize('name', exact.FUNCTIONS)
def test_activations(name, n):
    x, dy = 3*draw(n, 2)
    y, dx = poison(n), poison(n)
    activation.forward(name, device(x), y, threads=THREADS)
    activation.backward(name, device(dy), y, dx, threads=THREADS)
    value = exact.forward(name, x.astype(float))
    assert error(host(y), value) < 1e-6 and error(host(dx), exact.backward(name, dy.astype(float), value)) < 3e-6


@pytest.mark.parametrize('name', exact.FUNCTIONS)
def test_activations_of_bf16(name):
    x, dy = 3*draw(21, 2)
    for kind in 'f4', 'u2':
        y = poison(21, dtype='u2')
        activation.forward(name, device(x, kind), y, threads=THREADS)
        assert error(host(y), exact.forward(name, x)) < 1e-2
    dx = poison(21, dtype='u2')
    activation.backward(name, device(dy, 'u2'), y, dx, threads=THREADS)
    assert error(host(dx), exact.backward(name, dy, host(y))) < 1e-2


@pytest.mark.parametrize('name', exact.FUNCTIONS)
def test_activations_of_extremes(name):
    most = np.finfo('f4').max
    x, y = np.array([-np.inf, -most, -100, 0, 100, most, np.inf, np.nan], 'f4'), poison(8)
    activation.forward(name, device(x), y, threads=THREADS)
    with np.errstate(over='ignore'):
        np.testing.assert_allclose(host(y), exact.forward(name, x), atol=1e-37)


@pytest.mark.parametrize('n', SIZES)
@pytest.mark.parametrize('half', [False, True])
def test_a_step_of_sgd(n, half):
    x, g, v = draw(n, 3)
    copy, frames = poison(n, dtype='u2') if half else None, 7.0
    found = [device(a) for a in (x, g, v)]
    update.sgd(*found, numbers(0.1, 0.9), numbers(frames), numbers(0), copy, threads=THREADS)
    x, v = x.astype(float), v.astype(float)
    exact_update.sgd(x, g/frames, v, 0.1, 0.9, np.empty(3))
    np.testing.assert_allclose(host(found[0]), x, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(host(found[2]), v, rtol=1e-6, atol=1e-6)
    assert not half or np.array_equal(host(copy), host(device(host(found[0]), 'u2')))


@pytest.mark.parametrize('n', SIZES)
def test_three_steps_of_adam(n):
    x, m, v, rest = *draw(n, 1), np.zeros(n, 'f4'), np.zeros(n, 'f4'), (0.01, 0.9, 0.999, 1e-8)
    found, copy = [device(a) for a in (x, m, v)], poison(n, dtype='u2')
    x, m, v = x.astype(float), m.astype(float), v.astype(float)
    for t, g in enumerate(draw(n, 3, 1), 1):
        rates = numbers(*update.adam_rates(t, *rest))
        update.adam(found[0], device(g), *found[1:], rates, numbers(5), numbers(0), copy, threads=THREADS)
        exact_update.adam(x, g.astype(float)/5, m, v, t, *rest, np.empty(4))
    for one, other in zip(found, (x, m, v), strict=True):
        np.testing.assert_allclose(host(one), other, rtol=1e-5, atol=1e-7)
    assert np.array_equal(host(copy), host(device(host(found[0]), 'u2')))


@pytest.mark.parametrize('skip', [1, 3, np.nan])
def test_a_step_that_is_skipped_changes_nothing(skip):
    parts = [device(a) for a in draw(37, 4)]
    before, copy = [host(a).copy() for a in parts], poison(37, dtype='u2')
    update.sgd(*parts[:3], numbers(0.1, 0.9), numbers(1), numbers(skip), copy, threads=THREADS)
    update.adam(*parts, numbers(*update.adam_rates(1, 0.1, 0.9, 0.99, 1e-8)), numbers(1), numbers(skip), copy,
                threads=THREADS)
    assert all(np.array_equal(host(a), b) for a, b in zip(parts, before, strict=True))
    assert (host(copy) == host(device([POISON], 'u2'))).all()


def test_no_frames_divide_by_one():
    x, g, v = (device(np.ones(3), 'f4') for _ in range(3))
    update.sgd(x, g, v, numbers(1, 0), numbers(0), numbers(0), threads=THREADS)
    assert host(v).tolist() == [1, 1, 1] and host(x).tolist() == [0, 0, 0]


def numbers(*values):
    return device(values, 'f4')


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_wherever_it_is(bad):
    for k in range(19):
        x, flag = np.full(19, 1e38, 'f4'), device([0], 'f4')
        update.not_finite(device(x), flag, threads=THREADS)
        x[k] = bad
        assert host(flag)[0] == 0
        update.not_finite(device(x), flag, threads=THREADS)
        assert host(flag)[0] == 1


@pytest.mark.parametrize('n', SIZES)
@pytest.mark.parametrize('count', [1, 2, 3, 5])
def test_mixing(n, count):
    vectors, weights = draw(n, count), np.random.default_rng(count).random(count)
    expected = np.empty(n)
    summed.mix(expected, list(vectors.astype(float)), weights, np.empty((2, 4)))
    out = poison(n)
    mix.mix(out, [device(x) for x in vectors], weights, threads=THREADS)
    np.testing.assert_allclose(host(out), expected, rtol=1e-6, atol=1e-6)
    for k in range(count):  # into one of them
        there = [device(x) for x in vectors]
        mix.mix(there[k], there, weights, threads=THREADS)
        assert np.array_equal(host(there[k]), host(out))


@pytest.mark.parametrize('n', SIZES)
def test_the_mean_of_a_pair_is_the_same_for_both(n):
    x, y = draw(n, 2)
    one, other = device(x), device(y)
    mix.pair(one, other, threads=THREADS)
    assert np.array_equal(host(one), (x + y)/2) and np.array_equal(host(other), host(one))


def test_bf16_and_back_bit_for_bit():
    """As the reference, of every sign, exponent and rounding; NaN stays NaN."""
    bits = np.random.default_rng(0).integers(1 << 32, size=600).astype('u4')
    bits[:8] = 0x7f800000, 0xff800000, 0x7f800001, 0x7fffffff, 0x00008000, 0x00018000, 0x7f7fffff, 0
    x, packed, out = bits.view('f4'), poison(600, dtype='u2'), poison(600)
    pack.pack(device(x), packed, threads=THREADS)
    pack.unpack(packed, out, threads=THREADS)
    assert np.array_equal(host(out).view('u4'), host(device(bf16(x))).view('u4'))


def test_float16_and_back_bit_for_bit():
    x = np.random.default_rng(0).normal(size=99).astype('f4')*10.0**np.arange(-9, 7.9, 0.171).astype('f4')
    x[:5] = np.inf, -np.inf, 0, -0.0, 65520
    packed, out = device(np.full(99, POISON, 'f2')), poison(99)
    pack.pack(device(x), packed, threads=THREADS)
    pack.unpack(packed, out, threads=THREADS)
    with np.errstate(over='ignore'):
        assert np.array_equal(host(out), x.astype('f2').astype('f4'))


def test_nothing_to_do():
    empty = device(np.zeros(0), 'f4')
    mix.mix(empty, [empty, empty], [1, 2])
    pack.unpack(device(np.zeros(0, 'u2')), empty)
    update.sgd(empty, empty, empty, numbers(1, 0), numbers(1), numbers(0))
