"""Checkpoints: either whole, or not there.

EXP/checkpoints/000000123456/        named by the global samples consumed
    shared.h5                        what all learners agree on, written by learner 0
    rank0003.h5                      what only learner 3 has, where an algorithm has such a state
    manifest.json                    written last: sizes and SHA-256 of the files, world, versions, configuration
"""

import hashlib
import json
import math
import os
import pathlib
import shutil
from contextlib import contextmanager
from itertools import count

import h5py
import numpy as np

from hpcasr.errors import BadInput

FORMAT = 'hpcasr-checkpoint', 1


class Checkpoints:
    """The checkpoints of one experiment, shared by all learners.

    path   directory of the experiment
    keep   how many of the newest stay; the one with the lowest held-out cross-entropy stays, too
    """

    def __init__(self, path, comm, keep=3):
        self.root, self.comm, self.keep = pathlib.Path(path)/'checkpoints', comm, keep

    def save(self, samples, shared, own, facts):
        """Write one checkpoint; every learner calls it at the same step.

        shared   {name: array or number}, equal on all learners
        own      the same, of this learner alone; may be empty
        facts    {name: JSON value} for the manifest
        Raises BadInput on all learners if one of them cannot write; the older checkpoints are untouched then.
        """
        final, draft = self.root/f'{samples:012d}', self.root/f'.{samples:012d}.part'
        try:
            self.comm.first(prepare, draft)
            mine = {'shared.h5': shared} if self.comm.rank == 0 else {}
            mine |= {own_file(self.comm.rank): own} if own else {}
            written = self.comm.allgather(self.comm.together(write_all, draft, mine))
            files = {name: facts for of_one in written for name, facts in of_one.items()}
            self.comm.first(self.commit, draft, final, {**facts, 'samples': samples, 'files': files})
        except BadInput:
            self.comm.first(shutil.rmtree, draft, True)
            raise
        return final

    def commit(self, draft, final, manifest):
        """Manifest last, then the name: from here on the checkpoint exists."""
        with writing(draft):
            text = json.dumps({'format': FORMAT[0], 'version': FORMAT[1], **manifest}, indent=1)
            write_file(draft/'manifest.json', text.encode())
            old = draft.with_suffix('.old')
            if final.exists():  # a run stopped just here, and went on
                os.rename(final, old)
            os.rename(draft, final)
            sync_directory(self.root)
            shutil.rmtree(old, ignore_errors=True)
        self.rotate(final)

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
        own = path/own_file(self.comm.rank if rank is None else rank)
        return read_h5(path/'shared.h5'), read_h5(own) if own.exists() else {}


def own_file(rank):
    return f'rank{rank:04d}.h5'


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
        raise BadInput(f'{path}: {e.strerror or e}; {advice}') from None


def prepare(draft):
    """An empty directory to write to."""
    with writing(draft):
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)


def write_all(directory, files):
    """Write {name: values} as HDF5; return {name: {bytes, sha256}}."""
    with writing(directory):
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
    with h5py.File('image', 'w', driver='core', backing_store=False) as file:
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
        manifest = json.loads((path/'manifest.json').read_text())
        if (manifest['format'], manifest['version']) != FORMAT:
            raise BadInput(f'{path}: format {manifest["format"]} {manifest["version"]} is not read by this version')
        missing = {'shape', 'config', 'versions', 'total', 'store', 'dev', 'samples'} - set(manifest)
        if missing:
            raise BadInput(f'{path}: its manifest says nothing of {", ".join(sorted(missing))}')
        for name, facts in manifest['files'].items():
            if sha256(path/name) != facts['sha256']:
                raise BadInput(f'{path/name}: does not match its checksum')
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f'{path}: not a whole checkpoint ({getattr(e, "strerror", None) or e}); checkpoints have names '
                       'like EXP/checkpoints/000000006002') from None
    return manifest


def held_out(path):
    """The held-out cross-entropy in a manifest, or None."""
    try:
        ce = json.loads((path/'manifest.json').read_text())['ce']
        return ce if math.isfinite(ce) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def free_name(path):
    """NAME.bad, or the next that is free."""
    names = (path.with_name(f'{path.name}.bad{n or ""}') for n in count())
    return next(name for name in names if not name.exists())


def sha256(path):
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def prefixed(**parts):
    """{'part/name': value} of the states of several parts."""
    return {f'{part}/{name}': value for part, state in parts.items() for name, value in state.items()}


def part(state, name):
    """The state of one part, out of what `prefixed` made."""
    return {k.removeprefix(name + '/'): v for k, v in state.items() if k.startswith(name + '/')}
