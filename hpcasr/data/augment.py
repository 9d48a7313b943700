"""Features masked at random, anew in every epoch.

D. S. Park et al., "SpecAugment: a simple data augmentation method for automatic speech recognition", Interspeech 2019:
a stretch of time and a band of the spectrum are set to the mean, which is zero after mean normalization.
"""

import numpy as np


class Masks:
    """Masks for chunks of features.

    config   config.Data: time_mask, the most frames, and band_mask, the most neighbouring bands, that are masked
    blocks   how often the bands come in a frame: 3 with first and second derivatives; all are masked alike
    """

    def __init__(self, config, blocks):
        self.frames, self.bands, self.seed, self.blocks = config.time_mask, config.band_mask, config.seed, blocks

    def __call__(self, x, epoch, position):
        """Mask the chunk x [T, D] in place: a pure function of its position in the order of `epoch`."""
        rng = np.random.default_rng([self.seed, epoch, position, 1])
        T, bands = len(x), x.shape[1]//self.blocks
        lo, hi = stretch(rng, T, self.frames)
        x[lo:hi] = 0
        lo, hi = stretch(rng, bands, self.bands)
        x[:, :bands*self.blocks].reshape(T, self.blocks, bands)[:, :, lo:hi] = 0


def stretch(rng, n, most):
    """(lo, hi) of a stretch of 0 to `most` of n places; every length, and every place for it, is as likely."""
    length = int(rng.integers(min(most, n) + 1))
    lo = int(rng.integers(n - length + 1))
    return lo, lo + length


def get_masks(config, corpus):
    """The Masks of a config.Data for the features of a Corpus; None where nothing is masked."""
    if not (config.time_mask or config.band_mask):
        return None
    return Masks(config, (corpus.frontend.get('deltas', 0) + 1)*(1 + sum(corpus.splice)))
