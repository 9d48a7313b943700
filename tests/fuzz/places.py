"""What may lie where a file should be."""

import os
import shutil
import socket
from contextlib import suppress

from tests.fuzz.mutate import pick


def missing(path):
    pass


def directory(path):
    os.mkdir(path)


def fifo(path):
    """Nobody writes to it."""
    os.mkfifo(path)


def loop(path):
    os.symlink(path, path)


def nowhere(path):
    os.symlink('../nowhere/at/all', path)


def endless(path):
    os.symlink('/dev/zero', path)


def null(path):
    os.symlink('/dev/null', path)


def memory(path):
    """A file without a size that cannot be read where it begins."""
    os.symlink('/proc/self/mem', path)


def listening(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket may have 108 bytes
    with suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.bind(path.name)
    os.chdir(here)


def elsewhere(path):
    """A text that is not what it should be."""
    os.symlink('/etc/passwd', path)


PLACES = {f.__name__: f for f in (missing, directory, fifo, loop, nowhere, endless, null, memory, listening, elsewhere)}


def put(path, what):
    """`what`, bytes or a name in PLACES, at `path`."""
    clear(path)
    if isinstance(what, str):
        PLACES[what](path)
    else:
        path.write_bytes(what)


def clear(path):
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def some(rng):
    return pick(rng, list(PLACES))
