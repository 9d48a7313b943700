"""How the kernels of this folder are compiled: once per node, while the other processes wait."""

import fcntl
import os
import time
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import numba

PATIENCE = 60  # s; then a process compiles for itself: the one whose turn it is may be stopped


def compiled(*signatures, **options):
    """Decorates a kernel: Numba compiles it for these signatures, now, and keeps the result on the disk.

    options   of numba.njit, besides

    Not for types as they come: ranks that fill the cache at once, each with other types first, would give their files
    the same names.  A cache that cannot be read or written, because the disk is full for example, is done without.
    """
    folder = os.environ.get('NUMBA_CACHE_DIR')  # None: Numba would keep it beside the source

    def decorate(kernel):
        mark = folder and Path(folder)/f'{kernel.__module__}.{kernel.__qualname__}'
        try:
            with turn(mark) if mark else nullcontext():
                return numba.njit(list(signatures), nogil=True, cache=bool(mark), **options)(kernel)
        except Exception:  # OSError, RuntimeError, and from damaged files whatever pickle raises; else it comes again
            return numba.njit(list(signatures), nogil=True, **options)(kernel)
    return decorate


@contextmanager
def turn(mark):
    """One process at a time, until one has succeeded and left the file `mark`.

    Whoever dies loses the turn.  Where no file can be written, or locked, nobody waits.
    """
    if mark.exists():
        yield
        return
    with ExitStack() as held:
        with suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            wait(held.enter_context(open(mark.parent/'.lock', 'w')), mark)
        yield
        with suppress(OSError):
            mark.touch()


def wait(file, mark):
    """Until the lock of `file` is ours, `mark` is there, or PATIENCE is at its end."""
    end = time.monotonic() + PATIENCE
    while not mark.exists() and time.monotonic() < end:
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
