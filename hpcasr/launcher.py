"""What mpirun and srun tell a process about its job, in the environment, before MPI is started."""

import os

RANK_VARIABLES = 'OMPI_COMM_WORLD_RANK', 'PMI_RANK', 'PMIX_RANK', 'SLURM_PROCID'

# the first that is set counts: SLURM_NTASKS is wrong under mpirun on two nodes, where it is 2 with 4 ranks
SIZE_VARIABLES = 'OMPI_COMM_WORLD_SIZE', 'PMI_SIZE', 'SLURM_STEP_NUM_TASKS'


def rank(environment=os.environ):
    """The rank that this process will have; None without a launcher."""
    return next((int(environment[v]) for v in RANK_VARIABLES if environment.get(v, '').isdigit()), None)


def size(environment=os.environ):
    """(number of processes started, the variable that says so); (None, None) without a launcher."""
    return next(((int(environment[v]), v) for v in SIZE_VARIABLES if environment.get(v, '').isdigit()), (None, None))
