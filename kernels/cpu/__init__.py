"""The Numba kernels: those of reference/, compiled for this processor and kept compiled on the disk.

Numba looks only at the file that holds a kernel when it asks whether a compiled copy is stale, and not at the files
it calls; so the copies lie in a folder of their own for every state of all kernels, versions and processor.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import sys
import tempfile
from contextlib import suppress

STATE = re.compile('[0-9a-f]{16}')


def cache_folder():
    """Where compiled kernels are kept: below $NUMBA_CACHE_DIR, $XDG_CACHE_HOME or ~/.cache, or a temporary folder.

    Numba runs what it finds there, so what the user has not named must be the user's own.  None: they are not kept.
    """
    given = os.environ.get('NUMBA_CACHE_DIR')
    if given:
        given = pathlib.Path(given)
        inherited = STATE.fullmatch(given.name)  # from a process that started this one, perhaps with older kernels
        return (given.parent if inherited else given)/state()
    base = next(filter(usable, candidates()), None)
    return base and base/'numba'/state()


def candidates():
    """Folders, the best first."""
    home = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
    if os.path.isabs(home):  # a user without an entry in /etc/passwd has no ~
        yield pathlib.Path(home)/'hpcasr'
    with suppress(OSError):  # no folder for temporary files can be written to
        yield pathlib.Path(tempfile.gettempdir())/f'hpcasr-{os.getuid()}'


def usable(folder):
    """Whether it is there, or can be made, belongs to this user, and can be written to."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        with tempfile.TemporaryFile(dir=folder):
            return found.st_uid == os.getuid() and not found.st_mode & 0o002
    except OSError:
        return False


def state():
    """16 digits that change with anything that could make a compiled kernel wrong or slow."""
    told = hashlib.sha256(f'{sys.version} {platform.machine()} {cpuinfo()} {options()}'.encode())
    for package in 'numba', 'llvmlite', 'numpy':
        told.update(f'{package} {importlib.metadata.version(package)}'.encode())
    here = pathlib.Path(__file__).parent
    for path in sorted([*here.glob('*.py'), *here.with_name('reference').glob('*.py')]):  # whose constants are used
        told.update(f'{path} {path.stat().st_mtime_ns}'.encode() + path.read_bytes())  # Numba looks at the time, too
    return told.hexdigest()[:16]


def options():
    """What the environment tells Numba, of the processor to compile for, for example."""
    return sorted(item for item in os.environ.items() if item[0].startswith('NUMBA_') and item[0] != 'NUMBA_CACHE_DIR'
                  and not item[0].startswith('NUMBA_CUDA_'))  # of GPUs, which kernels/cuda/launch.py sets


def cpuinfo():
    """Name and instruction sets, where Linux tells them."""
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return ' '.join(sorted({line for line in lines if line.startswith(('model name', 'flags', 'Features'))}))


if folder := cache_folder():
    os.environ['NUMBA_CACHE_DIR'] = str(folder)
    if 'numba' in sys.modules:  # it has read the environment already
        sys.modules['numba'].config.reload_config()
