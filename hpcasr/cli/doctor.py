"""`hpcasr doctor`: is this machine, with its MPI and its launcher, fit for training?"""

import json

import click

from hpcasr.cli.align import number
from hpcasr.cli.bench import JSON
from hpcasr.cli.wire import DAY


@click.command()
@click.option('--limit', type=click.FloatRange(1, DAY), default=30, show_default=True, metavar='SECONDS',
              callback=number,
              help='For one check; what takes longer counts as hung.')
@JSON
def doctor(limit, as_json):
    """Examine MPI, launcher, processor, memory, GPUs and file system, before training.

    Start it as training will be started, from the folder that will hold the experiments; alone, it leaves out what
    needs two ranks.  One line for each check: ok, warning (works, but slowly or not all of it) or error, with what to
    do; facts that differ between ranks name them.  Exit status 1 if there is an error.

    \b
    Examples:
      hpcasr doctor
      mpirun -n 2 hpcasr doctor
      srun hpcasr doctor --json
    """
    from hpcasr.doctor import report
    from hpcasr.doctor.job import Job
    from hpcasr.doctor.run import ORDER, examine, leave
    notes = examine(limit, tell)
    if not notes.speaks():
        return leave(notes, limit)
    findings, job = report.merged(notes.findings, ORDER), notes.job or Job()
    if as_json:
        click.echo(json.dumps(report.as_json(job, notes.hosts, findings)))
    else:
        click.echo('\n'.join(report.lines(job, notes.hosts, findings)))
    return report.status(findings)


def tell(check):
    """On the terminal of whoever waits, of the first rank."""
    import sys

    from hpcasr import launcher
    if launcher.rank() in (None, 0) and sys.stderr.isatty():
        click.echo(f'\r\033[Kchecking {check} ...', err=True, nl=False)
