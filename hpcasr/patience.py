"""File systems of clusters vanish for a while: what fails for that is tried again, so often, and said."""

import errno
import sys
from time import sleep

from hpcasr.watch import flight

# a server that is away, a path that is being switched, a handle that is to be looked up anew
PASSING = frozenset(getattr(errno, name) for name in (
    'EIO', 'ESTALE', 'ETIMEDOUT', 'EAGAIN', 'EBUSY', 'ENODEV', 'ENXIO', 'ENOTCONN', 'ECONNRESET', 'ECONNREFUSED',
    'EHOSTDOWN', 'EHOSTUNREACH', 'ENETDOWN', 'ENETUNREACH', 'ESHUTDOWN', 'EREMOTEIO') if hasattr(errno, name))
PAUSES = 1, 2, 4, 8, 15, 30  # seconds


def patient(work, path, *args, also=()):
    """work(path, *args), which may be called again; an OSError that may pass is waited out for a minute in all.

    also   further errno that count as such
    Raises the last OSError.
    """
    for pause in PAUSES:
        try:
            return work(path, *args)
        except OSError as e:
            if e.errno not in PASSING and e.errno not in also:
                raise
            print(f'hpcasr: {path}: {e.strerror or e}; trying again in {pause} s', file=sys.stderr, flush=True)
        flight.FLIGHT.beat()  # the file system hangs, not this rank
        sleep(pause)
    return work(path, *args)
