"""Are all ranks of the same software?"""

import importlib.metadata
import platform

from hpcasr import __version__
from hpcasr.doctor.finding import error, ok

PACKAGES = 'numpy', 'numba', 'mpi4py', 'h5py'


def versions():
    found = {name: version(name) for name in PACKAGES}
    told = ', '.join([f'hpcasr {__version__}', f'Python {platform.python_version()}',
                      *(f'{name} {number}' for name, number in found.items() if number)])
    missing = [name for name, number in found.items() if not number]
    if missing:
        return error('versions', f'{told}; not installed: {", ".join(missing)}', f'pip install {" ".join(missing)}')
    return ok('versions', told)


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
