from hpcasr.jobs.template import Template


class Chain(Template):
    """Train longer than a time limit, as several jobs, each after the end of the one before.

    For sites that do not requeue.  A job that finds DONE ends at once.
    """

    name = 'chain'
    nodes, tasks = 2, 4
