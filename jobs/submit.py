"""Submitting a job, and submitting again what stopped before it was done."""

import pathlib
import shlex

from hpcasr.errors import BadInput
from hpcasr.jobs import record, scheduler


def commands(out, links, which=None):
    """The words of each sbatch: a job, or the links of a chain, each after the end of the one before, '{previous}'.

    which   numbers of the jobs of an array; None: as the script says
    """
    array = [f'--array={",".join(map(str, which))}'] if which is not None else []
    script = str(pathlib.Path(out)/'job.sbatch')
    first = ['sbatch', '--parsable', *array, script]
    return [first] + [['sbatch', '--parsable', '--dependency=afterany:{previous}', script]]*(links - 1)


def lines(words):
    """The commands as they are typed."""
    return [shlex.join(argv).replace("'--dependency=afterany:{previous}'", '--dependency=afterany:JOBID')
            for argv in words]


def submit(script, wanted):
    """Keep `script` and its Record, and submit it; the numbers of the jobs.  Raises BadInput."""
    wanted.keep(script)
    return send(wanted, commands(wanted.out, wanted.links))


def send(wanted, words):
    """Run the sbatch commands, note the numbers of the jobs in the log of every experiment, and return them."""
    jobs = []
    for argv in words:
        argv = [word.format(previous=jobs[-1] if jobs else '') if word.startswith('--dependency') else word
                for word in argv]
        jobs.append(scheduler.submit(argv, wanted.folder))
    for number, experiment in enumerate(wanted.experiments):
        index = f'_{number}'*wanted.array
        for job in jobs:
            record.note(pathlib.Path(wanted.folder)/experiment, job + index, 'submitted')
    return jobs


def require_free(experiments):
    """Raise BadInput where one has a job that has not ended, or all are done."""
    queued = scheduler.queued()
    for experiment in experiments:
        for job in {job for _, job, _ in record.events(experiment)} & set(queued):
            raise BadInput(f'{experiment}: job {job} is {queued[job][0]}; wait for it, or: scancel {job}')
    if all(map(done, experiments)):
        raise BadInput(f'{experiments[0]}: is done; choose another --out, or remove {experiments[0]}/DONE to train on')


def done(experiment):
    return (pathlib.Path(experiment)/'DONE').exists()


def again(out):
    """(Record, sbatch commands) with which the experiments in `out` that are not done go on.  Raises BadInput."""
    wanted = record.read(out)
    if wanted is None or not (pathlib.Path(out)/'job.sbatch').exists():
        raise BadInput(f'{out}: holds no job.json and job.sbatch; only what hpcasr jobs submit has submitted can be '
                       'submitted again')
    places = wanted.places(out)
    require_free(places)
    left = [n for n, place in enumerate(places) if not done(place)]
    return wanted, commands(wanted.out, wanted.links, left if wanted.array else None)
