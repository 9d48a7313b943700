"""From static features to the input of a network: derivatives, normalization, context and masks in one pass.

What data/frontend.py, data/corpus.py and data/augment.py do one after the other; a thread for an entry of the result.
"""

import numpy as np
from numba import cuda, float32

from hpcasr.kernels.cuda.launch import THREADS, blocks, device, kernel, nothing


def features(frames, spans, masks, x, left=0, scales=None, mean=None, inverse=None, stream=None, threads=THREADS):
    """x [T, B, W·E·D] f ← chunk b of the utterances in `frames` [N, D] f; zero behind its end and where masked.

    spans [B, 5] int32     of chunk b: first frame and end of its utterance, first frame and end of itself, in `frames`,
                           and the row of `mean` that is its speaker's, or its utterance's
    masks [B, 4] int32     frames lo, hi of the chunk and bands lo, hi, of the D of every block, that are set to zero
    scales [E, 2n+1] f     what the E blocks of a frame are made of: block e ← Σ_i scales[e, i] frames[t + i − n], where
                           the first and the last frame of an utterance are repeated; None: the frames themselves
    mean, inverse [S, E·D] f   (block − mean) inverse follows, inverse = 1/σ; None: nothing
    left                   context frames to the left, of W in all; the edges of the utterance are repeated
    """
    T, B, dim = x.shape
    none = nothing('f4', 2)
    assemble((T, B, blocks(dim, threads)), threads, stream, frames, spans, masks, np.int32(left),
             none if scales is None else scales, none if mean is None else mean, none if mean is None else inverse, x)


@device
def near(frames, t, lo, hi, f, scales, e):
    """Block e of frame t of the utterance lo .. hi-1, at f; the frame itself where there are no scales."""
    if not scales.shape[0]:
        return frames[min(max(t, lo), hi - 1), f]
    n, total = scales.shape[1]//2, float32(0)
    for i in range(scales.shape[1]):
        scale = scales[e, i]
        if scale != float32(0):
            total += scale*frames[min(max(t + i - n, lo), hi - 1), f]
    return total


@kernel('void(f4[:,::1], i4[:,::1], i4[:,::1], i4, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])', registers=64)
def assemble(frames, spans, masks, left, scales, mean, inverse, x):
    t, b = cuda.blockIdx.x, cuda.blockIdx.y
    k = cuda.blockIdx.z*cuda.blockDim.x + cuda.threadIdx.x
    if k >= x.shape[2]:
        return
    lo, hi, begin, end, row = spans[b, 0], spans[b, 1], spans[b, 2], spans[b, 3], spans[b, 4]
    D, E = frames.shape[1], max(scales.shape[0], 1)
    f, e, w = k % D, k//D % E, k//(D*E)
    v = float32(0)
    if t < end - begin and not (masks[b, 0] <= t < masks[b, 1] or masks[b, 2] <= f < masks[b, 3]):
        source = min(max(begin + t + w - left, lo), hi - 1)
        v = near(frames, source, lo, hi, f, scales, e)
        if mean.shape[0]:
            v = (v - mean[row, e*D + f])*inverse[row, e*D + f]
    x[t, b, k] = v
