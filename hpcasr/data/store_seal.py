"""The seal at the end of a store: a checksum of all that HDF5 parses, compared before it does.

HDF5 has crashed on damaged files (a signal, which no exception handler sees), and what it keeps texts in has no
checksum of its own.  So behind the last byte that belongs to HDF5, which does not mind, there is

    holes [n, 2] int64   what the checksum leaves out: the arrays that have checksums by utterance
    magic, n, size of what belongs to HDF5, crc32 of it without the holes and of `holes`

A file without a seal (of an earlier version, or changed by other programs, which cut it off) is first opened by a
process of its own (store_probe.py), which may crash in our place.
"""

import os
import signal
import subprocess
import sys
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from hpcasr.errors import BadInput
from hpcasr.given import opened

MAGIC, SIGNATURE = b'hpcasrS1', b'\x89HDF\r\n\x1a\n'  # ours, that of HDF5
TAIL = np.dtype([('magic', 'S8'), ('holes', '<i8'), ('size', '<i8'), ('crc', '<u4')])
LEFT_OUT = 'frames', 'targets', 'segments'
ROOM = 16*len(LEFT_OUT) + TAIL.itemsize  # bytes of the largest seal
BLOCK = 1 << 20  # bytes read at once
PROBE = Path(__file__).with_name('store_probe.py')
PATIENCE = 300  # seconds for a process to open a store, perhaps through a slow file system
SOUND = set()  # states of files that were found to be sound


def holes(f):
    """[n, 2] int64 of the HDF5 file `f`: where the large arrays begin and end in it."""
    found = [(d.id.get_offset(), d.id.get_storage_size()) for d in (f[name] for name in LEFT_OUT if name in f)]
    return np.array(sorted((at, at + size) for at, size in found if at is not None), '<i8').reshape(-1, 2)


def seal(disk, holes):
    """Put a seal behind what is in the open file `disk`."""
    size = disk.seek(0, os.SEEK_END)
    tail = np.array([(MAGIC, len(holes), size, checksum(disk, size, holes))], TAIL)
    disk.seek(size)
    disk.write(holes.tobytes() + tail.tobytes())


def find(f):
    """(size without it, holes, crc) of the seal of an open file, or None.  ValueError if it is damaged."""
    end = f.seek(0, os.SEEK_END)
    f.seek(max(end - TAIL.itemsize, 0))
    raw = f.read(TAIL.itemsize)
    if not raw.startswith(MAGIC) or len(raw) < TAIL.itemsize:
        refuse_rest(f, end)
        return None
    _, n, size, crc = np.frombuffer(raw, TAIL)[0].tolist()
    if not 0 <= n <= len(LEFT_OUT) or size < 0 or size + 16*n + TAIL.itemsize != end:
        raise ValueError('its seal is damaged')
    f.seek(size)
    holes = np.frombuffer(f.read(16*n), '<i8').reshape(-1, 2)
    edges = [0, *holes.reshape(-1).tolist(), size]
    if any(a > b for a, b in pairwise(edges)):
        raise ValueError('its seal is damaged')
    return size, holes, crc


def refuse_rest(f, end):
    """ValueError if an open file of `end` bytes without a seal is not HDF5's, or not as long as its superblock says."""
    f.seek(0)
    head = f.read(36)  # signature, version (2, 3), sizes, flags, base address, extension, end
    if head[:8] != SIGNATURE:
        raise ValueError('no HDF5 file')
    if len(head) < 36 or (head[8] in (2, 3) and int.from_bytes(head[28:], 'little') != end):
        raise ValueError('truncated, or something was appended')


def checksum(f, size, holes):
    """crc32 of the first `size` bytes of an open file without the holes, and of these."""
    crc = zlib.crc32(holes.tobytes())
    edges = np.concatenate([[0], holes.reshape(-1), [size]]).astype(np.int64)
    for first, last in edges.reshape(-1, 2).tolist():
        f.seek(first)
        for at in range(first, last, BLOCK):
            crc = zlib.crc32(f.read(min(BLOCK, last - at)), crc)
    return crc


def require_sound(path):
    """BadInput unless HDF5 may open the file.  Nothing is read twice while it stays as it is.  Raises OSError, too."""
    facts = os.stat(path)
    state = os.path.abspath(path), facts.st_ino, facts.st_size, facts.st_mtime_ns
    if state not in SOUND:
        if not is_sealed(path):
            probe(path)
        SOUND.add(state)


def is_sealed(path):
    """Whether there is a seal.  BadInput if it does not fit."""
    with opened(path) as f:
        try:
            found = find(f)
            if found and checksum(f, *found[:2]) != found[2]:
                raise ValueError('the checksum of its structure and its texts differs')
        except ValueError as e:
            raise BadInput(f'{path}: not a store, or truncated or damaged ({e}); import it again or restore a copy') \
                from None
    return found is not None


def probe(path):
    """BadInput if a process that opens the file is ended by a signal, or does not end."""
    try:
        status = subprocess.run([sys.executable, '-P', PROBE, path], stdin=subprocess.DEVNULL, capture_output=True,
                                timeout=PATIENCE).returncode
    except subprocess.TimeoutExpired:
        raise BadInput(f'{path}: HDF5 did not open it within {PATIENCE} s; import it again or restore a copy') from None
    if status < 0:  # everything else is told better by whoever opens it next
        raise BadInput(f'{path}: not a store, or a damaged one: HDF5 crashes on it ({signal.Signals(-status).name}); '
                       'import it again or restore a copy')
