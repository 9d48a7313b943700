from hpcasr.jobs.template import Template


class Preemptible(Template):
    """Train where SLURM takes nodes back, or longer than its time limit: checkpoint, requeue, go on."""

    name = 'preemptible'
    nodes, tasks = 2, 4
    requeues = True
