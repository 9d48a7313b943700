import numpy as np
import pytest

from hpcasr.kernels.cuda import affine
from tests.cuda.memory import device, error, host, poison


@pytest.mark.parametrize(('kind', 'tolerance'), [('f4', 1e-6), ('u2', 4e-3)])
@pytest.mark.parametrize(('N', 'C'), [(1, 1), (7, 9), (30, 17), (3, 8)])
def test_bias_and_sum_of_rows(N, C, kind, tolerance, monkeypatch):
    monkeypatch.setattr(affine, 'ROWS', 4)
    monkeypatch.setattr(affine, 'PARTS', 6)
    rng = np.random.default_rng([N, C])
    x, bias = device(rng.normal(size=(N, C)), kind), device(rng.normal(size=C), 'f4')
    before, sums, scratch = host(x).astype(float), poison(C), poison(affine.parts(N), C)
    affine.sum_rows(x, sums, scratch, threads=8)
    affine.add_bias(x, bias, threads=8)
    np.testing.assert_allclose(host(sums), before.sum(0), atol=1e-5)
    assert error(host(x), before + host(bias)) < tolerance


def test_no_rows_sum_to_nothing():
    out = poison(5)
    affine.sum_rows(device(np.zeros((0, 5)), 'f4'), out, poison(affine.parts(0), 5), threads=8)
    assert not host(out).any()


@pytest.mark.parametrize('N', [0, 1, 63, 64, 127, 128, 5000, 10**6])
def test_parts_are_neither_short_nor_many(N):
    P = affine.parts(N)
    assert 1 <= P <= affine.PARTS and (P == 1 or N//P >= affine.ROWS)
