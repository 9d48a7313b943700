"""1-bit SGD (Seide, Fu, Droppo, Li and Yu, Interspeech 2014): a sign for every entry, two levels for every block."""

import numpy as np

from hpcasr.compress.codec import Codec
from hpcasr.kernels.reference.two_level import BLOCK, words


class OneBit(Codec):
    """m = the mean of the v ≥ 0 of its block where v ≥ 0, the mean of the v < 0 where v < 0.

    The two means are the levels of least squared error for these signs.  The paper takes a column of a matrix for a
    block; here it is BLOCK entries of the flat vector, so that it may be cut without regard to the shapes of layers:
    8⌈n/1024⌉ + 4⌈n/32⌉ bytes, 30 times fewer than float32.
    """

    name, every = 'onebit', BLOCK

    def size(self, n):
        return 4*words(n)

    def encode(self, g, r, message, place=(0, 0, 0)):
        self.ops.pack_levels(g, r, message.view(np.uint32))

    def decode(self, message, out):
        self.ops.unpack_levels(message.view(np.uint32), out)

    def add(self, message, out):
        self.ops.unpack_levels(message.view(np.uint32), out, add=True)
