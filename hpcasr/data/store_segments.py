"""The phones of every utterance in a store: which frames are which phone's, and which word's.

    segments [M, 4]   segment_offsets [U+1]   segments_crc [U]
"""

import os
import tempfile
import zlib
from contextlib import suppress

import numpy as np

from hpcasr.errors import BadInput

NAMES = 'segments', 'segment_offsets', 'segments_crc'
BLOCK = 1 << 20  # segments copied at once


class Collected:
    """Segments on their way into the store at `path`, in a nameless file beside it until their number is known.

    Raises BadInput where the disk is full.
    """

    def __init__(self, path):
        self.path, self.file, self.lengths, self.crc = str(path), None, [], []

    def close(self):
        if self.file:
            with suppress(OSError):  # of a full disk, told already
                self.file.close()

    def attempt(self, verb, *args, **options):
        try:
            return verb(*args, **options)
        except OSError as e:
            raise BadInput(f'{self.path}: {e.strerror}; make room and run the command again') from None

    @property
    def nbytes(self):
        """Room that `copy` will need."""
        return 16*sum(self.lengths) + 16*len(self.lengths)

    def append(self, segments, frames):
        """The [n, 4] segments of the next utterance, which has that many frames."""
        x = np.ascontiguousarray(segments, '<i4')
        assert x.ndim == 2 and x.shape[1] == 4 and x[:, 1].sum() == frames, (x.shape, frames)
        if self.file is None:
            self.file = self.attempt(tempfile.TemporaryFile, dir=os.path.dirname(self.path) or '.')
        self.attempt(self.file.write, x)
        self.lengths.append(len(x))
        self.crc.append(zlib.crc32(x))

    def copy(self, f):
        """Into the HDF5 file `f` in place of what it has, if anything was collected."""
        erase(f)
        if not self.lengths:
            return
        self.attempt(self.file.seek, 0)
        f['segment_offsets'] = np.concatenate([[0], np.cumsum(self.lengths)]).astype('i8')
        f['segments_crc'] = np.array(self.crc, 'u4')
        total = sum(self.lengths)
        f.create_dataset('segments', (total, 4), 'i4')
        for a in range(0, total, BLOCK):
            b = min(a + BLOCK, total)
            f['segments'][a:b] = np.frombuffer(self.attempt(self.file.read, 16*(b - a)), '<i4').reshape(-1, 4)


def erase(f):
    for name in NAMES:
        if name in f:
            del f[name]


def segment_shapes(f, U):
    """{name: shape} that the datasets of the HDF5 file `f` must have, whose segments may be none."""
    if 'segments' not in f:
        return {}
    return {'segments': (len(f['segments']), 4), 'segment_offsets': (U + 1,), 'segments_crc': (U,)}


def segment_problem(segments, frames, phones, words):
    """What is wrong with the segments [n, 4] of an utterance of so many frames and words, or ''.  phones None: any."""
    first, length, phone, word = segments.T.astype(np.int64)
    if (length < 1).any() or (first != np.cumsum(length) - length).any() or length.sum() != frames:
        return f'segments do not cover its {frames} frames in order'
    if phone.min() < 0 or (phones is not None and phone.max() >= phones):
        return f'segments name phones {phone.min()} .. {phone.max()}, of {phones or "an unknown number"}'
    spoken = word[word != -1]
    if (spoken < 0).any() or (spoken >= words).any() or (np.diff(spoken) < 0).any():
        return f'segments do not name its {words} words in order'
    return ''


def other_phone(segments, targets, owners):
    """The first frame whose target is no pdf of the phone that its segment names, or None.

    owners   [P, K] bool: whether a pdf belongs to a phone
    """
    if not 0 <= targets.min() <= targets.max() < owners.shape[1]:
        return None  # told elsewhere
    wrong = np.flatnonzero(~owners[np.repeat(segments[:, 2], segments[:, 1]), targets])
    return int(wrong[0]) if len(wrong) else None
