"""Device memory that every step uses again: what is taken in one step is taken in the next in the same order."""

from math import prod

import numpy as np


class DeviceArena:
    """Arrays for the time of one step; outside of a step they are fresh.

    generation   changes whenever memory was replaced by more: graphs that were captured before are void
    """

    def __init__(self, device):
        self.device, self.blocks, self.place, self.generation = device, [], None, 0

    def begin(self):
        """What was taken before may be overwritten from here on."""
        self.place = 0

    def end(self):
        self.place = None

    def take(self, *shape, dtype=np.float32):
        """An array of any content."""
        nbytes = prod(shape)*np.dtype(dtype).itemsize
        if self.place is None or not nbytes:
            return self.device.empty(shape, dtype)
        if self.place == len(self.blocks):
            self.blocks.append(self.device.empty(nbytes, np.uint8))
        elif self.blocks[self.place].nbytes < nbytes:
            self.blocks[self.place] = None  # back to the pool before more is asked for
            self.blocks[self.place] = self.device.empty(nbytes, np.uint8)
            self.generation += 1
        block = self.blocks[self.place]
        self.place += 1
        return block[:nbytes].view(dtype).reshape(shape)
