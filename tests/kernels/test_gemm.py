import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cpu import gemm as kernel
from hpcasr.kernels.cpu.gemm import BIAS, HIGH, SUM, WORK, ZERO, gemm
from tests.kernels.arrays import LAYOUTS, layouts, lengths


def product(A, B, C, bias, start):
    """C in float64, and the sum of magnitudes that its rounding errors are to be compared with."""
    A, B, C, bias = (x.astype(float) for x in (A, B, C, bias))
    added = {ZERO: 0*C, BIAS: 0*C + bias, SUM: C}[start]
    return added + A @ B, np.abs(added) + np.abs(A) @ np.abs(B)


def usable(x):
    """Contiguous along an axis, as a product wants it."""
    return x if 4 in x.strides else np.ascontiguousarray(x)


@settings(deadline=None, max_examples=150)
@given(M=lengths, N=lengths, K=lengths, a=layouts, b=layouts, start=st.sampled_from([ZERO, BIAS, SUM]),
       c=st.sampled_from(['rows', 'part of wider rows', 'every other row', 'from the last row']))
@example(M=0, N=5, K=5, a='rows', b='rows', c='rows', start=ZERO)
@example(M=5, N=0, K=5, a='columns', b='columns', c='rows', start=BIAS)
@example(M=7, N=70, K=0, a='rows', b='rows', c='rows', start=ZERO)  # an empty sum
@example(M=7, N=70, K=0, a='columns', b='columns', c='part of wider rows', start=BIAS)
@example(M=7, N=70, K=0, a='columns', b='rows', c='rows', start=SUM)
@example(M=HIGH + 7, N=65, K=513, a='rows', b='columns', c='rows', start=SUM)
@example(M=200, N=1, K=1030, a='columns', b='rows', c='rows', start=BIAS)
@example(M=1, N=1, K=1, a='columns', b='columns', c='rows', start=BIAS)
def test_any_sizes_and_layouts(M, N, K, a, b, c, start):
    rng = np.random.default_rng([M, N, K])
    A, B = (usable(LAYOUTS[way](rng.standard_normal(s).astype('f'))) for way, s in ((a, (M, K)), (b, (K, N))))
    C, bias, work = LAYOUTS[c](rng.standard_normal((M, N)).astype('f')), rng.standard_normal(N).astype('f'), workspace()
    if start != SUM:
        C[...] = np.nan  # must not matter
    same = A.copy(), B.copy(), bias.copy()
    expected, magnitude = product(A, B, np.nan_to_num(C), bias, start)
    gemm(A, B, C, bias, start, False, work)
    assert (np.abs(C - expected) <= 2e-6*magnitude).all()
    assert all(np.array_equal(*pair) for pair in zip(same, (A, B, bias), strict=True))


def workspace():
    """What the last product has left there must not matter."""
    return np.full(WORK, np.nan, np.float32)


@settings(deadline=None, max_examples=60)
@given(M=st.integers(1, 30), N=st.integers(1, 140), K=st.integers(0, 40), start=st.sampled_from([ZERO, BIAS, SUM]))
def test_nothing_is_written_beside_the_product(M, N, K, start):
    rng, around = np.random.default_rng(0), np.full((M + 2, N + 9), 7, 'f')
    A, B = rng.standard_normal((M, K)).astype('f'), rng.standard_normal((K, N)).astype('f')
    work = np.full(WORK + 64, 7, 'f')
    gemm(A, B, around[1:-1, 4:-5], np.zeros(N, 'f'), start, False, work[32:-32])
    assert (work[:32] == 7).all() and (work[-32:] == 7).all()
    around[1:-1, 4:-5] = 7
    assert (around == 7).all()


def test_a_row_for_every_row():
    """A matrix that is one row again and again, in memory, too."""
    A, B = np.lib.stride_tricks.as_strided(np.arange(5, dtype='f'), (9, 5), (0, 4)), np.ones((5, 70), 'f')
    C = np.empty((9, 70), 'f')
    gemm(A, B, C, np.zeros(70, 'f'), ZERO, False, workspace())
    assert (C == 10).all()
    gemm(B.T, A.T.copy(), (D := np.empty((70, 9), 'f')), np.zeros(9, 'f'), ZERO, False, workspace())
    assert (D == 10).all()


@pytest.mark.parametrize('bad', [np.nan, np.inf])
@pytest.mark.parametrize('shape', [(1, 1, 1), (7, 70, 33), (13, 64, 520)], ids=str)
def test_what_is_not_finite_shows_where_it_belongs(bad, shape):
    M, N, K = shape
    for which in 'AB':
        A, B, C = np.ones((M, K), 'f'), np.ones((K, N), 'f'), np.empty((M, N), 'f')
        (A if which == 'A' else B)[-1, -1] = bad
        gemm(A, B, C, np.zeros(N, 'f'), ZERO, False, workspace())
        where = np.zeros((M, N), bool)
        where[(-1, slice(None)) if which == 'A' else (slice(None), -1)] = True
        assert np.array_equal(C[where], np.full(where.sum(), bad, 'f'), equal_nan=True) and (C[~where] == K).all()


def test_a_product_has_the_same_bits_again():
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((50, 700)).astype('f'), rng.standard_normal((700, 90)).astype('f')
    results = []
    for a in A, A, np.asfortranarray(A):
        results.append(np.empty((50, 90), 'f'))
        gemm(a, B, results[-1], np.zeros(90, 'f'), ZERO, False, workspace())
    assert all(r.tobytes() == results[0].tobytes() for r in results)


@settings(deadline=None, max_examples=30)
@given(M=st.integers(0, 70), K=st.integers(0, 70), more=st.integers(0, 3))
def test_turn(M, K, more):
    x = np.random.default_rng(0).standard_normal((M, K + more)).astype('f')[:, :K]
    step = M + more
    target = np.full(K*step, np.nan, 'f')
    kernel.turn(x, target, step)
    assert np.array_equal(target.reshape(K, step)[:, :M], x.T) and np.isnan(target.reshape(K, step)[:, M:]).all()
