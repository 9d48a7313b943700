"""The directory of an experiment: what was asked for, with which versions, and that it is done.

EXP/config.toml      the resolved configuration; `hpcasr train --config EXP/config.toml` repeats the run
EXP/versions.json    code, libraries, world, data
EXP/model.json       what the network takes and gives, for recognition (acoustic/card.py)
EXP/metrics.jsonl    recorder.py
EXP/checkpoints/     checkpoint.py
EXP/DONE             written when everything has succeeded, with the checksum of the final parameters
EXP/PAUSED           written when a run was asked to stop and has committed its checkpoint; gone when it goes on
"""

import hashlib
import json
import os
import pathlib
import platform
import shutil
from importlib import metadata

import numpy as np

import hpcasr
from hpcasr.checkpoint import sync_directory, write_file, writing
from hpcasr.errors import BadInput
from hpcasr.lock import hold

ENDS = 'DONE', 'PAUSED'
OURS = ('config.toml', 'versions.json', 'model.json', 'metrics.jsonl', 'checkpoints', 'tensorboard', *ENDS,
        'curves.png', '.drill')
LOCKS = []  # open files: closed, and so released, when the process ends


def claim(request):
    """Make EXP, or take it over if the request says so, and keep other jobs out of it.  Called by one rank.

    Raises BadInput if something is in its place, or another job is at work in it.  Writes nothing over anything.
    """
    path = pathlib.Path(request.out)
    with writing(path, 'choose another --out'):
        path.mkdir(parents=True, exist_ok=True)
        lock(path)
        used = [name for name in OURS if (path/name).exists()]
    if not used:
        return
    if not is_ours(path):
        raise BadInput(f'{path} holds {used[0]}, which no experiment of ours made; choose another --out')
    if not request.resume == 'auto' and not request.force:
        raise BadInput(f'{path} holds an experiment ({used[0]}); choose another --out, or go on in it with '
                       '--resume auto, or replace it with --force')
    if request.resume not in ('', 'auto') and path.resolve() in pathlib.Path(request.resume).resolve().parents:
        raise BadInput(f'{request.resume} lies in {path}, which --force would replace; go on in it with --resume auto')


def lock(path, work='training'):
    """Keep other jobs out of `path` until this process ends; BadInput if one is at `work` there."""
    LOCKS.append(hold(path, work))


def is_ours(path):
    try:
        return 'hpcasr' in json.loads((path/'versions.json').read_text())
    except (OSError, ValueError, TypeError):
        return False


def describe(request, config, versions, card):
    """Write what was asked for, with which versions, and what the model takes and gives.  Called by one rank.

    What was there goes, unless the run goes on.
    """
    path = pathlib.Path(request.out)
    with writing(path, 'choose another --out'):
        for name in ENDS if request.resume == 'auto' else OURS:  # work goes on here: neither done nor paused
            remove(path/name)
    write_down(path, config, versions, card)


def restore(path, config, versions, card):
    """Make EXP anew if somebody has removed it under the run; whether that was so.  Called by one rank."""
    if (path/'versions.json').exists():
        return False
    with writing(path, 'give it back, then start again with --resume auto'):
        path.mkdir(parents=True, exist_ok=True)
        if not (path/'.lock').exists():
            lock(path)
    write_down(path, config, versions, card)
    return True


def write_down(path, config, versions, card):
    with writing(path, 'choose another --out'):
        write_file(path/'versions.json', (json.dumps(versions, indent=1) + '\n').encode())
        write_file(path/'model.json', (json.dumps(card) + '\n').encode())
        write_file(path/'config.toml', toml(config).encode())


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def mark_done(path, facts, checkpoints):
    """Write DONE.  Called by one rank, when everything else has been written."""
    best = checkpoints.best()
    mark(path, 'DONE', facts | {'best': best and best.name})


def mark_paused(path, facts):
    """Write PAUSED.  Called by one rank, when the checkpoint of all has been committed."""
    mark(path, 'PAUSED', facts)


def mark(path, name, facts):
    """Write the file `name`, whole or not at all."""
    with writing(path):
        write_file(path/f'.{name}', (json.dumps(facts, indent=1) + '\n').encode())
        os.rename(path/f'.{name}', path/name)
        sync_directory(path)


def toml(config):
    """The Config as TOML text."""
    lines, section = [], None
    for name, value in config.flat().items():
        head, key = name.split('.')
        if head != section:
            lines.append(f'{chr(10) if section else ""}[{head}]')
            section = head
        lines.append(f'{key} = {json.dumps(value)}')
    return '\n'.join(lines) + '\n'


def versions():
    """{what: version} of everything that can change the bits of a run."""
    blas = np.show_config(mode='dicts')['Build Dependencies']['blas']
    return {'hpcasr': hpcasr.__version__, 'code': code_digest(), 'python': platform.python_version(),
            'numpy': np.__version__, 'numba': metadata.version('numba'), 'blas': f'{blas["name"]} {blas["version"]}',
            'blas threads': os.environ.get('OPENBLAS_NUM_THREADS', ''),
            'mpi4py': metadata.version('mpi4py'), 'machine': platform.machine()}


def code_digest():
    """SHA-256 over all of our sources, 16 digits."""
    digest = hashlib.sha256()
    root = pathlib.Path(hpcasr.__file__).parent
    for path in sorted(p for folder, _, names in os.walk(root, followlinks=True)
                       for p in (pathlib.Path(folder)/n for n in names) if p.suffix == '.py'):
        digest.update(str(path.relative_to(root)).encode() + b'\0' + path.read_bytes())
    return digest.hexdigest()[:16]


def checksum(x):
    """SHA-256 of the bytes of an array: equal for two runs that are equal bit for bit."""
    return hashlib.sha256(np.ascontiguousarray(x)).hexdigest()
