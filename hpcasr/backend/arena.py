"""Memory that every training step uses again: what is taken in one step is taken in the next in the same order."""

from math import prod

import numpy as np

from hpcasr.aligned import zeros


class Arena:
    """Arrays of float32 for the time of one step; outside of a step they are fresh.

    A new array costs the operating system a page fault for every 4 KB, which is more than some layers compute.
    """

    def __init__(self):
        self.blocks, self.place = [], None

    def begin(self):
        """What was taken before may be overwritten from here on."""
        self.place = 0

    def end(self):
        self.place = None

    def take(self, *shape):
        """An array of any content."""
        size = prod(shape)
        if self.place is None:
            return np.empty(shape, np.float32)
        if self.place == len(self.blocks):
            self.blocks.append(np.empty(0, np.float32))
        if self.blocks[self.place].size < size:
            self.blocks[self.place] = zeros(size, np.float32)
        block = self.blocks[self.place]
        self.place += 1
        return block[:size].reshape(shape)
