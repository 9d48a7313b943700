from hpcasr.jobs.template import Template


class MultiNode(Template):
    """Train on all ranks of several nodes."""

    name = 'multi-node'
    nodes, tasks = 2, 4
