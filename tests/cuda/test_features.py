import numpy as np
import pytest

from hpcasr.data.corpus import splice
from hpcasr.data.frontend import deltas
from hpcasr.kernels.cuda.features import features
from tests.cuda.memory import device, host, poison


def scales(order, window=2):
    """What data.frontend.deltas makes of a pulse, read backwards: the weights of the frames around one."""
    n = order*window
    pulse = np.zeros((2*n + 1 + 2*n, 1))
    pulse[2*n] = 1
    return deltas(pulse, order)[n:3*n + 1][::-1].T


@pytest.mark.parametrize(('order', 'normalized', 'context'), [(2, True, (1, 2)), (0, False, (0, 0)), (1, False, (2, 0)),
                                                              (0, True, (0, 1))])
def test_as_the_host_prepares_them(order, normalized, context):
    """Three chunks of two utterances, at their edges and inside, shorter than a batch and not; one all masked."""
    rng, D, T = np.random.default_rng(order), 3, 4
    frames, (left, right) = rng.normal(size=(11, D)).astype('f4'), context
    E, W = order + 1, 1 + left + right
    mean, inverse = rng.normal(size=(2, E*D)), rng.random((2, E*D)) + 0.5
    spans = np.array([[0, 6, 0, 4, 1], [0, 6, 3, 6, 0], [6, 11, 10, 11, 1], [6, 11, 7, 11, 0]], 'i4')
    masks = np.array([[1, 2, 0, 1], [0, 0, 2, 2], [0, 0, 0, 3], [0, 1, 1, 3]], 'i4')
    expected = np.zeros((T, len(spans), W*E*D))
    for b, ((lo, hi, begin, end, row), mask) in enumerate(zip(spans, masks, strict=True)):
        whole = deltas(frames[lo:hi].astype(float), order)
        whole = (whole - mean[row])*inverse[row] if normalized else whole
        x = np.zeros((end - begin, W*E*D))
        splice(whole, begin - lo, end - lo, context, x)
        x[mask[0]:mask[1]] = 0
        x.reshape(-1, W*E, D)[:, :, mask[2]:mask[3]] = 0
        expected[:end - begin, b] = x
    x = poison(*expected.shape)
    features(device(frames), device(spans), device(masks), x, left, device(scales(order), 'f4') if order else None,
             *([device(mean, 'f4'), device(inverse, 'f4')] if normalized else []), threads=16)
    np.testing.assert_allclose(host(x), expected, atol=1e-5)
