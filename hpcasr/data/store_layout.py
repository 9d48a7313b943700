"""What offsets, speakers and counts must be like before a frame is read.  O(U) memory, whatever the frames are."""

import zlib

import numpy as np

from hpcasr.data.store_file import INCOMPLETE
from hpcasr.data.store_segments import segment_shapes

CHECKED = 'offsets', 'speakers', 'counts'  # in the order of the attribute layout_crc


def layout_crc(f):
    """[3] crc32 of the small arrays in the HDF5 file `f`."""
    return np.array([zlib.crc32(f[name][:]) for name in CHECKED], 'u4')


def require_shapes(f):
    """ValueError unless the datasets of the HDF5 file `f` agree about utterances, frames and targets."""
    U, K = len(f['offsets']) - 1, int(f.attrs['num_targets'])
    shapes = {'offsets': (max(U, 1) + 1,), 'frames': f['frames'].shape[:2], 'targets': f['frames'].shape[:1]}
    shapes |= dict.fromkeys(['speakers', 'frames_crc', 'targets_crc', 'names', 'texts'], (U,))
    if f.attrs['targets_state'] != INCOMPLETE:
        shapes |= {'counts': (K,), 'target_names': (K,)} | segment_shapes(f, U)
    for name, shape in shapes.items():
        if f[name].shape != shape:
            raise ValueError(f'shape of {name} is {list(f[name].shape)}, expected {list(shape)}')


def layout_problems(store):
    """What is wrong with the small arrays of a Store, in words; checksums only where it has them: older ones do not."""
    arrays = [store.offsets, store.speakers, *([] if store.targets is None else [store.counts()])]
    for name, x, crc in zip(CHECKED, arrays, store.layout_crc, strict=False):
        if zlib.crc32(x) != crc:
            yield f'checksum of the {name} differs'
    N, S, x = store.num_frames, store.num_speakers, store.offsets
    if x[0] != 0 or x[-1] != N or (x[1:] <= x[:-1]).any():
        yield f'offsets do not grow from 0 to {N}'
    if not 0 <= store.speakers.min() <= store.speakers.max() < S:
        yield f'a speaker is not in 0..{S - 1}'
    if store.targets is not None and (store.counts().min(initial=0) < 0 or store.counts().sum() != N):
        yield f'counts of the targets do not come to {N} frames'
    x, M = store.segment_offsets, store.num_segments
    if x is not None and (x[0] != 0 or x[-1] != M or (x[1:] <= x[:-1]).any()):
        yield f'segment_offsets do not grow from 0 to {M}'
