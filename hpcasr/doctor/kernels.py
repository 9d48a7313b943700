"""Where compiled kernels are kept, and whether they are compiled at all."""

import os
import pathlib

from hpcasr.doctor.finding import ok, warning

NAME = 'kernel cache'


def cache():
    given = os.environ.get('NUMBA_CACHE_DIR')
    from hpcasr.kernels import cpu  # and now the variable is set
    if os.environ.get('NUMBA_DISABLE_JIT', '0') not in ('', '0'):
        return warning(NAME, 'NUMBA_DISABLE_JIT: kernels run as Python, hundreds of times as slow', 'unset it')
    if given:
        return of_user(cpu, given)
    wanted, *_ = cpu.candidates()
    folder = cpu.cache_folder()
    if folder is None:
        return warning(NAME, f'{wanted} cannot be used, nor a temporary folder: every process compiles anew',
                       'set XDG_CACHE_HOME to a folder of your own that can be written to')
    if wanted not in folder.parents:
        return warning(NAME, f'{wanted} cannot be used (not yours, not writable, or full); kept in {folder}, until '
                       'that is cleaned', 'set XDG_CACHE_HOME to a folder of your own that can be written to')
    return ok(NAME, str(folder))


def of_user(cpu, given):
    if not cpu.usable(pathlib.Path(given)):
        return warning(NAME, f'NUMBA_CACHE_DIR={given} cannot be used', 'unset it, or name a folder of your own that '
                       'can be written to')
    return ok(NAME, f'{given}, by NUMBA_CACHE_DIR: empty it after an update, Numba does not see every change')
