"""What all job scripts have in common: directives, the site, one step of srun, and a record of how it ended."""

import shlex

from hpcasr.errors import BadInput
from hpcasr.jobs.words import command, quoted

START = """\
note() {{ printf '%s %s %s\\n' "$(date +%FT%T)" "$job" "$*" >>"$out/jobs.log"; }}
mkdir -p "$out"
if [ -e "$out/DONE" ]; then
    note 'had nothing to do: it is done'
    exit 0
fi
rm -f "$out/PAUSED"
note "started on $SLURM_JOB_NODELIST"

trap : TERM  # a job that is cancelled or preempted: the ranks checkpoint, and this shell waits for them
status=0
{step} || status=$?"""

# a rank that calls os._exit(0) may let srun end with status 0; and with --kill-on-bad-exit, where ranks end with 75 one
# after the other, srun kills the last of them and ends with 143 or 137
JUDGE = """\
# DONE: trained to the end; PAUSED: every rank has committed a checkpoint; the status of srun alone says neither
if [ -e "$out/DONE" ]; then
    status=0
elif [ -e "$out/PAUSED" ]; then
    status=75
elif [ "$status" = 0 ]; then
    echo "$out/DONE is missing though srun ended with status 0: not taken for success" >&2
    status=1
fi
note "ended with status $status"
{again}exit "$status\""""

AGAIN = """\
if [ "$status" = 75 ]; then
    for _ in {{1..30}}; do  # the controller may be away for a while
        state=$(squeue --noheader --jobs="$job" --format=%T) && break
        sleep 10
    done
    if [ "${{state:-}}" != RUNNING ]; then
        note "left to SLURM: it has requeued or cancelled this job by itself"
    elif [ "${{SLURM_RESTART_COUNT:-0}}" -ge {restarts} ]; then
        note 'not requeued: it has been restarted {restarts} times'
    else
        note 'requeued'
        scontrol requeue "$job" && sleep 60  # in which SLURM ends this shell
        note 'not requeued: SLURM refuses'
    fi
fi
"""


class Template:
    """A kind of job.  Subclasses say what is particular to theirs; the first line of their docstring is shown.

    name       as the command line takes it
    requeues   whether the job asks to be started again when it was stopped with a checkpoint
    nodes, tasks, gpus, time, grace   defaults of the fields of Job
    """

    name = ''
    requeues = False
    nodes, tasks, gpus, time, grace = 1, 1, 0, '01:00:00', 120
    job_id = '$SLURM_JOB_ID'

    @classmethod
    def about(cls):
        return cls.__doc__.splitlines()[0].rstrip('.')

    def check(self, job, site):
        """Raise BadInput where this job cannot be one of this kind."""
        if job.values:
            raise BadInput(f'--{job.over}s: is for arrays; use the template array')

    def directives(self, job, site):
        """(option, value) of sbatch, in the order of the script; value None: the option alone."""
        gpus = [('gpus-per-node', job.gpus)] if job.gpus else []
        signal = [('signal', f'USR1@{job.grace}')] if job.grace else []
        wanted = [(n, getattr(site.slurm, n)) for n in ('account', 'partition', 'qos', 'constraint', 'reservation')]
        return [('job-name', job.title), ('output', job.log or self.log(job)), ('nodes', job.nodes),
                ('ntasks-per-node', job.tasks), ('cpus-per-task', job.cpus), *gpus, ('time', job.time), *signal,
                *self.requeueing(), *((n, v) for n, v in wanted if v)]

    def log(self, job):
        return '%x-%j.log'

    def requeueing(self):
        if not self.requeues:
            return [('no-requeue', None)]
        return [('requeue', None), ('open-mode', 'append')]  # the log of a job that starts again goes on

    def options(self, job):
        """Further options of srun."""
        return ['--gpu-bind=none'] if job.gpus else []  # each rank sees all GPUs of its node, and chooses one

    def prefix(self, job, site):
        """Words before `hpcasr`, quoted."""
        return []

    def place(self, job):
        """The lines that set `out` and `job`."""
        return f'out={shlex.quote(job.base)}\njob={self.job_id}'

    def arguments(self, job):
        """Of hpcasr, quoted; $out and what `place` sets may be used."""
        return ['train', *quoted(job.argv), '--out "$out"', '--resume auto']

    def step(self, job, site):
        """The command of all ranks.

        A rank that dies must end the others, which srun does only if told; so must one that ends long before them.
        srun does not take over --cpus-per-task.
        """
        mpi = [f'--mpi={site.slurm.mpi}'] if site.slurm.mpi else []
        srun = ['srun', *mpi, '--kill-on-bad-exit=1', '--wait=60', f'--cpus-per-task={job.cpus}', *self.options(job),
                *quoted(site.slurm.srun)]
        return command([*srun, *self.prefix(job, site), 'hpcasr', *self.arguments(job)])

    def body(self, job, site):
        """Everything after the site's own lines, as paragraphs."""
        again = AGAIN.format(restarts=job.restarts) if self.requeues else ''
        grace = f'export HPCASR_GRACE={job.grace}\n' if job.grace else ''  # what a checkpoint has to fit into
        return [f'{grace}{self.place(job)}\n{START.format(step=self.step(job, site))}', JUDGE.format(again=again)]
