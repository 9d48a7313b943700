"""Threads of the BLAS that NumPy has loaded: one per rank, or ranks fight for the cores."""

import ctypes
import os

from hpcasr.doctor.finding import ok, warning
from hpcasr.doctor.job import plural

VARIABLES = 'OPENBLAS_NUM_THREADS', 'GOTO_NUM_THREADS', 'MKL_NUM_THREADS', 'BLIS_NUM_THREADS', 'OMP_NUM_THREADS'
KINDS = {'openblas': 'OpenBLAS', 'mkl_rt': 'MKL', 'blis': 'BLIS', 'libblas': 'BLAS', 'accelerate': 'Accelerate'}
CALLS = ('scipy_openblas_get_num_threads64_', 'scipy_openblas_get_num_threads', 'openblas_get_num_threads64_',
         'openblas_get_num_threads', 'MKL_Get_Max_Threads', 'bli_thread_get_num_threads')


def threads(job):
    import numpy  # noqa: F401  it loads the library
    kind, path = loaded()
    number, variable = asked(os.environ)
    running = counted(path) if path else None
    most = max(number or 1, running or 1)
    return judge(most, f'{kind}, {plural(most, "thread")} per rank' + (f' ({variable}={number})' if variable else ''),
                 job.here, len(os.sched_getaffinity(0)))


def judge(number, found, here, cores):
    """`found` with a level: `number` threads of each of `here` ranks, each of which may use `cores`."""
    if number > 1 and number*here > cores:
        return warning('BLAS threads', f'{found}, {number*here} in all on {plural(cores, "core")}',
                       'set OPENBLAS_NUM_THREADS=1 (and OMP_NUM_THREADS, MKL_NUM_THREADS) for all ranks, or unset '
                       'them, hpcasr then uses one; more made a small job 18 times slower')
    return ok('BLAS threads', found)


def asked(environment):
    """(number of threads, the variable that says so), the first that counts; (None, None)."""
    return next(((int(environment[v]), v) for v in VARIABLES if environment.get(v, '').isdigit()), (None, None))


def loaded():
    """(name, path) of the BLAS in this process; ('BLAS unknown', None)."""
    with open('/proc/self/maps') as file:
        paths = dict.fromkeys(line.split()[-1] for line in file if '/' in line and '.so' in line)
    return next(((kind, path) for part, kind in KINDS.items() for path in paths if part in os.path.basename(path)),
                ('BLAS unknown', None))


def counted(path):
    """How many threads the library says it uses; None where it does not say."""
    library = ctypes.CDLL(path)
    return next((getattr(library, call)() for call in CALLS if hasattr(library, call)), None)
