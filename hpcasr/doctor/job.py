"""What the ranks of a job know of each other before they are examined together."""

import os
from dataclasses import dataclass

from hpcasr import launcher

LOCAL_RANK_VARIABLES = 'OMPI_COMM_WORLD_LOCAL_RANK', 'MPI_LOCALRANKID', 'SLURM_LOCALID'


@dataclass
class Job:
    """One rank's view: which of how many, how many on this machine, whether the first there, of how many machines."""

    rank: int = 0
    size: int = 1
    here: int = 1
    first: bool = True
    machines: int = 1
    library: str = 'none'


def job_of(comm):
    """The Job over `comm`; called by all ranks together."""
    comm.arrange(0)
    machine = comm.nodes[comm.rank]
    return Job(comm.rank, comm.size, comm.nodes.count(machine), comm.nodes.index(machine) == comm.rank,
               len(set(comm.nodes)), comm.library)


def first_here(environment=os.environ):
    """Whether this process is the first of the job on this machine, as far as the launcher tells before MPI starts."""
    return next((environment[v] == '0' for v in LOCAL_RANK_VARIABLES if environment.get(v, '').isdigit()),
                launcher.rank(environment) in (None, 0))


def plural(n, what):
    return f'{n} {what}{"s"[:n != 1]}'


def ranges(numbers):
    """0-3, 7 of sorted whole numbers."""
    runs = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ', '.join(f'{a}-{b}' if b > a else str(a) for a, b in runs)
