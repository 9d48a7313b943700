"""GPUs: which there are, which of them this rank sees, and whether MPI may be given their memory."""

import ctypes
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.job import plural, ranges

NAME, AWARE = 'GPUs', 'CUDA-aware MPI'
NODES = '/dev/nvidiactl'  # the driver is loaded
SMI = 'nvidia-smi', '--query-gpu=index,uuid,name,memory.total', '--format=csv,noheader,nounits'
PATIENCE = 14  # seconds; a check asks twice
LAUNCHER = 'PMI', 'PMIX', 'OMPI', 'PRTE', 'HYD', 'MPI_', 'SLURM'  # a probe is a job of its own
STAGE = 'nothing has to be done: vectors are copied through the host; for direct transfers load a CUDA-aware MPI'


def gpus():
    """Which there are, and which of them this process sees."""
    there, trouble = listed()
    asked = os.environ.get('CUDA_VISIBLE_DEVICES')
    if trouble:
        return warning(NAME, trouble, 'nvidia-smi must run here: ask for a GPU (srun --gpus-per-node), start the '
                       'container with --gpus all (docker) or --nv (apptainer), or mend the driver')
    if not there:
        return none(asked)
    seen = visible(there, asked)
    found = f'{len(seen)} of {len(there)} seen: {", ".join(describe(gpu) for gpu in seen) or "none"}' + (
        f' (CUDA_VISIBLE_DEVICES={asked})' if asked is not None else '')
    if not seen:
        return warning(NAME, found, 'unset CUDA_VISIBLE_DEVICES, or name GPUs that are there')
    if not find_spec('cupy'):
        return warning(NAME, f'{found}; CuPy is not installed, so the CPU is used', 'pip install "hpcasr[cuda12]" or '
                       '"hpcasr[cuda13]", as nvidia-smi says of the driver')
    return probed(found, 'import cupy; cupy.cuda.runtime.getDeviceCount(); assert int(cupy.arange(10).sum()) == 45')


def none(asked):
    if asked and asked != '-1':
        return warning(NAME, f'no GPU, but CUDA_VISIBLE_DEVICES={asked}; the CPU is used',
                       'ask for a GPU (srun --gpus-per-node), or unset it')
    return ok(NAME, 'no GPU, the CPU is used')


def listed():
    """([(index, uuid, name, MB)], '') or ([], why they cannot be listed)."""
    try:
        done = subprocess.run(SMI, capture_output=True, text=True, timeout=PATIENCE)
    except FileNotFoundError:
        return [], f'{NODES} is there, but no nvidia-smi' if Path(NODES).exists() else ''
    except (OSError, subprocess.TimeoutExpired) as e:
        return [], f'nvidia-smi does not answer ({e})'
    if done.returncode:
        return [], f'nvidia-smi fails: {last_line(done.stdout + done.stderr)}'
    return [tuple(map(str.strip, line.split(','))) for line in done.stdout.splitlines() if line.count(',') == 3], ''


def visible(there, asked):
    """Those of `there` that CUDA_VISIBLE_DEVICES lets through, in its order; it ends at the first that is not there.

    A MIG device, a part of a GPU, is not in nvidia-smi's list, and is believed.
    """
    if asked is None:
        return there
    seen = []
    for name in filter(None, map(str.strip, asked.split(','))):
        gpu = ('MIG', name, name[4:12], '') if name.startswith('MIG-') else next(
            (g for g in there if name == g[0] or (name[:4] == 'GPU-' and g[1].startswith(name))), None)
        if gpu is None:
            break
        seen.append(gpu)
    return seen


def describe(gpu):
    index, uuid, name, megabytes = gpu
    return f'{index} {name} {int(megabytes)/1024:.0f} GiB {uuid[:12]}' if megabytes.isdigit() else f'{index} {name}'


def probed(found, code):
    trouble = run([sys.executable, '-c', code])
    if trouble:
        return error(NAME, f'{found}; CuPy cannot use them: {trouble}', 'install the CuPy that fits the driver: '
                     '"hpcasr[cuda12]" or "hpcasr[cuda13]"')
    return ok(NAME, found)


def run(command):
    """'' or how the command failed, in words."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=own)
    except subprocess.TimeoutExpired:
        return f'no answer within {PATIENCE} s'
    if done.returncode < 0:
        return f'it was ended by signal {-done.returncode}'
    return (last_line(done.stderr) or f'status {done.returncode}') if done.returncode else ''


def last_line(text):
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else ''


# who shares what

def sharing(comm, job):
    """Do several ranks of a machine see the same GPUs only?"""
    there, _ = listed()
    seen = comm.allgather([gpu[1] for gpu in visible(there, os.environ.get('CUDA_VISIBLE_DEVICES'))])
    return judge_sharing(seen, comm.nodes)


def judge_sharing(seen, machines):
    """seen [L]: the GPUs that each rank sees; machines [L]."""
    name, crowded = 'ranks per GPU', []
    if not any(seen):
        return ok(name, 'no GPU')
    for machine in dict.fromkeys(machines):
        ranks = [rank for rank, m in enumerate(machines) if m == machine]
        there = set().union(*(seen[rank] for rank in ranks))
        if len(ranks) > len(there):
            crowded.append(f'ranks {ranges(ranks)} share {plural(len(there), "GPU")}')
    if crowded:
        return warning(name, '; '.join(crowded), 'start as many ranks per machine as it has GPUs '
                       '(--ntasks-per-node = --gpus-per-node), and let each see all of them (--gpu-bind=none)')
    return ok(name, 'a GPU for every rank')


# MPI

def aware(job):
    """Does the MPI library take device buffers?  Its own answer; where there is a GPU, a transfer as well."""
    says = query()
    words = {True: 'the library says yes', False: 'the library says no', None: 'the library does not say'}[says]
    there, _ = listed()
    if not visible(there, os.environ.get('CUDA_VISIBLE_DEVICES')):
        return ok(AWARE, f'{words}; no GPU here')
    if not says:
        return warning(AWARE, words, STAGE)
    if not job.first:
        return []
    trouble = run([sys.executable, '-m', 'hpcasr.doctor.cuda_probe'])
    if trouble:
        return error(AWARE, f'{words}, but a transfer between device buffers fails: {trouble}', 'load an MPI built for '
                     'this CUDA; Open MPI: --mca pml ucx, MPICH: MPIR_CVAR_ENABLE_GPU=1')
    return ok(AWARE, f'{words}, and a transfer between device buffers is right')


def query():
    """True, False or, where the library has no such question, None."""
    with open('/proc/self/maps') as file:
        path = next((line.split()[-1] for line in file if '/libmpi' in line and '.so' in line), None)
    return path and answer(ctypes.CDLL(path))


def answer(library):
    if hasattr(library, 'MPIX_GPU_query_support'):  # MPICH, Intel: 0 is CUDA
        flag = ctypes.c_int(-1)
        if library.MPIX_GPU_query_support(0, ctypes.byref(flag)) == 0:
            return bool(flag.value)
    if hasattr(library, 'MPIX_Query_cuda_support'):
        return bool(library.MPIX_Query_cuda_support())
    return None
