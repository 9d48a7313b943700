"""Checkpoints: either whole, or not there.

EXP/checkpoints/000000123456/        named by the global samples consumed
    shared.h5                        what all learners agree on, written by learner 0
    rank0003.h5                      what only learner 3 has, where an algorithm has such a state
    manifest.json                    written last: sizes and SHA-256 of the files, world, versions, configuration
"""

import errno
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
import threading
from collections import deque
from contextlib import contextmanager
from itertools import count
from time import perf_counter

import h5py
import numpy as np

from hpcasr.background import Background
from hpcasr.drill import NO_DRILL
from hpcasr.errors import BadInput
from hpcasr.given import json_of, opened
from hpcasr.patience import patient

FORMAT = 'hpcasr-checkpoint', 1
IMAGES = count()  # HDF5 opens no file twice, and several threads may make one


class Checkpoints:
    """The checkpoints of one experiment, shared by all learners.

    path         directory of the experiment
    keep         how many of the newest stay; the one with the lowest held-out cross-entropy stays, too
    background   write in a thread; else `begin` returns when all is written
    news         of learner 0: {samples, epoch, seconds, foreground_seconds, bytes} of those that have become whole, for
                 whoever takes them out
    """

    def __init__(self, path, comm, keep=3, background=False):
        self.root, self.comm, self.keep, self.background = pathlib.Path(path)/'checkpoints', comm, keep, background
        self.draft, self.copies, self.news, self.drill = None, {}, deque(), NO_DRILL

    def save(self, samples, shared, own, facts):
        """`begin` and `finish`; -> the path."""
        self.begin(samples, shared, own, facts)
        self.finish()
        return self.final(samples)

    def begin(self, samples, shared, own, facts):
        """Copy the state, and let a thread write one checkpoint of it; every learner calls it at the same step.

        It exists when all learners have written theirs: learner 0 sees that in the directory, or in `finish`, which
        whoever begins the next one does first.

        shared   {name: array or number}, equal on all learners
        own      the same, of this learner alone; may be empty
        facts    {name: JSON value} for the manifest
        Raises BadInput on all learners if one of them cannot write; the older checkpoints are untouched then.
        """
        self.finish()
        tic = perf_counter()
        mine = {'shared.h5': shared} if self.comm.rank == 0 else {}
        mine |= {own_file(self.comm.rank): own} if own else {}
        path = self.root/f'.{samples:012d}.part'
        self.comm.first(prepare, path)
        writers = [rank for rank, writes in enumerate(self.comm.allgather(bool(mine))) if writes and rank]
        self.copies = self.comm.together(copied, mine, self.copies)
        self.draft = Draft(self, path, self.final(samples), self.copies, writers, facts | {'samples': samples}, tic)
        if not self.background:
            self.finish()

    def finish(self):
        """Return when what was begun is whole; every learner calls it at the same step.

        Raises BadInput on all learners if one of them could not write; the older checkpoints are untouched then.
        """
        if not self.draft:
            return
        draft, self.draft = self.draft, None
        try:
            self.conclude(draft)
        except BadInput:
            if not self.comm.first(draft.gone):
                self.comm.first(shutil.rmtree, draft.path, True)
                raise
            self.comm.first(prepare, draft.path)  # somebody has removed it, but we still have what was in it
            draft.start()
            self.conclude(draft)

    def conclude(self, draft):
        written = self.comm.allgather(self.comm.together(draft.join))
        self.comm.first(draft.commit, {name: facts for of_one in written for name, facts in of_one.items()})

    @property
    def fault(self):
        """The BadInput that this learner has met in the background, or None."""
        fault = self.draft and self.draft.thread.fault
        return None if isinstance(fault, Vanished) else fault  # `finish` mends that

    def final(self, samples):
        return self.root/f'{samples:012d}'

    def rotate(self, newest):
        """Keep the newest ones, and the best one."""
        kept = {newest, self.best(), *self.paths()[:self.keep]}
        for path in self.paths():
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def best(self):
        """The checkpoint whose manifest says the lowest held-out cross-entropy, `ce`; None if none says any."""
        scored = [(ce, path) for path in reversed(self.paths()) if (ce := held_out(path)) is not None]
        return min(scored, key=lambda s: s[0])[1] if scored else None

    def paths(self):
        """All complete checkpoints, newest first."""
        complete = (p.parent for p in self.root.glob('*/manifest.json') if p.parent.name.isdigit())
        return sorted(complete, reverse=True)

    def newest(self):
        """(path, manifest, complaints about newer ones) of the newest whole checkpoint; path None if there is none.

        Raises BadInput if there are some, but all are damaged.
        """
        return self.comm.first(self.look)

    def look(self):
        """Find it, and set aside what is not whole: as NAME.bad it is neither counted nor deleted any more."""
        with writing(self.root, 'make it writable, or choose another --out'):
            self.tidy()
        damaged = {}
        for path in self.paths():
            try:
                manifest = verify(path)
            except BadInput as e:
                damaged[path] = str(e)
                continue
            with writing(self.root, 'make it writable, or choose another --out'):
                for bad in damaged:
                    os.rename(bad, free_name(bad))
            return path, manifest, list(damaged.values())
        if damaged:
            raise BadInput(f'{self.root}: all {len(damaged)} checkpoints are damaged ({next(iter(damaged.values()))}); '
                           'restore one, or start anew with another --out')
        return None, None, []

    def tidy(self):
        """Clear away what a killed run left half done."""
        for old in self.root.glob('.*.old'):  # killed between two renames: it still is the only one of its name
            final = self.root/old.name.strip('.').removesuffix('.old')
            shutil.rmtree(old, ignore_errors=True) if final.exists() else os.rename(old, final)
        for draft in self.root.glob('.*.part'):
            shutil.rmtree(draft, ignore_errors=True)

    def load(self, path, rank=None):
        """(shared, own) as they were saved, the latter by learner `rank`; None: by this one."""
        own = own_file(self.comm.rank if rank is None else rank)
        listed = own in json_of(path/'manifest.json')['files']  # nobody has compared the checksum of another
        return read_h5(path/'shared.h5'), read_h5(path/own) if listed else {}


