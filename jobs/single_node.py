from hpcasr.errors import BadInput
from hpcasr.jobs.template import Template


class SingleNode(Template):
    """Train on the cores of one node."""

    name = 'single-node'
    tasks = 4

    def check(self, job, site):
        super().check(job, site)
        if job.nodes != 1:
            raise BadInput(f'--nodes {job.nodes}: single-node has one; use the template multi-node')
