"""A corpus in one HDF5 file: frames, targets, offsets and speakers are contiguous, uncompressed, and mapped when read.

    frames [N, D]   targets [N]   offsets [U+1]   speakers [U]   frames_crc [U]   targets_crc [U]   counts [K]
    names [U]   texts [U]   speaker_names [S]   target_names [K]       (UTF-8)
and, where they are known,
    tree   lexicon   (JSON text)   segments [M, 4]   segment_offsets [U+1]   segments_crc [U]

Ranks of a node share the page cache.  Every utterance has a crc32 of its frames and of its targets, compared when it is
first touched, and so have offsets, speakers and counts, compared when the store is opened, and its segments, the tree
and the lexicon, compared when they are read: a store that rots on disk is told from a model that does not learn.
"""

import math
import mmap
import zlib
from functools import cached_property

import numpy as np

from hpcasr.align.tree import Tree
from hpcasr.data.corpus import Corpus
from hpcasr.data.store_file import COMPLETE, INCOMPLETE, reading, refuse_damage
from hpcasr.data.store_layout import layout_problems, require_shapes
from hpcasr.data.store_map import array, location, mapping
from hpcasr.data.store_segments import NAMES as SEGMENTS
from hpcasr.data.store_targets import refuse_labelled, write_targets
from hpcasr.data.store_writer import StoreWriter, Utterances, not_finite, refuse_existing
from hpcasr.errors import BadInput
from hpcasr.given import parsed

__all__ = ['Store', 'StoreWriter', 'Utterances', 'not_finite', 'refuse_existing', 'refuse_labelled', 'write_targets']
MOST = 10_000  # frames of context
MAPPED = 'frames', 'targets', 'offsets', 'speakers', 'frames_crc', 'targets_crc'