class Draft:
    """A checkpoint that is being written: a thread of each learner writes its files.

    Behind its files a learner writes a note of them, rank0003.json, so that the thread of learner 0 can commit all of
    them without a message.  Where a file system shows the notes late, `commit` in the training's own thread is earlier.

    path, final   directory, until it is whole and from then on
    mine          {file: {name: array}} of this learner
    writers       other learners that write, as learner 0 has to know
    manifest      what goes into it beside the files
    """

    def __init__(self, checkpoints, path, final, mine, writers, manifest, begun):
        self.checkpoints, self.path, self.final = checkpoints, path, final
        self.mine, self.writers, self.manifest = mine, writers, manifest
        self.begun, self.copied, self.committed = begun, perf_counter() - begun, False
        self.start()

    def start(self):
        self.asked = threading.Event()
        self.thread = Background(self.write)

    def write(self):
        """-> {file: {bytes, sha256}} of this learner."""
        if not self.mine:  # the directory may have its final name already
            return {}
        with writing(self.path):
            self.checkpoints.drill.write()
            files = patient(write_all, self.path, self.mine, also=[errno.ENOENT])
            if self.checkpoints.comm.rank:
                patient(write_note, self.path, self.checkpoints.comm.rank, files)
                return files
            if not self.await_notes():
                return files
        self.commit(files | {name: facts for rank in self.writers for name, facts in self.note(rank).items()})
        return files

    def join(self):
        """As `write`; learner 0 does not wait for the notes of others any more."""
        self.asked.set()
        return self.thread.join()

    def gone(self):
        return not (self.path.exists() or self.final.exists())

    def await_notes(self):
        """Whether all notes are there; False if somebody has asked before."""
        wanted, pause = {note_file(rank) for rank in self.writers}, 0.01
        while not wanted <= set(os.listdir(self.path)):
            if self.asked.wait(pause):
                return False
            pause = min(2*pause, 1.0)
        return True

    def note(self, rank):
        with writing(self.path):
            return json.loads(patient(pathlib.Path.read_text, self.path/note_file(rank)))

    def commit(self, files):
        """Learner 0: manifest last, then the name: from here on the checkpoint exists."""
        if self.committed:
            return
        manifest = {'format': FORMAT[0], 'version': FORMAT[1], **self.manifest, 'files': files}
        with writing(self.path):
            patient(rename, self.path, self.final, json.dumps(manifest, indent=1).encode())
        self.committed = True
        self.checkpoints.drill.committed(self.final)
        self.checkpoints.rotate(self.final)
        self.checkpoints.news.append({
            'samples': manifest['samples'], 'epoch': round(manifest['samples']/max(manifest.get('total', 1), 1), 4),
            'seconds': perf_counter() - self.begun, 'foreground_seconds': self.copied,
            'bytes': sum(facts['bytes'] for facts in files.values())})


def own_file(rank):
    return f'rank{rank:04d}.h5'


def note_file(rank):
    return f'rank{rank:04d}.json'


def write_note(directory, rank, files):
    """Under its name when it is whole."""
    draft = directory/f'.{note_file(rank)}'
    write_file(draft, json.dumps(files).encode())
    os.rename(draft, directory/note_file(rank))


def rename(draft, final, manifest):
    """Give a whole draft its name; may be called again."""
    if draft.exists() or not final.exists():
        write_file(draft/'manifest.json', manifest)
        for note in draft.glob('rank*.json'):
            note.unlink()
        if final.exists():  # a run stopped just here, and went on
            os.rename(final, draft.with_suffix('.old'))
        os.rename(draft, final)
    sync_directory(final.parent)
    shutil.rmtree(draft.with_suffix('.old'), ignore_errors=True)


