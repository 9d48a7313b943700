"""Memory that several processes of one machine share."""

import math
import mmap
import os

import numpy as np

LINE = 64  # bytes of a cache line: what one process writes often, another one must not have in the same


def share(node, nbytes, everyone):
    """([m, nbytes] bytes that the m processes of `node` share, all zero; ''), or (None, why there are none).

    node      a communicator of processes on one machine; row i begins a page, and lies near process i
    everyone  a communicator of all who must have such memory, or else all have none
    Called by all of them together.

    The memory is an anonymous file.  It is not confined to the size of /dev/shm, as MPI's shared windows are: 64 MB in
    containers, less where jobs were killed and left their files there.  Its pages are reserved here, so no later write
    ends in SIGBUS; and nothing is left behind, however the processes end.
    """
    stride = -(-nbytes//mmap.PAGESIZE)*mmap.PAGESIZE
    made, error = attempt(create, node.size*stride) if node.rank == 0 else (None, '')
    offer, error = node.bcast((made and made[1:], error))
    memory, error = (None, error) if error else attempt(attach, *offer, node.rank, node.size, stride)
    error = next(filter(None, everyone.allgather(error)), '')  # and now everybody has opened the file
    if made:
        os.close(made[0])
    return (None, error) if error else (memory[:, :nbytes], '')


def attempt(work, *args):
    try:
        return work(*args), ''
    except (OSError, ValueError, OverflowError) as e:
        return None, getattr(e, 'strerror', None) or str(e)
    except AttributeError:
        return None, 'this system has no memfd_create'


def create(nbytes):
    """(an anonymous file of `nbytes`, a path to it for other processes, which file it is)."""
    if nbytes > free():
        raise OSError(f'{nbytes/1e6:,.0f} MB would be shared, {free()/1e6:,.0f} MB are free')
    f = os.memfd_create('hpcasr')
    try:
        os.ftruncate(f, nbytes)
    except OSError:
        os.close(f)
        raise
    return f, f'/proc/{os.getpid()}/fd/{f}', identity(f)


def attach(path, which, row, rows, stride):
    """[rows, stride] bytes of the file at `path`, with memory reserved for `row`, by the process that will use it."""
    f = os.open(path, os.O_RDWR)
    try:
        if identity(f) != which:  # the processes of another container have other numbers
            raise OSError('processes of one machine do not see each other')
        os.posix_fallocate(f, row*stride, stride)
        return np.frombuffer(mmap.mmap(f, rows*stride), np.uint8).reshape(rows, stride)
    finally:
        os.close(f)


def identity(f):
    status = os.fstat(f)
    return status.st_dev, status.st_ino


def free():
    """Bytes of memory that this machine can give; infinite where it does not say."""
    with open('/proc/meminfo') as f:
        return next((int(line.split()[1])*1024 for line in f if line.startswith('MemAvailable')), math.inf)


def address(x):
    return x.__array_interface__['data'][0]
