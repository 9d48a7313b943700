"""The input of a network from static features: derivatives, normalization, context and masks, as the host makes it."""

import numpy as np

from hpcasr.backend import get_backend
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import away, fresh, judged, poisoned, put
from hpcasr.data.corpus import splice
from hpcasr.data.frontend import deltas
from hpcasr.kernels.cuda.features import features

ORDER, WINDOW, CONTEXT = 2, 2, (5, 5)  # of derivatives; frames to each side of one that they are made of; of context
BANDS, UTTERANCES = 13, 3
NEAR = 2e-6


def measure(sizes):
    (seed, rng), device = fresh(), get_backend('cuda').device
    case = next(iter(sizes.cases.values()))
    T, B = case.chunk, case.batch
    frames, spans, masks = drawn(rng, T, B)
    mean, inverse = rng.normal(size=(UTTERANCES, (ORDER + 1)*BANDS)), rng.random((UTTERANCES, (ORDER + 1)*BANDS)) + 0.5
    exact = np.stack([prepared(frames, *of, mean, inverse, T) for of in zip(spans, masks, strict=True)], 1)
    x = poisoned(device, exact.shape)
    there = [put(device, a) for a in (frames, spans, masks)]
    rest = [put(device, a.astype(np.float32)) for a in (weights(), mean, inverse)]

    def work():
        device.do(features, *there, x, CONTEXT[0], *rest)
    work()
    yield judged('features of a batch', away(device.host(x), exact), NEAR, seed=seed)
    yield {'what': 'features of a batch', 'batch': B, 'ms': 1e3*Clock(device).median(work)}


def drawn(rng, T, B):
    """(frames [N, D], spans [B, 5], masks [B, 4]) as kernels/cuda/features.py takes them: chunks of some utterances."""
    length = T + 7
    utterance, begin = rng.integers(0, UTTERANCES, B), rng.integers(0, length, B)
    lo = utterance*length
    end = np.minimum(begin + T, length)
    first, band = rng.integers(0, T, B), rng.integers(0, BANDS, B)
    frames = rng.standard_normal((UTTERANCES*length, BANDS), np.float32)
    spans = np.stack([lo, lo + length, lo + begin, lo + end, utterance], 1)
    masks = np.stack([first, first + T//4, band, np.minimum(band + 3, BANDS)], 1)
    return frames, spans.astype(np.int32), masks.astype(np.int32)


def prepared(frames, span, mask, mean, inverse, T):
    """[T, W E D] of one chunk, in float64, by what prepares them on the host."""
    lo, hi, begin, end, row = span
    whole = (deltas(frames[lo:hi].astype(float), ORDER) - mean[row])*inverse[row]
    x = np.zeros((T, (1 + sum(CONTEXT))*whole.shape[1]))
    splice(whole, begin - lo, end - lo, CONTEXT, x[:end - begin])
    x[mask[0]:mask[1]] = 0
    x.reshape(T, -1, BANDS)[:, :, mask[2]:mask[3]] = 0
    return x


def weights():
    """[E, 2n + 1] of the frames around one: what `deltas` makes of a pulse, read backwards."""
    n = ORDER*WINDOW
    pulse = np.zeros((4*n + 1, 1))
    pulse[2*n] = 1
    return deltas(pulse, ORDER)[n:3*n + 1][::-1].T
