from hpcasr.errors import BadInput
from hpcasr.jobs.multi_node import MultiNode
from hpcasr.jobs.words import quoted


class Apptainer(MultiNode):
    """Train in a container: srun starts one for each rank."""

    name = 'apptainer'

    def check(self, job, site):
        super().check(job, site)
        if not site.container.image:
            raise BadInput('apptainer: name the image: --image FILE.sif, or [container] image in the site file')

    def prefix(self, job, site):
        box = site.container
        binds = [word for path in box.bind for word in ('--bind', path)]
        return quoted([box.command, 'exec', *(['--nv'] if job.gpus else []), *binds, *box.options, box.image])
