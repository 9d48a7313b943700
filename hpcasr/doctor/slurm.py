"""What SLURM says of the job, beside what is there."""

import os

from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.job import plural


def variables(job, environment=None):
    told = os.environ if environment is None else environment
    if 'SLURM_JOB_ID' not in told:
        return ok('SLURM', 'not in a job of SLURM')
    return next(filter(None, (check(job, told) for check in CHECKS)), None) or ok('SLURM', (
        f'job {told["SLURM_JOB_ID"]}, {plural(nodes(told) or 1, "node")}, '
        f'{plural(job.size, "rank")}'))


def number(told, variable):
    text = told.get(variable, '')
    return int(text) if text.isdigit() else None


def nodes(told):
    return number(told, 'SLURM_STEP_NUM_NODES') or number(told, 'SLURM_NNODES') or number(told, 'SLURM_JOB_NUM_NODES')


def tasks(job, told):
    """In a step of srun, whose number of tasks is the world's; mpirun has a step of its own with a task per node."""
    steps = number(told, 'SLURM_STEP_NUM_TASKS')
    if started_by_srun(told) and steps not in (None, job.size):
        return error('SLURM', f'SLURM_STEP_NUM_TASKS={steps}, but the world has {plural(job.size, "rank")}',
                     'srun --mpi=pmi2 (MPICH, Intel MPI) or srun --mpi=pmix (Open MPI), srun --mpi=list shows what '
                     'there is; or start with mpirun inside the job')
    return None


def started_by_srun(told):
    return not any(v in told for v in ('OMPI_COMM_WORLD_SIZE', 'MPI_LOCALRANKID', 'HYDI_CONTROL_FD'))


def machines(job, told):
    if nodes(told) and nodes(told) != job.machines and job.size >= nodes(told):
        return warning('SLURM', f'{plural(nodes(told), "node")} in this job, {plural(job.machines, "machine")} used',
                       'start a task on each node: srun --ntasks-per-node=N, or mpirun without a list of hosts')
    return None


def cores(job, told):
    """srun does not take over --cpus-per-task of sbatch since 22.05."""
    each = number(told, 'SLURM_CPUS_PER_TASK')
    own = len(os.sched_getaffinity(0))
    if each and own < each:
        return warning('SLURM', f'SLURM_CPUS_PER_TASK={each}, but this rank may use {plural(own, "core")}',
                       'srun --cpus-per-task=$SLURM_CPUS_PER_TASK, or export SRUN_CPUS_PER_TASK')
    return None


def devices(_job, told):
    if 'SLURM_GPUS_PER_TASK' in told:
        return warning('SLURM', f'SLURM_GPUS_PER_TASK={told["SLURM_GPUS_PER_TASK"]}: ranks of a node do not see each '
                       'other\'s GPUs, so no direct copies between them', 'use --gpus-per-node with --gpu-bind=none')
    return None


CHECKS = tasks, machines, cores, devices
