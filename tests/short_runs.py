"""Whole training runs of a tiny model by virtual learners, in this process."""

import json

from hpcasr import config, experiment
from hpcasr.comm.virtual import World
from hpcasr.run import Request, Run
from hpcasr.train import train

OPTIONS = {'model.preset': 'tiny', 'model.cells': 4, 'train.epochs': 2, 'data.batch': 3, 'optim.lr': 0.3,
           'report.every': 1, 'report.tensorboard': False, 'checkpoint.every': 12, 'train.backend': 'reference',
           'exchange.meet': 2, 'exchange.period': 2}


class NoStop:
    """Nobody asks to stop."""

    signal = None

    def __bool__(self):
        return False


def short_run(data, out, learners=3, resume='', **options):
    """Train on the store `data`; the lines of the metrics."""
    values, request = config.Config().with_values(OPTIONS | options, 'test'), Request(str(data), None, str(out), resume)
    try:
        World(learners).run(lambda comm: train(Run(request, values, comm, NoStop())))
    finally:
        experiment.LOCKS.pop().close()  # as when the process ends
    return metrics(out)


def metrics(out):
    return [json.loads(line) for line in (out/'metrics.jsonl').read_text().splitlines()]
