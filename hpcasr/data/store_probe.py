"""Open the HDF5 file that is named on the command line and read all of it that is small: a crash is an answer, too.

Run by store_seal.py in a process of its own, which has nothing to lose.
"""

import os
import resource
import sys

import h5py

ROOM = 4 << 30  # bytes of address space beyond three times the file
SMALL = 1 << 28  # bytes of a dataset that is read


def main(path):
    most = 3*os.path.getsize(path) + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with h5py.File(path, 'r', locking=False) as f:
        look(f)
        f.visititems(lambda _, item: look(item))


def look(item):
    """Everything of one group or dataset, as far as it can be read."""
    try:
        dict(item.attrs)
        if isinstance(item, h5py.Dataset) and item.nbytes <= SMALL:
            item[()]
    except Exception:  # told by whoever opens it next
        pass


if __name__ == '__main__':
    main(sys.argv[1])
