"""Products in bf16: how factors are rounded, and that nothing else is."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcasr.backend import get_backend
from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput
from hpcasr.kernels.cpu.gemm import BIAS, DEEP, HIGH, SUM, WORK, ZERO, gemm
from hpcasr.kernels.cpu.processor import BF16
from hpcasr.kernels.reference.bf16 import rounded
from tests.kernels.arrays import LAYOUTS, error, layouts, lengths

LOWEST = 2.0**-126  # of float32 that are not subnormal


@pytest.fixture(scope='module', params=['cpu', 'reference'])
def ops(request):
    return get_backend(request.param, 'bf16')


def patterns():
    """Every bf16, and what lies between it and the next: right behind it, around the middle, right before the next."""
    upper, lower = np.arange(1 << 16, dtype='u4') << 16, np.array([0, 1, 0x7fff, 0x8000, 0x8001, 0xffff], 'u4')
    return (upper[:, None] | lower).ravel().view('f4')


def nearest(x):
    """By the definition, in float64: of the two neighbours the nearer one, or the one whose last bit is 0."""
    below = x.view('u4') & np.uint32(0xffff0000)
    above = below + np.uint32(0x10000)
    with np.errstate(invalid='ignore'):  # of NaN made float64
        far = np.abs(np.stack([below, above]).view('f4').astype(float) - x.astype(float))
    far[np.isinf(far)] = np.inf
    top = below & 0x7fffffff == 0x7f7f0000  # the next would be 2^128
    far[1, top] = 2.0**128 - np.abs(x[top].astype(float))
    up = (far[1] < far[0]) | ((far[1] == far[0]) & (below >> 16 & 1 == 1))
    return np.where(up, above, below).view('f4')


def test_rounded_is_the_nearest():
    x = patterns()
    finite, y = np.isfinite(x), rounded(x)
    assert y[finite].tobytes() == nearest(x[finite]).tobytes()
    assert np.array_equal(np.isnan(y), np.isnan(x)) and np.array_equal(y[np.isinf(x)], x[np.isinf(x)])
    assert not (y.view('u4') & 0xffff).any()


@pytest.mark.parametrize('which', ['A', 'B'])
def test_the_kernels_round_alike(which):
    """x times 1.  What is subnormal may become 0: the processor's instruction does so."""
    x = patterns()
    expected, C = rounded(x), np.empty((len(x), 1), 'f')
    A, one = x[:, None], np.ones((1, 1), 'f')
    if which == 'A':
        gemm(A, one, C, np.zeros(1, 'f'), ZERO, True, workspace())
    else:
        C = C.reshape(1, -1)
        gemm(one, A.T, C, np.zeros(len(x), 'f'), ZERO, True, workspace())
    tiny = np.abs(expected) < LOWEST
    assert np.array_equal(C.ravel()[~tiny], expected[~tiny], equal_nan=True)
    assert ((C.ravel()[tiny] == 0) | (C.ravel()[tiny] == expected[tiny])).all()


def workspace():
    """What the last product has left there must not matter."""
    return np.full(WORK, np.nan, np.float32)


@settings(deadline=None, max_examples=150)
@given(M=lengths, N=lengths, K=lengths, a=layouts, b=layouts, start=st.sampled_from([ZERO, BIAS, SUM]))
@example(M=7, N=70, K=0, a='rows', b='rows', start=BIAS)
@example(M=7, N=70, K=0, a='columns', b='columns', start=SUM)
@example(M=HIGH + 7, N=65, K=2*DEEP + 1, a='rows', b='columns', start=BIAS)
@example(M=200, N=1, K=2*DEEP - 1, a='columns', b='rows', start=SUM)
@example(M=1, N=1, K=1, a='columns', b='columns', start=ZERO)
def test_a_product_is_that_of_the_rounded_factors(M, N, K, a, b, start):
    rng = np.random.default_rng([M, N, K])
    A, B = (LAYOUTS[way](rng.standard_normal(s).astype('f')) for way, s in ((a, (M, K)), (b, (K, N))))
    A, B = (x if 4 in x.strides else np.ascontiguousarray(x) for x in (A, B))
    C, bias, before = rng.standard_normal((M, N)).astype('f'), rng.standard_normal(N).astype('f'), (A.copy(), B.copy())
    added = {ZERO: 0*C, BIAS: 0*C + bias, SUM: C}[start].astype(float)
    factors = [rounded(np.ascontiguousarray(x)).astype(float) for x in (A, B)]
    expected, magnitude = added + np.matmul(*factors), np.abs(added) + np.matmul(*map(np.abs, factors))
    if start != SUM:
        C[...] = np.nan  # must not matter
    gemm(A, B, C, bias, start, True, workspace())
    assert (np.abs(C - expected) <= 1e-6*magnitude).all()
    assert all(np.array_equal(*pair) for pair in zip(before, (A, B), strict=True))


