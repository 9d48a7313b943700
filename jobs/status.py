"""The state of experiments, in words: what SLURM says of their jobs, and how far they have come."""

import pathlib
from dataclasses import asdict

from hpcasr.errors import BadInput
from hpcasr.jobs import record, scheduler
from hpcasr.jobs.progress import progress


def experiments(path):
    """The experiments at `path`: itself, or those of the array that was submitted with this --out.  Raises BadInput."""
    path = pathlib.Path(path)
    wanted = record.read(path)
    if wanted:
        return wanted.places(path)
    if not any((path/name).exists() for name in ('versions.json', 'jobs.log')):
        raise BadInput(f'{path}: holds neither an experiment nor a job')
    return [str(path)]


def rows(paths):
    """One dict for each experiment."""
    found = [experiment for path in paths for experiment in experiments(path)]
    events = {experiment: record.events(experiment) for experiment in found}
    queued = scheduler.queued()
    gone = {job for told in events.values() for _, job, _ in told} - set(queued)
    ended = scheduler.ended(sorted(gone)) if gone else {}
    return [row(experiment, events[experiment], queued, ended) for experiment in found]


def row(experiment, events, queued, ended):
    made = progress(experiment)
    jobs = list(dict.fromkeys(job for _, job, _ in events))
    live = [(job, *queued[job]) for job in jobs if job in queued]
    return {'experiment': experiment, 'state': state(made, live, jobs, ended), 'submitted': submitted(experiment),
            **asdict(made),
            'jobs': [{'job': job, 'state': s, 'where': why} for job, s, why in live],
            'starts': sum(what.startswith('started') for _, _, what in events),
            'last_event': ' '.join(events[-1]) if events else ''}


def submitted(experiment):
    """What hpcasr jobs requeue takes to go on with it; '' where hpcasr jobs did not submit it."""
    path = pathlib.Path(experiment)
    return next((str(p) for p in (path, path.parent) if (p/'job.json').exists()), '')


def state(made, live, jobs, ended):
    """done, running, pending, paused, stopped or not started, or what SLURM calls the end of the last job."""
    if made.end == 'DONE':
        return 'done'
    if any(s == 'RUNNING' for _, s, _ in live) or made.training:
        return 'running'
    if live:
        return 'pending' if any(s == 'PENDING' for _, s, _ in live) else live[0][1].lower()
    if made.end == 'PAUSED':
        return 'paused'
    if jobs and jobs[-1] in ended:
        return ended[jobs[-1]].lower()
    return 'not started' if made.epoch is None and not made.checkpoint else 'stopped'


def text(row):
    """What is known of one experiment, a line for each thing."""
    lines = [('state', row['state'])]
    lines += [('job', f'{j["job"]} {j["state"]} {j["where"]}') for j in row['jobs']]
    if row['epoch'] is not None:
        of = f' of {row["epochs"]} ({100*row["epoch"]/row["epochs"]:.1f} %)' if row['epochs'] else ''
        lines.append(('progress', f'epoch {row["epoch"]:.2f}{of}, {row["samples"]:,} samples'))
    if row['ce'] is not None:
        lines.append(('held out', f'ce {row["ce"]:.3f}  fer {100*row["fer"]:.1f} %'))
    if row['speed']:
        lines.append(('speed', f'{row["speed"]:,.0f} frames/s'))
    if row['left'] is not None:
        lines.append(('remaining', f'{duration(row["left"])} of training'))
    if row['checkpoint']:
        lines.append(('checkpoint', f'{row["checkpoint"]}, {duration(row["age"])} old'))
    if row['starts']:
        lines.append(('starts', f'{row["starts"]}; last: {row["last_event"]}'))
    if not row['jobs'] and row['submitted'] and row['state'] not in ('done', 'running'):
        lines.append(('next', f'hpcasr jobs requeue {row["submitted"]}'))
    return '\n'.join([row['experiment'], *(f'  {name:11}{what}' for name, what in lines)])


def duration(seconds):
    """3 d 4 h, 2 h 5 min, 12 min, 34 s."""
    seconds = round(seconds)
    for unit, size, below, smaller in ('d', 86400, 'h', 3600), ('h', 3600, 'min', 60):
        if seconds >= size:
            return f'{seconds//size} {unit} {seconds%size//smaller} {below}'
    return f'{seconds//60} min' if seconds >= 120 else f'{seconds} s'
