import shlex

from hpcasr.errors import BadInput
from hpcasr.jobs.template import Template


class Array(Template):
    """Train with each of several algorithms or seeds, as an array whose jobs are requeued by themselves."""

    name = 'array'
    requeues = True
    job_id = '${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID'

    def check(self, job, site):
        if not job.values:
            raise BadInput('array: say what differs between its jobs: --algos sync-allreduce,sync-ps or --seeds 0,1,2')
        if len(set(job.values)) < len(job.values):
            raise BadInput(f'--{job.over}s {",".join(job.values)}: names one twice; they would share a directory')

    def directives(self, job, site):
        limit = f'%{job.at_once}' if job.at_once else ''
        return [*super().directives(job, site), ('array', f'0-{len(job.values) - 1}{limit}')]

    def log(self, job):
        return '%x-%A_%a.log'

    def place(self, job):
        values = ' '.join(job.values)
        return (f'values=({values})\nvalue=${{values[$SLURM_ARRAY_TASK_ID]}}\n'
                f'out={shlex.quote(job.base)}/{job.prefix}$value\njob={self.job_id}')

    def arguments(self, job):
        return [*super().arguments(job), f'--{job.over} "$value"']
