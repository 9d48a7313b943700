"""The Numba kernels: those of reference/, compiled for this processor and kept compiled on the disk.

Numba looks only at the file that holds a kernel when it asks whether a compiled copy is stale, and not at the files
it calls; so the copies lie in a folder of their own for every state of all kernels, versions and processor.
"""

import hashlib
import importlib.metadata
import os
import pathlib
import platform
import sys
import tempfile
from contextlib import suppress


def cache_folder():
    """Where compiled kernels are kept: below $XDG_CACHE_HOME or ~/.cache, or a temporary folder of this user.

    Numba runs what it finds there, so it must not be anybody else's.  None: they are not kept.
    """
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
    told = hashlib.sha256(f'{sys.version} {platform.machine()} {processor()}'.encode())
    for package in 'numba', 'llvmlite', 'numpy':
        told.update(f'{package} {importlib.metadata.version(package)}'.encode())
    for path in sorted(pathlib.Path(__file__).parent.glob('*.py')):
        told.update(path.name.encode() + path.read_bytes())
    return told.hexdigest()[:16]


def processor():
    """Name and instruction sets, where Linux tells them."""
    try:
        lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        return platform.processor()
    return ' '.join(sorted({line for line in lines if line.startswith(('model name', 'flags', 'Features'))}))


if 'NUMBA_CACHE_DIR' not in os.environ and (folder := cache_folder()):
    os.environ['NUMBA_CACHE_DIR'] = str(folder)
    if 'numba' in sys.modules:  # it has read the environment already
        sys.modules['numba'].config.reload_config()
