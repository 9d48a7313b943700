"""Alignments on their way from the ranks that made them to the one that writes the store: a file for every rank."""

import os
import shutil
import tempfile
from contextlib import contextmanager

import numpy as np

from hpcasr.checkpoint import writing
from hpcasr.errors import BadInput

ADVICE = 'make room, and run the same command again'


@contextmanager
def scratch(comm, beside):
    """A folder in the folder `beside`, which all ranks must see; it is gone afterwards."""
    path = comm.first(make, beside)
    try:
        yield path
        comm.barrier()
    finally:
        if comm.rank == 0:
            shutil.rmtree(path, ignore_errors=True)


def make(beside):
    with writing(beside, 'make it writable: parts of the alignment lie there for a while'):
        return tempfile.mkdtemp(prefix='.hpcasr-align-', dir=beside)


def write_part(path, alignments):
    """Write [(pdfs [T], segments [n, 4])] as records of int32: T, n, pdfs, segments.  Raises BadInput."""
    with writing(path, ADVICE), open(path, 'wb') as file:
        for pdfs, segments in alignments:
            head = np.array([len(pdfs), len(segments)], np.int32)
            for x in head, pdfs, segments:
                file.write(np.ascontiguousarray(x, np.int32))
        file.flush()
        os.fsync(file.fileno())


def read_part(path):
    """Yield what `write_part` wrote."""
    with writing(path, 'can rank 0 see what other ranks write there?'), open(path, 'rb') as file:
        while head := file.read(8):
            T, n = np.frombuffer(head, np.int32)
            yield read(file, T), read(file, 4*n).reshape(-1, 4)


def read(file, n):
    found = np.frombuffer(file.read(4*int(n)), np.int32)
    if len(found) < n:
        raise BadInput(f'{file.name}: truncated; {ADVICE}')
    return found
