"""What mpirun and srun tell a process about its job, in the environment, before MPI is started."""

import os
import subprocess
from contextlib import suppress

RANK_VARIABLES = 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'PMIX_RANK', 'SLURM_PROCID'

# the first that is set counts: SLURM_NTASKS is wrong under mpirun on two nodes, where it is 2 with 4 ranks
SIZE_VARIABLES = 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS'

# set by mpirun, not by srun
MPIRUN_VARIABLES = 'OMPI_COMM_WORLD_SIZE', 'MPI_LOCALRANKID', 'HYDI_CONTROL_FD'


def rank(environment=os.environ):
    """The rank that this process will have; None without a launcher."""
    return next((int(environment[v]) for v in RANK_VARIABLES if environment.get(v, '').isdigit()), None)


def size(environment=os.environ):
    """(number of processes started, the variable that says so); (None, None) without a launcher."""
    return next(((int(environment[v]), v) for v in SIZE_VARIABLES if environment.get(v, '').isdigit()), (None, None))


def step(environment=os.environ):
    """JOB.STEP of the srun that started this process; None where another launcher did."""
    told = [environment.get(v, '') for v in ('SLURM_JOB_ID', 'SLURM_STEP_ID')]
    by_srun = all(t.isdigit() for t in told) and not any(v in environment for v in MPIRUN_VARIABLES)
    return '.'.join(told) if by_srun else None


def end_step():
    """Have SLURM kill all ranks of this step, if it is one of srun, at once.

    Where a rank has failed, srun --kill-on-bad-exit=1 asks the others by SIGTERM, which they cannot heed while they
    wait for it, and kills them only after KillWait (30 s).
    """
    if step():
        with suppress(OSError, subprocess.SubprocessError):
            subprocess.run(['scancel', '--quiet', '--signal=KILL', step()], timeout=10, stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
