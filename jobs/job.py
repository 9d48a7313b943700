"""What is asked of the scheduler, and what is to run: the typed options of every template."""

from dataclasses import dataclass

from hpcasr.errors import BadInput
from hpcasr.jobs.words import plain, seconds


@dataclass(frozen=True)
class Job:
    """One job.  Raises BadInput where a value cannot be.

    out       directory of the experiment; of an array, of the experiments
    argv      further arguments of the command that runs
    name      of the job; '': the last part of `out`
    nodes, tasks, cpus, gpus   nodes, ranks per node, cores per rank, GPUs per node (0: none asked for)
    time      limit, as SLURM writes it
    grace     seconds before the limit at which SIGUSR1 asks the ranks to checkpoint; 0: never
    restarts  how often the job may be started again
    links     jobs of a chain
    over      what differs between the jobs of an array, 'algo' or 'seed', and `values`, one for each
    at_once   jobs of an array that may run at the same time; 0: all
    log       file of the output, with the patterns of sbatch; '': NAME-JOBID.log
    """

    out: str
    argv: tuple = ()
    name: str = ''
    nodes: int = 1
    tasks: int = 1
    cpus: int = 1
    gpus: int = 0
    time: str = '01:00:00'
    grace: int = 120
    restarts: int = 100
    links: int = 4
    over: str = ''
    values: tuple = ()
    at_once: int = 0
    log: str = ''

    def __post_init__(self):
        if not self.out or self.out.startswith('-') or not self.out.isprintable():
            raise BadInput(f'--out {self.out!r}: name a directory')
        plain('--name', self.title)
        if self.log:
            plain('--log', self.log)
        for value in self.values:
            plain(f'--{self.over}s', value)
        if self.grace and seconds('--time', self.time) <= self.grace:
            raise BadInput(f'--grace {self.grace}: the ranks would stop as soon as they start; --time {self.time} must '
                           'be longer')

    @property
    def title(self):
        last = self.base.split('/')[-1]
        return self.name or ''.join(c if c.isascii() and (c.isalnum() or c in '_.-') else '-' for c in last) or 'hpcasr'

    @property
    def base(self):
        return self.out.rstrip('/') or '/'

    @property
    def experiments(self):
        """The directories of the experiments: that of `out`, or one below it for each job of an array."""
        return [f'{self.base}/{self.prefix}{value}' for value in self.values] or [self.base]

    @property
    def prefix(self):
        """What stands before a value in the name of an experiment: a number alone says little."""
        return 'seed-' if self.over == 'seed' else ''
