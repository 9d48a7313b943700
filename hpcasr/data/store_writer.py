"""A store is written: beside its path, utterance by utterance, and renamed when it is whole."""

import json
import os
import zlib

import h5py
import numpy as np

from hpcasr.data.disk import Disk
from hpcasr.data.store_file import CREATION, FORMAT, TEXT, VERSION
from hpcasr.data.store_seal import holes, seal
from hpcasr.data.store_segments import Collected
from hpcasr.data.store_summary import write_summary, write_words
from hpcasr.errors import BadInput


class Utterances:
    """Who and what a store holds: names, lengths in frames, speakers (an index into speaker_names), transcripts."""

    def __init__(self, names, lengths, speakers, speaker_names, texts=None):
        self.names, self.speaker_names = list(names), list(speaker_names)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.speakers = np.asarray(speakers, np.int32)
        self.texts = list(texts) if texts is not None else ['']*len(self.names)


class StoreWriter:
    """Writes a store beside `path`, utterance by utterance, and renames it at the end of the `with` block.

    utterances   Utterances of the whole store, known beforehand
    dim, dtype   of the frames before splicing; splice is applied when they are read
    target_names [K]; then `append` takes targets, and segments perhaps
    tree, lexicon behind the targets, or None
    Nothing is left behind by an exception, and a file that exists is kept unless `force`.  Raises BadInput.
    """

    def __init__(self, path, utterances, dim, dtype='float32', splice=(0, 0), frontend=None, provenance=None,
                 target_names=None, force=False, tree=None, lexicon=None):
        refuse_existing(path, force)
        self.path, self.utterances, self.target_names = str(path), utterances, target_names
        self.dim, self.dtype, self.splice = dim, np.dtype(dtype), splice
        self.frontend, self.provenance = frontend or {}, provenance or {}
        self.tree, self.lexicon, self.segments = tree, lexicon, Collected(self.path)
        self.temporary, self.file = f'{path}.tmp-{os.getpid()}', None

    def __enter__(self):
        try:
            self.disk = Disk(self.temporary, 'w+b', self.path)
        except OSError as e:
            raise BadInput(f'{self.path}: {e.strerror}') from None
        try:
            self.file = h5py.File(self.disk, 'w', **CREATION)
            self.lay_out()
            self.disk.check()
        except BaseException:
            self.abandon()
            raise
        return self

    def lay_out(self):
        u, N, U = self.utterances, int(self.utterances.offsets[-1]), len(self.utterances.names)
        f = self.file
        for name, values in ('names', u.names), ('texts', u.texts), ('speaker_names', u.speaker_names):
            f.create_dataset(name, data=values, dtype=TEXT)
        f['offsets'], f['speakers'] = u.offsets, u.speakers
        f.create_dataset('frames', (N, self.dim), self.dtype)
        f.create_dataset('targets', (N,), 'i4')
        self.crc = {'frames': np.zeros(U, 'u4'), 'targets': np.zeros(U, 'u4')}
        self.counts = np.zeros(len(self.target_names or ()), np.int64)
        self.at = 0
        f.attrs.update(format=FORMAT, version=VERSION, splice=np.array(self.splice, 'i4'),
                       frontend=json.dumps(self.frontend), provenance=json.dumps(self.provenance))

    def append(self, frames, targets=None, segments=None):
        """The next utterance: frames [T, dim], [T] integer targets if the store has any, their segments [n, 4]."""
        u, a, b = self.at, *self.utterances.offsets[self.at:self.at+2]
        with np.errstate(over='ignore'):  # found by `check`
            frames = np.ascontiguousarray(frames, self.dtype)
        targets = np.ascontiguousarray(np.full(b - a, -1) if targets is None else targets, np.int32)
        self.check(u, frames, targets)
        self.file['frames'][a:b], self.file['targets'][a:b] = frames, targets
        self.crc['frames'][u], self.crc['targets'][u] = zlib.crc32(frames), zlib.crc32(targets)
        if self.target_names:
            self.counts += np.bincount(targets, minlength=len(self.counts))
        if segments is not None:
            self.segments.append(segments, b - a)
        self.at += 1
        self.disk.check()

    def check(self, u, frames, targets):
        T = self.utterances.offsets[u+1] - self.utterances.offsets[u]
        assert frames.shape == (T, self.dim) and targets.shape == (T,), (frames.shape, targets.shape, T, self.dim)
        if not np.isfinite(frames).all():
            raise BadInput(f'{self.path}: utterance {self.utterances.names[u]}: {not_finite(frames)}; '
                           f'float16 ends at 65504, use --dtype float32')

    def __exit__(self, kind, *_):
        if kind is not None:
            return self.abandon()
        try:
            self.conclude()
        except OSError as e:
            self.abandon()
            raise BadInput(f'{self.path}: {e.strerror}') from None
        except BaseException:
            self.abandon()
            raise

    def conclude(self):
        assert self.at == len(self.utterances.names), (self.at, len(self.utterances.names))
        assert len(self.segments.lengths) in (0, self.at), 'segments of some utterances only'
        self.segments.copy(self.file)
        write_words(self.file, self.tree, self.lexicon)
        write_summary(self.file, self.crc, self.counts, self.target_names)
        left_out = holes(self.file)
        self.file.close()
        seal(self.disk, left_out)
        self.disk.finish()
        self.segments.close()
        os.replace(self.temporary, self.path)

    def abandon(self):
        self.segments.close()
        if self.file:
            self.file.close()
        self.disk.close()
        os.unlink(self.temporary)


def refuse_existing(path, force):
    """BadInput if `path` exists and may not be replaced, or has no folder to lie in."""
    if not str(path):
        raise BadInput('the name of the file to write is empty; give it as --out STORE')
    if os.path.isdir(path):
        raise BadInput(f'{path}: is a directory; give the name of a file in it')
    if not os.path.isdir(os.path.dirname(path) or '.'):
        raise BadInput(f'{path}: its folder does not exist; make it first')
    if os.path.lexists(path) and not force:  # also a link to nowhere
        raise BadInput(f'{path}: exists; use --force to replace it')
    if os.path.exists(path) and not os.path.isfile(path):  # a device, which would become a file
        raise BadInput(f'{path}: is no file, and is not replaced; give another name with --out')


def not_finite(frames):
    """The first NaN or infinity in words."""
    t, d = np.argwhere(~np.isfinite(frames))[0]
    return f'{frames[t, d]} in frame {t}, column {d}'
