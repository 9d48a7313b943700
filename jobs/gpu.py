from hpcasr.errors import BadInput
from hpcasr.jobs.template import Template


class Gpu(Template):
    """Train on GPUs, one rank for each; a rank chooses its device itself, and reaches those of its node.

    --gpus-per-task would hide the others from it, and with them direct copies between GPUs.
    """

    name = 'gpu'
    tasks = gpus = 4

    def check(self, job, site):
        super().check(job, site)
        if not job.gpus:
            raise BadInput('--gpus 0: the template gpu needs some on each node; without, use multi-node')
