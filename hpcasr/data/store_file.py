"""The HDF5 file of a store, opened for reading or for changes; whatever HDF5 meets is told in one line."""

import mmap
import os
import textwrap
from contextlib import contextmanager

import h5py

from hpcasr.data.disk import Disk
from hpcasr.data.store_seal import ROOM, holes, require_sound, seal
from hpcasr.errors import BadInput

FORMAT, VERSION = 'hpcasr-store', 1
NONE, INCOMPLETE, COMPLETE = 'none', 'incomplete', 'complete'  # states of the targets
TEXT = h5py.string_dtype('utf-8')
CREATION = {'libver': 'v110',  # whose metadata have checksums: HDF5 crashes on damaged metadata that have none
            'alignment_threshold': mmap.PAGESIZE, 'alignment_interval': mmap.PAGESIZE}


@contextmanager
def reading(path):
    """The HDF5 file of a store, without a lock: other ranks read it too, and some file systems have no locks."""
    refuse_no_file(path)
    try:
        require_sound(path)
        with h5py.File(path, 'r', locking=False) as f:
            if f.attrs.get('format') != FORMAT:
                raise BadInput(f'{path}: an HDF5 file, but not a store; make one with `hpcasr data import`')
            if f.attrs['version'] != VERSION:
                raise BadInput(f'{path}: store of version {f.attrs["version"]}, this is for {VERSION}; import it again')
            yield f
    except FileNotFoundError:
        raise BadInput(f'{path}: no such store; make it with `hpcasr data import`') from None
    except PermissionError as e:
        raise BadInput(f'{path}: {os.strerror(e.errno)}') from None
    except BadInput:
        raise
    except Exception as e:  # HDF5 meets damage with OSError, KeyError, RuntimeError, TypeError ...
        raise BadInput(f'{path}: not a store, or a truncated one ({gist(e)}); import it again') from None


def refuse_no_file(path):
    """BadInput for an empty name and for a directory."""
    if not str(path):
        raise BadInput('the name of a store is empty; give the path of its file')
    if os.path.isdir(path):
        raise BadInput(f'{path} is a directory, not a store; hpcasr data import {path} --out STORE makes one')
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe, which may never end
        raise BadInput(f'{path} is no file; expected a store, as hpcasr data import makes')


def refuse_damage(path, problem):
    """BadInput if there is a problem."""
    if problem:
        raise BadInput(f'{path}: {problem}; the file is damaged: import it again or restore a copy')


def gist(e):
    """The beginning of what HDF5 says, in one line without parentheses."""
    return textwrap.shorten(str(e).replace(' (', ': ').replace(')', ''), 120, placeholder=' ...')


@contextmanager
def changing(path, room):
    """The HDF5 file of a store, for changes that need `room` bytes; everything is on the disk afterwards."""
    with reading(path):
        pass
    try:
        disk = Disk(path, 'r+b')
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    try:
        disk.reserve(room + ROOM)  # first: without room the old seal stays; then HDF5 writes over it
        with h5py.File(disk, 'r+', libver='v110') as f:
            yield f
            left_out = holes(f)
        seal(disk, left_out)
        disk.finish()
    finally:
        disk.close()
