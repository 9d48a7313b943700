"""A folder in which only one process works at a time."""

import fcntl
from pathlib import Path

from hpcasr.errors import BadInput


def hold(folder, work):
    """The open file FOLDER/.lock, locked until it is closed or this process ends; closed at once if the file system
    has no locks.

    work  what the holder does, for the message: BadInput if another process holds it.  Raises OSError, too.
    """
    file = open(Path(folder)/'.lock', 'w')
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise BadInput(f'{folder}: another job is {work} there; wait for it, or choose another --out') from None
    except OSError:  # a file system without locks
        file.close()
    return file
