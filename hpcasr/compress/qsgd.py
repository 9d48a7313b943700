"""QSGD (Alistarh, Grubic, Li, Tomioka and Vojnovic, NIPS 2017): a few bits an entry, rounded at random."""

import numpy as np

from hpcasr.compress.codec import Codec
from hpcasr.errors import BadInput
from hpcasr.kernels.reference.stochastic import BITS, BLOCK, words


class Qsgd(Codec):
    """m = sign(v) d ξ, with d = max|v|/s over a bucket, s = 2^(bits − 1) − 1 and whole ξ: E m = v.

    ξ is one of the two whole numbers next to |v|/d.  Buckets are of BLOCK entries: 4⌈n/512⌉ bytes and `bits` an entry,
    in whole words per bucket.
    """

    name, every = 'qsgd', BLOCK

    def __init__(self, ops, options):
        super().__init__(ops, options)
        self.bits = options.bits
        if self.bits not in BITS:
            raise BadInput(f'compress.bits = {self.bits}; give one of {", ".join(map(str, BITS))}')

    def size(self, n):
        return 4*words(n, self.bits)

    def encode(self, g, r, message, place=(0, 0, 0)):
        who, step, entry = place
        self.ops.pack_random(g, r, message.view(np.uint32), self.bits, stream(self.options.seed, who, step), entry)

    def decode(self, message, out):
        self.ops.unpack_random(message.view(np.uint32), out, self.bits)

    def add(self, message, out):
        self.ops.unpack_random(message.view(np.uint32), out, self.bits, add=True)


def stream(seed, who, step):
    """The 64 bits that name the random numbers of a learner, from -1, in a step: those of others are as independent."""
    return int(np.random.SeedSequence([seed, who + 1, step]).generate_state(1, np.uint64)[0])
