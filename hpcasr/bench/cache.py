"""What of a file is in memory, and what this process has read and holds.  Linux."""

import ctypes
import mmap
import os

import numpy as np

DROP_CLEAN_PAGES = '1'  # of vm.drop_caches


def resident(path):
    """Share of the file's pages that are in the page cache, by mincore(2); None where the kernel will not tell."""
    with open(path, 'rb') as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
        pages = np.zeros(-(-len(m)//mmap.PAGESIZE), np.uint8)
        here = np.frombuffer(m, np.uint8)
        failed = ctypes.CDLL(None).mincore(ctypes.c_void_p(here.ctypes.data), ctypes.c_size_t(len(m)),
                                           ctypes.c_void_p(pages.ctypes.data))
        del here  # a mapping that is looked at cannot be closed
    return None if failed else float((pages & 1).mean())


def drop(path):
    """Drop the file's pages from the page cache: from that of the whole machine only if it refuses for the file."""
    with open(path, 'rb') as f:
        os.fsync(f.fileno())  # only clean pages can go
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if (resident(path) or 0) > 0.01:
        drop_all()


def drop_all():
    try:
        with open('/proc/sys/vm/drop_caches', 'w') as f:
            f.write(DROP_CLEAN_PAGES)
    except OSError:  # not ours to do; the resident share tells
        pass


def bytes_read():
    """Bytes that this process has had read from a disk."""
    return field('/proc/self/io', 'read_bytes')


def anonymous_memory():
    """Bytes of memory that belong to no file; mapped stores are not in it."""
    return 1024*field('/proc/self/status', 'RssAnon')


def field(path, name):
    """The integer after `name:` in a file of /proc."""
    with open(path) as f:
        return next(int(line.split()[1]) for line in f if line.startswith(name + ':'))