class Store(Corpus):
    """A store, opened for reading; its HDF5 file is closed again at once.  Raises BadInput for anything else.

    frontend, provenance   dicts: how the features were made; commands, source and date
    verify                 check offsets, speakers and counts now, and compare checksums at first touch
    targets                False: don't look at them, so that a store whose alignment was interrupted can get another
    """

    def __init__(self, path, verify=True, targets=True):
        with reading(path) as f:
            require_shapes(f)
            self._counts = f['counts'][:]
            frontend, self.provenance = (facts(f.attrs[name]) for name in ('frontend', 'provenance'))
            labelled = targets and is_labelled(path, f.attrs['targets_state'])
            segmented = bool(labelled and 'segments' in f)
            places = {name: location(f[name]) for name in (*MAPPED, *SEGMENTS*segmented)}
            num_targets, splice = int(f.attrs['num_targets']), context(f.attrs['splice'])
            digest, self.layout_crc = str(f.attrs['digest']), np.ravel(f.attrs.get('layout_crc', ()))
            self.num_speakers = len(f['speaker_names'])
        self._map = mapping(path, places)
        arrays = {name: array(self._map, *p) for name, p in places.items()}
        super().__init__(arrays['frames'], arrays['offsets'], arrays['targets'] if labelled else None,
                         num_targets if labelled else 0, arrays['speakers'], splice=splice, digest=digest, path=path,
                         frontend=frontend)
        self.frames_crc, self.targets_crc = arrays['frames_crc'], arrays['targets_crc']
        self._segments, self.segment_offsets, self.segments_crc = (arrays.get(name) for name in SEGMENTS)
        self.num_segments = len(self._segments) if segmented else 0
        self._places = places
        self._checked, self._segments_checked = np.full((2, self.num_utterances), not verify)
        if verify:
            refuse_damage(self.path, next(layout_problems(self), ''))
        self.advise(mmap.MADV_RANDOM, 0, self.num_frames)

    def strings(self, name):
        with reading(self.path) as f:
            return f[name].asstr()[:].tolist()

    @cached_property
    def names(self):
        """[U] utterance ids, read when first asked for; so are the other texts."""
        return self.strings('names')

    @cached_property
    def texts(self):
        return self.strings('texts')

    @cached_property
    def speaker_names(self):
        return self.strings('speaker_names')

    @cached_property
    def target_names(self):
        return self.strings('target_names')

    @cached_property
    def tree(self):
        """The Tree whose pdfs the targets are, or None.  Raises BadInput if it is damaged."""
        return self.words('tree', Tree)

    @cached_property
    def lexicon(self):
        """The Lexicon of the transcripts, or None.  Raises BadInput if it is damaged."""
        from hpcasr.align.lexicon import Lexicon  # not above: it takes kaldiio along, which training does not need
        return self.words('lexicon', Lexicon)

    def words(self, name, kind):
        """kind.loads of a text, None if there is none or the targets are not to be looked at."""
        if self.targets is None:
            return None
        with reading(self.path) as f:
            if name not in f:
                return None
            text, crc = f[name][()], f[name].attrs['crc32']
        refuse_damage(self.path, f'checksum of the {name} differs' if zlib.crc32(text) != crc else '')
        return kind.loads(text.decode(), f'{self.path}: its {name}')

    def segments(self, u):
        """[n, 4] int32, read-only, or None: the phones of utterance u in time order, as first frame, frames, phone of
        the tree, position of its word in the transcript (-1: silence).  Raises BadInput if they are damaged."""
        if self._segments is None:
            return None
        x = self._segments[self.segment_offsets[u]:self.segment_offsets[u+1]]
        if not self._segments_checked[u]:
            refuse_damage(self.path, self.segment_damage(u, x))
            self._segments_checked[u] = True
        return x

    def segment_damage(self, u, x):
        return f'utterance {self.name(u)}: checksum of the segments differs' if zlib.crc32(x) != self.segments_crc[u] \
            else ''

    def name(self, u):
        return self.names[u]

    def text(self, u):
        return self.texts[u]

    def counts(self):
        return self._counts.copy()

    def touch(self, u):
        """Compare the checksums of utterance u, once.  Raises BadInput."""
        if not self._checked[u]:
            refuse_damage(self.path, self.damage(u))
            self._checked[u] = True

    def damage(self, u):
        """What is wrong with the bytes of utterance u, or ''."""
        part = slice(self.offsets[u], self.offsets[u+1])
        if zlib.crc32(self.frames[part]) != self.frames_crc[u]:
            return f'utterance {self.name(u)}: checksum of the frames differs'
        if not np.isfinite(self.frames[part]).all():
            return f'utterance {self.name(u)}: {not_finite(self.frames[part])}'
        if self.targets is not None and zlib.crc32(self.targets[part]) != self.targets_crc[u]:
            return f'utterance {self.name(u)}: checksum of the targets differs'
        return ''

    def prefetch(self, u, start, stop):
        """Have the kernel read the whole utterance, because its first touch checks all of it."""
        if not self._checked[u]:
            start, stop = 0, self.length(u)
        self.advise(mmap.MADV_WILLNEED, self.offsets[u] + start, self.offsets[u] + stop)

    def advise(self, advice, first, last):
        """madvise on the pages of frames first..last and their targets, one of which may bring 8 MB of read-ahead."""
        for name in 'frames', 'targets':
            dtype, shape, start = self._places[name]
            row = int(np.prod(shape[1:]))*dtype.itemsize
            begin = (start + int(first)*row)//mmap.PAGESIZE*mmap.PAGESIZE
            self._map.madvise(advice, begin, start + int(last)*row - begin)


def facts(text):
    """The dict of a JSON text: front end, or provenance.  ValueError if it is none."""
    found = parsed(text)
    known = isinstance(found, dict) and found.get('deltas', 0) in range(3) and is_time(found.get('frame_shift', 1))
    if not known:
        raise ValueError('front end or provenance are not what they should be')
    return found


def is_time(seconds):
    return type(seconds) in (int, float) and 0 < seconds < math.inf


def context(splice):
    """[left, right].  ValueError if they are none, or beyond reason."""
    left, right = (int(k) for k in splice)
    if not (0 <= left <= MOST and 0 <= right <= MOST):
        raise ValueError(f'splice is {left}, {right}')
    return [left, right]


def is_labelled(path, state):
    if state == INCOMPLETE:
        raise BadInput(f'{path}: its targets are incomplete, an alignment was interrupted; run the alignment again')
    return state == COMPLETE
