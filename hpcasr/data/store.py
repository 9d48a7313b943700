"""A corpus in one HDF5 file: frames, targets, offsets and speakers are contiguous, uncompressed, and mapped when read.

    frames [N, D]   targets [N]   offsets [U+1]   speakers [U]   frames_crc [U]   targets_crc [U]   counts [K]
    names [U]   texts [U]   speaker_names [S]   target_names [K]       (UTF-8)

Ranks of a node share the page cache.  Every utterance has a crc32 of its frames and of its targets, compared when it is
first touched, so that a store that rots on disk is told from a model that does not learn.
"""

import hashlib
import json
import mmap
import os
import zlib
from contextlib import contextmanager
from functools import cached_property

import h5py
import numpy as np

from hpcasr.data.corpus import Corpus
from hpcasr.data.disk import Disk
from hpcasr.errors import BadInput

FORMAT, VERSION = 'hpcasr-store', 1
NONE, INCOMPLETE, COMPLETE = 'none', 'incomplete', 'complete'  # states of the targets
TEXT = h5py.string_dtype('utf-8')
ROOM = 1 << 20  # bytes to have in reserve where a store is changed: HDF5 cannot go back when a disk is full
LAYOUT = {'libver': 'v110',  # whose metadata have checksums: HDF5 crashes on damaged metadata that have none
          'alignment_threshold': mmap.PAGESIZE, 'alignment_interval': mmap.PAGESIZE}
MAPPED = 'frames', 'targets', 'offsets', 'speakers', 'frames_crc', 'targets_crc'


class Store(Corpus):
    """A store, opened for reading; its HDF5 file is closed again at once.  Raises BadInput for anything else.

    frontend, provenance   dicts: how the features were made; commands, source and date
    verify                 compare checksums at first touch
    targets                False: don't look at them, so that a store whose alignment was interrupted can get another
    """

    def __init__(self, path, verify=True, targets=True):
        with reading(path) as f:
            places = {name: place(f[name]) for name in MAPPED}
            self._counts = f['counts'][:]
            self.frontend, self.provenance = json.loads(f.attrs['frontend']), json.loads(f.attrs['provenance'])
            labelled = targets and is_labelled(path, f.attrs['targets_state'])
            num_targets, splice = int(f.attrs['num_targets']), [int(k) for k in f.attrs['splice']]
            digest = str(f.attrs['digest'])
        self._map = mapping(path, places)
        arrays = {name: array(self._map, *p) for name, p in places.items()}
        super().__init__(arrays['frames'], arrays['offsets'], arrays['targets'] if labelled else None,
                         num_targets if labelled else 0, arrays['speakers'], splice=splice, digest=digest, path=path)
        self.frames_crc, self.targets_crc = arrays['frames_crc'], arrays['targets_crc']
        self._places = places
        self._checked = np.full(self.num_utterances, not verify)
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

    def name(self, u):
        return self.names[u]

    def text(self, u):
        return self.texts[u]

    def counts(self):
        return self._counts.copy()

    def touch(self, u):
        """Compare the checksums of utterance u, once.  Raises BadInput."""
        if not self._checked[u]:
            if problem := self.damage(u):
                raise BadInput(f'{self.path}: {problem}; the file is damaged: import it again or restore a copy')
            self._checked[u] = True

    def damage(self, u):
        """What is wrong with the bytes of utterance u, or ''."""
        part = slice(self.offsets[u], self.offsets[u+1])
        if zlib.crc32(self.frames[part]) != self.frames_crc[u]:
            return f'utterance {self.name(u)}: checksum of the frames differs'
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


@contextmanager
def reading(path):
    """The HDF5 file of a store, without a lock: other ranks read it too, and some file systems have no locks."""
    try:
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
        raise BadInput(f'{path}: not a store, or a truncated one ({brief(e)}); import it again') from None


def brief(e):
    return ' '.join(str(e).split())[:120]


def is_labelled(path, state):
    if state == INCOMPLETE:
        raise BadInput(f'{path}: its targets are incomplete, an alignment was interrupted; run the alignment again')
    return state == COMPLETE


def place(dataset):
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


