"""What a store says of its content: checksums, counts, and a digest."""

import hashlib
import json
import zlib

import numpy as np

from hpcasr.data.store_file import COMPLETE, NONE, TEXT
from hpcasr.data.store_layout import layout_crc


def write_summary(f, crc, counts, target_names):
    """Checksums, counts, names of the targets and digest."""
    for name, values in {'frames_crc': crc['frames'], 'targets_crc': crc['targets'], 'counts': counts}.items():
        replace(f, name, values)
    replace(f, 'target_names', list(target_names or []), TEXT)
    f.attrs.update(targets_state=COMPLETE if target_names else NONE, num_targets=len(counts),
                   layout_crc=layout_crc(f), digest=digest(f))


def write_words(f, tree, lexicon):
    """The Tree and the Lexicon behind the targets in place of what is there; None: none."""
    for name, value in {'tree': tree, 'lexicon': lexicon}.items():
        if name in f:
            del f[name]
        if value is not None:
            text = value.dumps().encode()
            f[name] = np.bytes_(text)  # not TEXT, whose bytes HDF5 would leave behind at the next change
            f[name].attrs['crc32'] = zlib.crc32(text)


def replace(f, name, values, dtype=None):
    if name in f:
        del f[name]
    f.create_dataset(name, data=values, dtype=dtype)


def digest_problem(f):
    """What is wrong with all that is small in the HDF5 file `f`, or ''.  Reads every name and text."""
    changed = digest(f) != f.attrs['digest']
    parts = 'names, texts, offsets, checksums, tree, lexicon or front end'
    return f'digest differs: {parts} were changed' if changed else ''


def digest(f):
    """sha256 over checksums, utterances, targets' names, tree, lexicon and front end: same content, same digest."""
    h = hashlib.sha256(json.dumps([f['frames'].shape, str(f['frames'].dtype), f.attrs['splice'].tolist(),
                                   json.loads(f.attrs['frontend'])], sort_keys=True).encode())
    for name in 'offsets', 'speakers', 'frames_crc', 'targets_crc', 'counts':
        h.update(f[name][:])
    for name in 'names', 'texts', 'speaker_names', 'target_names':
        h.update('\n'.join([name, *f[name].asstr()[:]]).encode())
    for name in [name for name in ('tree', 'lexicon') if name in f]:
        h.update(name.encode() + f[name][()])
    for name in [name for name in ('segment_offsets', 'segments_crc') if name in f]:
        h.update(f[name][:])
    return h.hexdigest()