@settings(deadline=None, max_examples=40)
@given(M=st.integers(1, 30), N=st.integers(1, 140), K=st.integers(0, 90), start=st.sampled_from([ZERO, BIAS, SUM]))
def test_nothing_is_written_beside_the_product(M, N, K, start):
    rng, around, work = np.random.default_rng(0), np.full((M + 2, N + 9), 7, 'f'), np.full(WORK + 64, 7, 'f')
    A, B = rng.standard_normal((M, K)).astype('f'), rng.standard_normal((K, N)).astype('f')
    gemm(A, B, around[1:-1, 4:-5], np.zeros(N, 'f'), start, True, work[32:-32])
    around[1:-1, 4:-5] = 7
    assert (around == 7).all() and (work[:32] == 7).all() and (work[-32:] == 7).all()


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('shape', [(1, 1, 1), (7, 70, 33), (13, 64, 1030)], ids=str)
@pytest.mark.parametrize('which', ['A', 'B'])
def test_what_is_not_finite_shows_where_it_belongs(bad, shape, which):
    """The first number of a pair and the last one of an odd row do not spoil their neighbours."""
    M, N, K = shape
    for k in 0, K - 1:
        A, B, C = np.ones((M, K), 'f'), np.ones((K, N), 'f'), np.empty((M, N), 'f')
        where = np.zeros((M, N), bool)
        (A.T if which == 'A' else B)[k, -1] = bad
        where[(-1, slice(None)) if which == 'A' else (slice(None), -1)] = True
        gemm(A, B, C, np.zeros(N, 'f'), ZERO, True, workspace())
        assert np.array_equal(C[where], np.full(where.sum(), bad, 'f'), equal_nan=True) and (C[~where] == K).all()


def sequence(T, B, D, H, dtype='float32'):
    """x, dh [T, B, 2H], and twice the weights of an LSTM."""
    rng = np.random.default_rng([T, B, D, H])
    weights = [rng.standard_normal(s)*scale for s, scale in (((D, 4*H), D**-0.5), ((H, 4*H), H**-0.5), ((4*H,), 1))*2]
    return [a.astype(dtype) for a in (rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2*H)), *weights)]


def outcome(ops, x, dh, *weights, mask=None):
    """h, dx and all gradients of an LSTM in both directions."""
    h, backward = ops.blstm(x, weights[:3], weights[3:], mask)
    gradients = [np.full_like(W, np.nan) for W in weights]
    return h, backward(dh, gradients[:3], gradients[3:]), *gradients


@pytest.mark.parametrize('shape', [(7, 9, 5, 3), (21, 8, 40, 64), (5, 13, 33, 70), (2, 3, 7, 129)], ids=str)
@pytest.mark.parametrize('holes', [False, True])
def test_lstm_within_the_precision_of_bf16(shape, holes, ops):
    arrays = sequence(*shape)
    mask = np.random.default_rng(0).random(shape[:2]) < 0.8 if holes else None
    exact = outcome(Ops(), *[a.astype(float) for a in arrays], mask=mask)
    for a, b in zip(outcome(ops, *arrays, mask=mask), exact, strict=True):
        assert a.dtype == np.float32 and error(a, b) < 1e-2


@pytest.mark.parametrize('shape', [(1, 4, 7, 5), (1, 1, 1, 1), (1, 13, 40, 64)], ids=str)
def test_a_step_of_an_lstm_has_no_other_errors_than_those_of_its_factors(shape, ops):
    x, dh, *weights = sequence(*shape)
    factors = [rounded(a).astype(float) if a.ndim > 1 else a.astype(float) for a in (x, *weights)]
    exact = outcome(Ops(), factors[0], dh.astype(float), *factors[1:])
    assert error(outcome(ops, x, dh, *weights)[0], exact[0]) < 2e-6


def test_both_backends_round_the_same_factors():
    """Where a float32 lies close to the middle of two bf16, sums in another order make a whole step of it."""
    arrays = sequence(9, 6, 11, 37)
    pairs = zip(*(outcome(get_backend(name, 'bf16'), *arrays) for name in ('cpu', 'reference')), strict=True)
    exact = outcome(get_backend('reference'), *arrays)
    for (a, b), c in zip(pairs, exact, strict=True):
        assert np.linalg.norm(a - b) < 0.2*np.linalg.norm(b - c)


def test_affine_takes_rounded_factors_and_sums_what_is_not(ops):
    rng = np.random.default_rng(0)
    x, W, b, dy = (rng.standard_normal(s).astype('f') for s in ((3, 7, 37), (37, 70), (70,), (3, 7, 70)))
    y, backward = ops.affine(x, W, b)
    dW, db = np.empty_like(W), np.empty_like(b)
    dx = backward(dy, dW, db)
    x2, dy2, rx, rW, rdy = (a.reshape(-1, a.shape[-1]).astype(float) for a in (x, dy, *map(rounded, (x, W, dy))))
    assert error(y.reshape(-1, 70), rx @ rW + b) < 1e-6 and error(dx.reshape(-1, 37), rdy @ rW.T) < 1e-6
    assert error(dW, rx.T @ rdy) < 1e-6 and error(db, dy2.sum(0)) < 1e-6
    assert error(y.reshape(-1, 70), x2 @ W.astype(float) + b) > 1e-4  # it is bf16 indeed


def test_it_is_said_what_computes():
    words = get_backend('cpu', 'bf16').describe()
    assert 'products of bf16' in words and ('emulated' in words) == (not BF16)
    assert 'bf16' not in get_backend('cpu').describe() + get_backend('reference').describe()


@pytest.mark.parametrize('name', ['cpu', 'reference', 'auto'])
def test_not_of_float64(name):
    with pytest.raises(BadInput, match=r'needs train\.dtype = float32, not float64'):
        get_backend(name, 'bf16', 'float64')
