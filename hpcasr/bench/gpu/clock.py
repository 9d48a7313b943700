"""How long the GPU takes: between events of its stream."""

from itertools import pairwise
from time import perf_counter

import numpy as np


class Clock:
    """`laps(work, n)`: seconds of each of n calls of work(), which may not wait for the device."""

    def __init__(self, device):
        self.device = device

    def laps(self, work, n):
        """One behind the other, so that the device never waits for the host unless the host is slower."""
        if self.device.simulated:
            return [timed(work) for _ in range(n)]
        marks = [self.mark()]
        for _ in range(n):
            work()
            marks.append(self.mark())
        self.device.synchronize()
        elapsed = self.device.cupy.cuda.get_elapsed_time
        return [1e-3*elapsed(*pair) for pair in pairwise(marks)]

    def mark(self):
        event = self.device.cupy.cuda.Event()
        event.record(self.device.stream)
        return event

    def median(self, work, n=20, warmup=3):
        """Seconds of a call."""
        self.laps(work, warmup)
        return float(np.median(self.laps(work, n)))

    def mean(self, work, n):
        """Seconds of a call, of n in a row: what is between them counts, too."""
        return float(np.mean(self.laps(work, n)))


def timed(work):
    tic = perf_counter()
    work()
    return perf_counter() - tic
