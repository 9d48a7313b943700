"""Arrays that are used again."""

import numpy as np


class Pool:
    """Arrays of any content, each in one hand at a time."""

    def __init__(self):
        self.free = {}

    def take(self, shape, dtype):
        free = self.free.get((shape, np.dtype(dtype)))
        return free.pop() if free else np.empty(shape, dtype)

    def give(self, array):
        self.free.setdefault((array.shape, array.dtype), []).append(array)
