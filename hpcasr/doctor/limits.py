"""Limits of this process: open files, stack, memory that may be locked."""

import glob
import resource

from hpcasr.doctor.finding import error, ok, warning

FILES, PER_RANK = 256, 4  # that a rank opens itself; connections and shared memory for every other one
STACK = 1 << 20  # bytes
FABRIC = '/sys/class/infiniband/*'


def open_files(job):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = FILES + PER_RANK*job.size
    if unlimited(soft) or soft >= need:
        return ok('open files', f'{"unlimited" if unlimited(soft) else soft} allowed')
    more = 'ulimit -n ' + ('unlimited' if unlimited(hard) else str(hard))
    return (error if soft < need//2 else warning)(
        'open files', f'{soft} allowed; {job.size} ranks may need {need}',
        f'{more} before mpirun or srun' if unlimited(hard) or hard >= need else
        f'ask the administrator for {need} or more (limits.conf), {more} is not enough')


def stack(_job):
    soft, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if not unlimited(soft) and soft < STACK:
        return warning('stack', f'{soft >> 10} kB', 'ulimit -s 8192 before mpirun or srun: compiled code may crash')
    return ok('stack', 'unlimited' if unlimited(soft) else f'{soft >> 10} kB')


def locked_memory(_job):
    """InfiniBand registers the memory that it reads and writes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    fabric = sorted(path.rpartition('/')[2] for path in glob.glob(FABRIC))
    found = 'unlimited' if unlimited(soft) else f'{soft >> 10} kB'
    if fabric and not unlimited(soft):
        return warning('locked memory', f'{found}, but {", ".join(fabric)} needs to lock what it sends',
                       'ulimit -l unlimited; under SLURM: PropagateResourceLimitsExcept=MEMLOCK in slurm.conf')
    return ok('locked memory', found + ('' if fabric else '; no InfiniBand here, so it does not matter'))


def unlimited(value):
    return value == resource.RLIM_INFINITY
