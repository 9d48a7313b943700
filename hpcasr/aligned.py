"""Memory that begins with a line of the cache: vector instructions take twice as long for what lies in two lines."""

import numpy as np

LINE = 64  # bytes


def zeros(n, dtype):
    """[n] zeros."""
    room = np.zeros(n + LINE, dtype)
    at = -room.ctypes.data % LINE//room.itemsize
    return room[at:at + n]
