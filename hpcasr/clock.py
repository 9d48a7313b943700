"""Where the seconds of a learner go."""

from dataclasses import dataclass
from time import perf_counter

import numpy as np


class Clock:
    """Seconds of this learner since some moment: in all, in exchanges (`comm`), waiting for data (`loader`)."""

    def __init__(self, comm, loader):
        self.comm, self.loader = comm, loader
        self.last = self.start = self.now()

    def now(self):
        return np.array([perf_counter(), self.comm.seconds, self.loader.seconds, self.comm.bytes_sent])

    def split(self):
        """Since the last call: seconds in all, in exchanges, waiting for data; bytes sent."""
        now = self.now()
        past, self.last = now - self.last, now
        return dict(zip(('seconds', 'exchange_seconds', 'data_seconds', 'bytes_sent'), past.tolist(), strict=True))

    def epoch(self):
        """The Shares since the last epoch."""
        now = self.now()
        past, self.start, self.last = now - self.start, now, now
        return Shares(*past[:3])


@dataclass
class Shares:
    """Seconds of a stretch of training: all, in exchanges, waiting for data."""

    seconds: float
    exchange: float
    data: float

    def __str__(self):
        exchange, data = 100*self.exchange/self.seconds, 100*self.data/self.seconds
        return f'compute {100 - exchange - data:.0f} % exchange {exchange:.0f} % data {data:.1f} %'
