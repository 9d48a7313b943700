"""Memory: what is free, and what of it MPI can share in /dev/shm."""

import shutil
from math import prod

from hpcasr import cgroup
from hpcasr.comm.memory import free
from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.job import plural

SHM = '/dev/shm'  # where MPI takes the memory of windows from
SHAPES = {'mid': (40, 72), 'swb2000': (260, 32_000)}  # features and targets
VECTORS = 4  # at least, of a rank: parameters, gradient, optimizer, exchange


def shm(job):
    """Is there room for the windows of asynchronous algorithms?"""
    if not job.first:
        return []
    try:
        disk = shutil.disk_usage(SHM)
    except OSError as e:
        return error(SHM, f'cannot be looked at: {e.strerror}', 'mount a tmpfs there: mount -t tmpfs shm /dev/shm')
    return judge_shm(disk.free, disk.total, max(job.here, 2))


def judge_shm(there, total, ranks):
    """For windows of as many `ranks` on a machine."""
    needs = {preset: ranks*vector(preset) for preset in SHAPES}
    found = f'{mb(there)} of {mb(total)} free'
    short = [preset for preset, need in needs.items() if need > there]
    if not short:
        return ok(SHM, f'{found}; windows of {ranks} ranks with swb2000 need {mb(needs["swb2000"])}')
    short = 'mid' if 'mid' in short else short[0]
    return (error if short == 'mid' else warning)(
        SHM, f'{found}, but windows of {ranks} ranks with {short} need {mb(needs[short])}: asynchronous algorithms '
        'would be refused', 'docker run --shm-size=8g, or mount -o remount,size=8g /dev/shm; delete what killed jobs '
        'left there; or start fewer ranks per machine')


def vector(preset):
    """Bytes of a window: float32 parameters."""
    from hpcasr.config import Model
    from hpcasr.model.network import parameters
    return 4*sum(map(prod, parameters(Model(preset=preset), *SHAPES[preset]).values()))


def mb(nbytes):
    """As mount and docker count: 64m is 64 MiB."""
    return f'{nbytes/2**30:.1f} GiB' if nbytes >= 10*2**30 else f'{nbytes/2**20:,.0f} MiB'


def memory(job):
    """Of this machine and of the control group, for the ranks here."""
    if not job.first:
        return []
    return judge_memory(min(free(), cgroup.limit()), job.here)


def judge_memory(there, ranks):
    needs = {preset: ranks*VECTORS*vector(preset) for preset in SHAPES}
    found = f'{mb(there)} free for {plural(ranks, "rank")}'
    short = next((preset for preset, need in needs.items() if need > there), None)
    if short:
        return (error if short == 'mid' else warning)(
            'memory', f'{found}; {VECTORS} vectors of each rank with {short} need {mb(needs[short])}',
            'ask for more (srun --mem), start fewer ranks per machine, or train a smaller model')
    return ok('memory', found)
