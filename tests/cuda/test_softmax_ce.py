import numpy as np
import pytest

from hpcasr.kernels.cuda import softmax_ce
from hpcasr.kernels.reference import softmax_ce as reference
from tests.cuda.memory import device, error, host, poison


@pytest.mark.parametrize(('kind', 'tolerance'), [('f4', 1e-6), ('u2', 6e-3)])
@pytest.mark.parametrize(('N', 'C', 'threads', 'masked', 'biased'), [
    (5, 37, 8, True, True), (1, 1, 4, False, False), (3, 2, 8, True, False), (2, 65, 16, False, True)])
def test_loss_errors_and_gradient(N, C, threads, masked, biased, kind, tolerance):
    rng = np.random.default_rng([N, C])
    z = device(4*rng.normal(size=(N, C)), kind)
    exact, bias = host(z).astype(float), rng.normal(size=C).astype('f4')*biased
    targets, keep = rng.integers(C, size=N).astype('i4'), rng.random(N) < 0.6 if masked else None
    loss, wrong, dz = reference.softmax_ce(exact + bias, targets, keep)
    losses, errors, out = poison(N), poison(N), poison(3)
    softmax_ce.softmax_ce(z, device(targets), None if keep is None else device(keep), losses, errors,
                          device(bias) if biased else None, threads=threads)
    softmax_ce.totals(losses, errors, out, threads=threads)
    assert error(host(z), dz) < tolerance
    np.testing.assert_allclose(host(out), [loss, wrong, 0], rtol=1e-6)
    assert not host(losses)[~(np.ones(N, bool) if keep is None else keep)].any()


def test_the_first_of_equal_logits_is_the_one_recognized():
    rows = np.zeros((4, 21), 'f4')
    rows[1, [6, 14]], rows[2, [3, 4, 20]] = 1, 2
    for kind in 'f4', 'u2':
        for targets, expected in ([0, 6, 3, 0], [0, 0, 0, 0]), ([5, 14, 4, 20], [1, 1, 1, 1]):
            errors = poison(4)
            softmax_ce.softmax_ce(device(rows, kind), device(targets, 'i4'), None, poison(4), errors, threads=8)
            assert host(errors).tolist() == expected


def test_far_apart_and_not_finite():
    """As the reference: what is not finite in a row shows in its loss; nothing else does."""
    rows = np.zeros((7, 9), 'f4')
    rows[0, 2], rows[1, 3], rows[2, 4], rows[3, 5], rows[4] = 3e38, -3e38, np.nan, np.inf, np.inf
    rows[5, 8], rows[6] = -np.inf, -np.inf
    targets = np.full(7, 7, 'i4')
    for kind in 'f4', 'u2':
        z, losses, out = device(rows, kind), poison(7), poison(3)
        softmax_ce.softmax_ce(z, device(targets), None, losses, poison(7), threads=4)
        softmax_ce.totals(losses, device(np.zeros(7), 'f4'), out, threads=4)
        assert np.isfinite(host(losses)).tolist() == [True, True, False, False, False, True, False]
        lost = ~np.isfinite(host(z)).all(1)
        assert not (lost & np.isfinite(host(losses))).any() and host(out)[2] == 1
    np.testing.assert_allclose(host(losses)[[0, 1]], [host(z := device(rows[:1], 'u2'))[0, 2], np.log(8)], rtol=1e-6)


@pytest.mark.parametrize(('N', 'C', 'biased'), [(3, 37, True), (1, 1, False)])
def test_log_softmax(N, C, biased):
    rng = np.random.default_rng(C)
    z, bias = (5*rng.normal(size=(N, C))).astype('f4'), rng.normal(size=C).astype('f4')*biased
    found = device(z)
    softmax_ce.log_softmax(found, device(bias) if biased else None, threads=8)
    np.testing.assert_allclose(host(found), reference.log_softmax(z.astype(float) + bias), atol=3e-6)


def test_totals_of_more_than_there_are_threads():
    x, y = np.random.default_rng(0).random((2, 1000)).astype('f4')
    out = poison(3)
    softmax_ce.totals(device(x), device(y), out, threads=16)
    np.testing.assert_allclose(host(out), [x.sum(dtype=float), y.sum(dtype=float), 0], rtol=1e-6)
