"""Where the seconds of a learner go."""

from dataclasses import dataclass

import numpy as np


class Clock:
    """Seconds of this learner since some moment: in all, in exchanges (`comm`), waiting for data (`loader`)."""

    def __init__(self, comm, loader):
        self.comm, self.loader = comm, loader
        self.last = self.start = self.read()

    def read(self):
        c = self.comm
        return np.array([c.now(), c.seconds - c.waited, c.waited, self.loader.seconds, c.bytes_sent])

    def split(self):
        """Since the last call: seconds in all, exchanging, waiting for peers, waiting for data; bytes sent."""
        now = self.read()
        past, self.last = now - self.last, now
        names = 'seconds', 'exchange_seconds', 'waiting_seconds', 'data_seconds', 'bytes_sent'
        return dict(zip(names, past.tolist(), strict=True))

    def epoch(self):
        """The Shares since the last epoch."""
        now = self.read()
        past, self.start, self.last = now - self.start, now, now
        return Shares(*past[:4])


@dataclass
class Shares:
    """Seconds of a stretch of training: all, exchanging, waiting for peers, waiting for data."""

    seconds: float
    exchange: float
    waiting: float
    data: float

    def __str__(self):
        exchange, waiting, data = (100*s/max(self.seconds, 1e-9) for s in (self.exchange, self.waiting, self.data))
        return (f'compute {100 - exchange - waiting - data:.0f} % exchange {exchange:.0f} % waiting {waiting:.0f} % '
                f'data {data:.1f} %')