class StoreWriter:
    """Writes a store beside `path`, utterance by utterance, and renames it at the end of the `with` block.

    utterances   Utterances of the whole store, known beforehand
    dim, dtype   of the frames before splicing; splice is applied when they are read
    target_names [K]; then `append` takes targets
    Nothing is left behind by an exception, and a file that exists is kept unless `force`.  Raises BadInput.
    """

    def __init__(self, path, utterances, dim, dtype='float32', splice=(0, 0), frontend=None, provenance=None,
                 target_names=None, force=False):
        refuse_existing(path, force)
        self.path, self.utterances, self.target_names = str(path), utterances, target_names
        self.dim, self.dtype, self.splice = dim, np.dtype(dtype), splice
        self.frontend, self.provenance = frontend or {}, provenance or {}
        self.temporary, self.file = f'{path}.tmp-{os.getpid()}', None

    def __enter__(self):
        try:
            self.disk = Disk(self.temporary, 'w+b')
        except OSError as e:
            raise BadInput(f'{self.path}: {e.strerror}') from None
        try:
            self.file = h5py.File(self.disk, 'w', **LAYOUT)
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

    def append(self, frames, targets=None):
        """The next utterance: frames [T, dim], and [T] integer targets if the store has any."""
        u, a, b = self.at, *self.utterances.offsets[self.at:self.at+2]
        with np.errstate(over='ignore'):  # found by `check`
            frames = np.ascontiguousarray(frames, self.dtype)
        targets = np.ascontiguousarray(np.full(b - a, -1) if targets is None else targets, np.int32)
        self.check(u, frames, targets)
        self.file['frames'][a:b], self.file['targets'][a:b] = frames, targets
        self.crc['frames'][u], self.crc['targets'][u] = zlib.crc32(frames), zlib.crc32(targets)
        if self.target_names:
            self.counts += np.bincount(targets, minlength=len(self.counts))
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
        write_summary(self.file, self.crc, self.counts, self.target_names)
        self.file.close()
        self.disk.finish()
        os.replace(self.temporary, self.path)

    def abandon(self):
        if self.file:
            self.file.close()
        self.disk.close()
        os.unlink(self.temporary)


def refuse_existing(path, force):
    """BadInput if `path` exists and may not be replaced, or has no folder to lie in."""
    if not os.path.isdir(os.path.dirname(path) or '.'):
        raise BadInput(f'{path}: its folder does not exist; make it first')
    if os.path.exists(path) and not force:
        raise BadInput(f'{path}: exists; use --force to replace it')


def not_finite(frames):
    """The first NaN or infinity in words."""
    t, d = np.argwhere(~np.isfinite(frames))[0]
    return f'{frames[t, d]} in frame {t}, column {d}'


def write_summary(f, crc, counts, target_names):
    """Checksums, counts, names of the targets and digest."""
    for name, values in {'frames_crc': crc['frames'], 'targets_crc': crc['targets'], 'counts': counts}.items():
        replace(f, name, values)
    replace(f, 'target_names', list(target_names or []), TEXT)
    f.attrs.update(targets_state=COMPLETE if target_names else NONE, num_targets=len(counts), digest=digest(f))


def replace(f, name, values, dtype=None):
    if name in f:
        del f[name]
    f.create_dataset(name, data=values, dtype=dtype)


def digest(f):
    """sha256 over checksums, utterances, targets' names and front end: the same content has the same digest."""
    h = hashlib.sha256(json.dumps([f['frames'].shape, str(f['frames'].dtype), f.attrs['splice'].tolist(),
                                   json.loads(f.attrs['frontend'])], sort_keys=True).encode())
    for name in 'offsets', 'speakers', 'frames_crc', 'targets_crc', 'counts':
        h.update(f[name][:])
    for name in 'names', 'texts', 'speaker_names', 'target_names':
        h.update('\n'.join([name, *f[name].asstr()[:]]).encode())
    return h.hexdigest()


class Utterances:
    """Who and what a store holds: names, lengths in frames, speakers (an index into speaker_names), transcripts."""

    def __init__(self, names, lengths, speakers, speaker_names, texts=None):
        self.names, self.speaker_names = list(names), list(speaker_names)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.speakers = np.asarray(speakers, np.int32)
        self.texts = list(texts) if texts is not None else ['']*len(self.names)


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
        disk.reserve(room)
        with h5py.File(disk, 'r+', libver='v110') as f:
            yield f
        disk.finish()
    finally:
        disk.close()
