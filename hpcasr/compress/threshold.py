"""All entries beyond a threshold (Strom, Interspeech 2015), but as they are: the paper sends ± the threshold."""

import numpy as np

from hpcasr.compress.codec import Codec
from hpcasr.kernels.reference.sparse import words

HEAD = 2  # uint32: bytes of the message, entries in it


class Threshold(Codec):
    """m = v where |v| ≥ threshold, 0 elsewhere.

    8 bytes, 4 for each of the k values and, whichever is less, 4k of places or 4⌈n/32⌉ of a mask.
    """

    name, every, exact = 'threshold', None, True

    def size(self, n):
        return 4*(HEAD + words(n, n)) if n else 0

    def length(self, message):
        return int(message[:4].view(np.uint32)[0]) if len(message) else 0

    def encode(self, g, r, message, place=(0, 0, 0)):
        if not len(g):
            return
        code = message.view(np.uint32)
        count = self.ops.above(g, r, self.options.threshold, code[HEAD:])
        code[:HEAD] = 4*(HEAD + words(len(g), count)), count

    def decode(self, message, out):
        self.ops.scatter(*read(message), out)

    def add(self, message, out):
        self.ops.scatter(*read(message), out, add=True)


def read(message):
    """(code, entries) of a message, which may be longer than it needs to be."""
    code = message.view(np.uint32)
    if not len(code):
        return code, 0
    length, count = code[:HEAD].tolist()
    return code[HEAD:length//4], count