def copied(files, old):
    """A copy of {file: {name: value}}, in the memory of an older one where it fits.  Raises BadInput."""
    try:
        return {file: {name: into(old.get(file, {}).get(name), np.asarray(value)) for name, value in values.items()}
                for file, values in files.items()}
    except MemoryError:
        raise BadInput('there is no memory for a second copy of the model and its optimizer, from which checkpoints '
                       'are written; set a smaller model, or more memory for the job') from None


def into(old, value):
    """A copy of `value`, in `old` if that is alike."""
    if old is None or (old.shape, old.dtype) != (value.shape, value.dtype):
        return value.copy()
    np.copyto(old, value)
    return old


def own_files(path, manifest):
    """The files of the checkpoint at `path` that hold what one learner had, in learner order."""
    names = (name for name in manifest['files'] if name.startswith('rank'))
    return [path/name for name in sorted(names, key=lambda name: (len(name), name))]


@contextmanager
def writing(path, advice='older checkpoints are untouched: make room, then start again with --resume auto'):
    """Turn an OSError while writing below `path` into BadInput that says what to do."""
    try:
        yield
    except OSError as e:
        kind = Vanished if e.errno == errno.ENOENT else BadInput
        raise kind(f'{path}: {e.strerror or e}; {advice}') from None


class Vanished(BadInput):
    """What was written to is not there any more."""


def prepare(draft):
    """An empty directory to write to."""
    with writing(draft):
        shutil.rmtree(draft, ignore_errors=True)
        patient(make, draft)


def make(directory):
    directory.mkdir(parents=True, exist_ok=True)


def write_all(directory, files):
    """Write {name: values} as HDF5; return {name: {bytes, sha256}}.  May be called again."""
    make(directory)  # somebody may have removed it
    return {name: write_file(directory/name, h5_image(values)) for name, values in files.items()}


def write_file(path, content):
    """Write, flush to the disk, and only then say what was written."""
    with open(path, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {'bytes': len(content), 'sha256': hashlib.sha256(content).hexdigest()}


def sync_directory(path):
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def h5_image(values):
    """The bytes of an HDF5 file holding `values`: made in memory, so that a full disk is an OSError of one write."""
    with h5py.File(f'image{next(IMAGES)}', 'w', driver='core', backing_store=False) as file:
        for name, value in values.items():
            file.create_dataset(name, data=np.asarray(value))
        file.flush()
        return file.id.get_file_image()


def read_h5(path):
    """{name: array} of every dataset of a checkpoint's file."""
    out = {}
    with h5py.File(path, 'r', locking=False) as file:
        file.visititems(lambda name, item: out.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return out


def has_array(path, name):
    """Whether a checkpoint's file holds dataset `name`."""
    with h5py.File(path, 'r', locking=False) as file:
        return name in file


def read_array(path, name, entries=()):
    """The `entries`, an index, of dataset `name` of a checkpoint's file.  Raises BadInput if there is none."""
    with h5py.File(path, 'r', locking=False) as file:
        if name not in file:
            raise BadInput(f'{path}: holds no {name}: another version, or another form of the algorithm, made it; go '
                           'on with that, or start anew with another --out')
        return file[name][entries]


def verify(path):
    """The manifest of the checkpoint at `path`; raises BadInput if one of its files is missing, short or altered."""
    try:
        manifest = patient(json_of, path/'manifest.json')
        if (manifest['format'], manifest['version']) != FORMAT:
            raise BadInput(f'{path}: format {manifest["format"]} {manifest["version"]} is not read by this version')
        missing = {'shape', 'config', 'versions', 'total', 'store', 'dev', 'samples'} - set(manifest)
        if missing:
            raise BadInput(f'{path}: its manifest says nothing of {", ".join(sorted(missing))}')
        require_files(manifest['files'])
        for name, facts in manifest['files'].items():
            if patient(sha256, path/name) != facts['sha256']:
                raise BadInput(f'{path/name}: does not match its checksum')
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f'{path}: not a whole checkpoint ({getattr(e, "strerror", None) or e}); checkpoints have names '
                       'like EXP/checkpoints/000000006002') from None
    return manifest


def require_files(files):
    """ValueError unless these are the files of a checkpoint: HDF5 reads them next, and crashes on some damaged ones."""
    if 'shared.h5' not in files or not all(re.fullmatch(r'shared\.h5|rank\d{4,9}\.h5', name) for name in files):
        raise ValueError('its manifest lists other files than those of a checkpoint')


def held_out(path):
    """The held-out cross-entropy in a manifest, or None."""
    try:
        ce = json_of(path/'manifest.json')['ce']
        return ce if math.isfinite(ce) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def free_name(path):
    """NAME.bad, or the next that is free."""
    names = (path.with_name(f'{path.name}.bad{n or ""}') for n in count())
    return next(name for name in names if not name.exists())


def sha256(path):
    with opened(path) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def prefixed(**parts):
    """{'part/name': value} of the states of several parts."""
    return {f'{part}/{name}': value for part, state in parts.items() for name, value in state.items()}


def part(state, name):
    """The state of one part, out of what `prefixed` made."""
    return {k.removeprefix(name + '/'): v for k, v in state.items() if k.startswith(name + '/')}
