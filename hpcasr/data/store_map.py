"""The large arrays of a store, mapped: the ranks of a node share them in the page cache."""

import mmap
import os

import numpy as np

from hpcasr.errors import BadInput


def location(dataset):
    """dtype, shape and position in the file of a contiguous dataset."""
    if dataset.chunks is not None or dataset.id.get_offset() is None:
        raise ValueError(f'{dataset.name} is not contiguous')
    return dataset.dtype, dataset.shape, dataset.id.get_offset()


def mapping(path, places):
    """The file, mapped for reading."""
    end = max(start + int(np.prod(shape))*dtype.itemsize for dtype, shape, start in places.values())
    with open(path, 'rb') as f:
        if os.fstat(f.fileno()).st_size < end:  # touching what is not there would end in SIGBUS
            raise BadInput(f'{path}: truncated; import it again')
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def array(buffer, dtype, shape, start):
    return np.frombuffer(buffer, dtype, int(np.prod(shape)), start).reshape(shape)
