"""A store gets other targets, in place."""

import json
import zlib

import numpy as np

from hpcasr.data.store_file import COMPLETE, INCOMPLETE, changing, reading, refuse_damage
from hpcasr.data.store_summary import digest_problem, write_summary
from hpcasr.errors import BadInput

ROOM = 1 << 20  # bytes to have in reserve where a store is changed: HDF5 cannot go back when a disk is full


def refuse_labelled(path, force):
    with reading(path) as f:
        if f.attrs['targets_state'] == COMPLETE and not force:
            raise BadInput(f'{path}: has targets already; use --force to replace them')


def write_targets(path, targets, num_targets, target_names, provenance, force=False):
    """Give a store its targets, in place: `targets` yields [T] integers per utterance, in the store's order.

    While they are written the store is incomplete, and readers refuse it.  Raises BadInput.
    """
    refuse_labelled(path, force)
    with reading(path) as f:
        if f.attrs['targets_state'] != INCOMPLETE:  # then its summary may be half written
            refuse_damage(path, digest_problem(f))
        room = ROOM + 16*len(f['names']) + 256*num_targets
    with changing(path, room) as f:
        f.attrs['targets_state'] = INCOMPLETE
    with changing(path, room) as f:
        crc, counts = overwrite(f, targets, num_targets)
        told = json.loads(f.attrs['provenance']) | {'targets': provenance}
        f.attrs['provenance'] = json.dumps(told)
        write_summary(f, {'frames': f['frames_crc'][:], 'targets': crc}, counts, target_names)


def overwrite(f, targets, num_targets):
    """Write the targets; return their checksums and counts."""
    offsets, crc, counts = f['offsets'][:], [], np.zeros(num_targets, np.int64)
    for a, b, t in zip(offsets[:-1], offsets[1:], targets, strict=True):
        t = np.ascontiguousarray(t, np.int32)
        assert t.shape == (b - a,), (t.shape, a, b)
        f['targets'][a:b] = t
        crc.append(zlib.crc32(t))
        counts += np.bincount(t, minlength=num_targets)
    return np.array(crc, 'u4'), counts
