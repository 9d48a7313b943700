import numpy as np
import pytest

from hpcasr.kernels.cuda import lstm
from hpcasr.kernels.reference import lstm as reference
from hpcasr.kernels.reference.bf16 import same
from tests.cuda.memory import device, error, host, poison

EXACT, HALF = 2e-6, 2e-2


@pytest.mark.parametrize(('kinds', 'tolerance'), [('f4 f4 f4', EXACT), ('f4 u2 u2', HALF), ('u2 u2 u2', HALF)])
@pytest.mark.parametrize(('T', 'B', 'H', 'K', 'reverse', 'masked'), [
    (3, 2, 5, 2, False, True), (1, 1, 1, 2, False, False), (4, 1, 3, 1, False, True), (3, 2, 9, 1, True, True)])
def test_a_sequence_step_by_step(T, B, H, K, reverse, masked, kinds, tolerance):
    """States, gates and what products of gradients take, in one direction, the other, and both."""
    rng = np.random.default_rng([T, H])
    x, Wh, b = rng.normal(size=(K, T, B, 4*H)), 0.5*rng.normal(size=(K, H, 4*H)), rng.normal(size=(K, 4*H))
    mask, dy = rng.random((T, B)) < 0.7 if masked else None, rng.normal(size=(T, B, K*H))
    expected = [exact(x[k], Wh[k], b[k], mask, dy[..., k*H:][..., :H], (k + reverse) % 2) for k in range(K)]
    h, gates, c, dz = (np.stack(parts) for parts in zip(*expected, strict=True))
    found = simulated(x, Wh, b, mask, dy, reverse, *kinds.split())
    for one, other in zip(found, (np.concatenate(h, -1), gates, c, dz), strict=True):
        assert error(one, other) < tolerance


def exact(z, Wh, b, mask, dy, turned):
    """(h, gates, c, dz), in the order of time, of one direction, in float64."""
    flip = slice(None, None, -1 if turned else 1)
    gates = z[flip] + b
    h, c, tanh_c = reference.run(gates, Wh, None if mask is None else mask[flip], same)
    dz = reference.back(dy[flip], reference.slopes(gates, c, tanh_c), gates, tanh_c, Wh, same)
    return h[1:][flip], gates[flip], c[1:][flip], dz.reshape(gates.shape)[flip]


def simulated(x, Wh, b, mask, dy, reverse, z_kind, y_kind, dz_kind):
    """The same by the kernels, all directions at once; every array that is written was poisoned, every state NaN."""
    (K, T, B, H), threads = (*x.shape[:3], Wh.shape[1]), 4
    z, c, y = device(x, z_kind), poison(K, T, B, H), poison(T, B, K*H, dtype=y_kind)
    last, recurrent = poison(K, B, H, dtype=y_kind), np.full((K, B, 4*H), np.nan)
    mask = None if mask is None else device(mask)
    for s in range(T):
        lstm.forward(s, z, device(recurrent, 'f4'), [device(row, 'f4') for row in b], mask, c, y, last, reverse,
                     threads=threads)
        recurrent = host(last) @ Wh
    gates, recurrent = host(z).copy(), np.full((K, B, H), np.nan)
    dc, dz = device(recurrent, 'f4'), z if dz_kind == z_kind else poison(*z.shape, dtype=dz_kind)
    frame = np.arange(T)
    for s in reversed(range(T)):
        lstm.backward(s, z, c, device(dy, y_kind), device(recurrent, 'f4'), dc, dz, reverse, threads=threads)
        at = [frame[::-1 if (k + reverse) % 2 else 1][s] for k in range(K)]
        recurrent = np.stack([host(dz)[k, t] for k, t in enumerate(at)]) @ Wh.transpose(0, 2, 1)
    return host(y), gates, host(c), host(dz)


def test_extreme_sums_close_and_open_gates_and_nan_stays():
    z = np.zeros((1, 1, 4, 4), 'f4')
    z[0, 0, 0], z[0, 0, 1], z[0, 0, 2, 0] = 3e38, -3e38, np.nan
    y, bias = poison(1, 4, 1), device(np.zeros(4), 'f4')
    lstm.forward(0, device(z), poison(1, 4, 4), [bias], None, poison(1, 1, 4, 1), y, poison(1, 4, 1), threads=1)
    np.testing.assert_allclose(host(y)[0, :, 0], [np.tanh(1), 0, np.nan, 0], rtol=1e-6)
