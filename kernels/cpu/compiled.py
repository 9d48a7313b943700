"""How the kernels of this folder are compiled."""

import os

import numba


def compiled(*signatures, **options):
    """Decorates a kernel: Numba compiles it for these signatures, now, and keeps the result on the disk.

    options   of numba.njit, besides

    Not for types as they come: ranks that fill the cache at once, each with other types first, would give their files
    the same names.  A cache that cannot be read or written, because the disk is full for example, is done without.
    """
    kept = 'NUMBA_CACHE_DIR' in os.environ  # else Numba would keep it beside the source

    def decorate(kernel):
        try:
            return numba.njit(list(signatures), nogil=True, cache=kept, **options)(kernel)
        except Exception:  # OSError, RuntimeError, and from damaged files whatever pickle raises; else it comes again
            return numba.njit(list(signatures), nogil=True, **options)(kernel)
    return decorate
