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


def cache_folder():
    """Where compiled kernels are kept: below $XDG_CACHE_HOME or ~/.cache, or a temporary folder of this user."""
    base = pathlib.Path(os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home()/'.cache')
    if not writable(base/'hpcasr'):
        base = pathlib.Path(tempfile.gettempdir())/f'hpcasr-{os.getuid()}'
    return base/'hpcasr'/'numba'/state()


def writable(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
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


if 'NUMBA_CACHE_DIR' not in os.environ:
    os.environ['NUMBA_CACHE_DIR'] = str(cache_folder())
    if 'numba' in sys.modules:  # it has read the environment already
        sys.modules['numba'].config.reload_config()
