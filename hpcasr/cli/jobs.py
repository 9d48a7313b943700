"""`hpcasr jobs`: job scripts for SLURM, made, submitted, watched."""

import json

import click

from hpcasr.cli.data import JSON, named


@click.group()
def jobs():
    """Make, submit and watch SLURM jobs: hpcasr jobs list shows the templates."""


def parse_values(context, parameter, text):
    """The values of a list with commas; refused where one is empty."""
    values = tuple(text.split(',')) if text is not None else ()
    if '' in values:
        raise click.BadParameter('has an empty value; write it like a,b,c')
    return values


MOST = 1 << 20
MANY = click.IntRange(1, MOST)
OPTIONS = [
    click.option('--out', required=True, callback=named, metavar='EXP', help='Directory of the experiment; of '
                 'an array, of the experiments.'),
    click.option('--site', default='', envvar='HPCASR_SITE', metavar='NAME|FILE.toml', help='Modules, account, '
                 'partition, --mpi of a cluster: an example or a file.  [default: $HPCASR_SITE, else none]'),
    click.option('--name', default='', help='Of the job.  [default: the last part of EXP]'),
    click.option('--nodes', type=MANY, metavar='N', help='[default: of the template]'),
    click.option('--tasks', type=MANY, metavar='N', help='Ranks per node.  [default: of the template]'),
    click.option('--cpus', type=MANY, metavar='N', help='Cores per rank.  [default: 1]'),
    click.option('--gpus', type=click.IntRange(0, MOST), metavar='N', help='Per node.  [default: 4 of gpu, else 0]'),
    click.option('--time', metavar='LIMIT', help='90 (minutes), 8:00:00, 2-12:00:00.  [default: 01:00:00]'),
    click.option('--grace', type=click.IntRange(0, 65535), metavar='SECONDS', help='Before the limit, when SIGUSR1 '
                 'asks the ranks to checkpoint; SLURM may ask a minute earlier; 0: never.  [default: 120]'),
    click.option('--restarts', type=click.IntRange(0, MOST), metavar='N', help='How often the job may be restarted.  '
                 '[default: 100]'),
    click.option('--links', type=click.IntRange(1, 1000), metavar='N', help='Jobs of a chain.  [default: 4]'),
    click.option('--algos', callback=parse_values, metavar='A,B,...', help='Of an array: the algorithms.'),
    click.option('--seeds', callback=parse_values, metavar='0,1,...', help='Of an array: the seeds.'),
    click.option('--at-once', type=click.IntRange(0, MOST), metavar='N', help='Jobs of an array that run at a time.  '
                 '[default: all]'),
    click.option('--log', metavar='PATTERN', help='Output of the job.  [default: %x-%j.log]'),
    *(click.option(f'--{name}', metavar='NAME', help='Instead of what the site says.')
      for name in ('account', 'partition', 'qos', 'constraint', 'reservation')),
    click.option('--mpi', metavar='NAME', help='Of srun: pmi2, pmix ... (srun --mpi=list).'),
    click.option('--image', metavar='FILE.sif', help='Of the container.')]
SLURM = 'account', 'partition', 'qos', 'constraint', 'reservation', 'mpi'
FIXED = {'out': '--out', 'resume': '--resume', 'force': '--force', 'show_config': '--show-config'}


def script_options(command):
    """Add the template, its options, and what follows --."""
    for option in reversed([click.argument('template'), click.argument('argv', nargs=-1, metavar='[-- ARGUMENTS...]'),
                            *OPTIONS]):
        command = option(command)
    return command


@jobs.command('list')
@JSON
def list_templates(as_json):
    """List the templates, and the sites that come along as examples.

    \b
    Examples:
      hpcasr jobs list
      hpcasr jobs list --json
    """
    from hpcasr.jobs import site
    from hpcasr.jobs.render import TEMPLATES
    about = {name: template.about() for name, template in TEMPLATES.items()}
    if as_json:
        return click.echo(json.dumps({'templates': about, 'sites': site.examples()}))
    click.echo('\n'.join(f'{name:12} {text}' for name, text in about.items()))
    click.echo(f'\nsites (copy one, and give it as --site FILE.toml; they lie in {site.EXAMPLES}):')
    click.echo('\n'.join(f'{name:16} {site.about(name)}' for name in site.examples()))


@jobs.command()
@script_options
def render(template, argv, **options):
    """Print the job script that TEMPLATE makes; ARGUMENTS are those of hpcasr train.

    \b
    Examples:
      hpcasr jobs render multi-node --out exp/mid --site mpich-pmi2 -- train.h5 --dev dev.h5 --model mid
      hpcasr jobs render array --out exp/seeds --seeds 0,1,2 --nodes 1 --tasks 8 -- train.h5 > seeds.sbatch
    """
    click.echo(script(template, argv, options)[0], nl=False)


@jobs.command()
@script_options
@click.option('--dry-run', is_flag=True, help='Print the script, and on stderr how it would be submitted; stop.')
def submit(template, argv, dry_run, **options):
    """Submit the job script that TEMPLATE makes, and keep it as EXP/job.sbatch.

    If there is an experiment in EXP that is not done, the job goes on with it.

    \b
    Examples:
      hpcasr jobs submit preemptible --out exp/mid --site ./mine.toml --time 8:00:00 -- train.h5 --dev dev.h5
      hpcasr jobs submit chain --links 6 --out exp/mid --partition day --mpi pmi2 --dry-run -- train.h5
    """
    import os

    from hpcasr.jobs import submit as to
    from hpcasr.jobs.record import Record
    text, job = script(template, argv, options)
    links = job.links if template == 'chain' else 1
    wanted = Record(template, os.getcwd(), job.base, job.experiments, links)
    to.require_free(job.experiments)
    if dry_run:
        click.echo('\n'.join(to.lines(to.commands(job.base, links))), err=True)
        return click.echo(text, nl=False)
    tell(to.submit(text, wanted), job.base)


@jobs.command()
@click.argument('experiments', nargs=-1, required=True, metavar='EXP...')
@JSON
def status(experiments, as_json):
    """Tell the state of experiments, how far they have come, how fast, and what remains.

    Also where there is no SLURM, and of experiments that were started without it.

    \b
    Examples:
      hpcasr jobs status exp/mid
      hpcasr jobs status exp/* --json
    """
    from hpcasr.jobs import status as of
    rows = of.rows(experiments)
    click.echo(json.dumps(rows) if as_json else '\n'.join(map(of.text, rows)))


@jobs.command()
@click.argument('experiment', metavar='EXP', callback=named)
@click.option('--dry-run', is_flag=True, help='Print how it would be submitted, and stop.')
def requeue(experiment, dry_run):
    """Submit again what stopped before it was done; it goes on from its newest checkpoint.

    EXP is what --out was when it was submitted.  Of an array, those jobs that are not done.

    \b
    Examples:
      hpcasr jobs requeue exp/mid
      hpcasr jobs requeue exp/seeds --dry-run
    """
    from hpcasr.jobs import submit as to
    wanted, words = to.again(experiment)
    if dry_run:
        return click.echo('\n'.join(to.lines(words)))
    tell(to.send(wanted, words), experiment)


def tell(numbers, experiment):
    click.echo(f'job       {" ".join(numbers)}')
    click.echo(f'next      hpcasr jobs status {experiment}')


def script(template, argv, options):
    """(text of the script, the Job) of a command line.  Raises BadInput, click.UsageError."""
    from hpcasr.errors import BadInput
    from hpcasr.jobs.job import Job
    from hpcasr.jobs.render import get_template, render
    made = get_template(template)
    algos, seeds = options.pop('algos'), options.pop('seeds')
    if algos and seeds:
        raise BadInput('--algos and --seeds: give one of them; an array varies one thing')
    site = chosen_site(options)
    given = {k: v for k, v in options.items() if v is not None and k not in ('site', 'image', *SLURM)}
    over = {'over': 'algo' if algos else 'seed', 'values': algos or seeds} if algos or seeds else {}
    defaults = {name: getattr(made, name) for name in ('nodes', 'tasks', 'gpus', 'time', 'grace')}
    job = Job(**defaults | given | over, argv=argv)
    if template != 'bench-wire':
        check_training(argv, job)
    return render(template, job, site), job


def chosen_site(options):
    """The Site that --site names, with what the command line says instead."""
    from dataclasses import replace

    from hpcasr.jobs.site import find
    site = find(options['site'])
    slurm = {name: options[name] for name in SLURM if options[name] is not None}
    image = {'image': options['image']} if options['image'] is not None else {}
    return replace(site, slurm=replace(site.slurm, **slurm), container=replace(site.container, **image))


def check_training(argv, job):
    """Refuse now what hpcasr train would refuse after hours in the queue.  Raises BadInput, click.UsageError."""
    from hpcasr.algorithms import get_algorithm
    from hpcasr.cli.train import OPTION_KEYS, train
    from hpcasr.config import resolve
    from hpcasr.errors import BadInput
    asked = train.make_context('train', list(argv)).params
    for name, option in FIXED.items():
        if asked[name]:
            raise BadInput(f'{option} after --: the job script sets it itself; leave it out')
    if job.over and asked[job.over] is not None:
        raise BadInput(f'--{job.over} after --: --{job.over}s tells what each job of the array takes; leave it out')
    values = {OPTION_KEYS[k]: v for k, v in asked.items() if k in OPTION_KEYS and v is not None}
    for value in job.values or [None]:
        varied = {OPTION_KEYS[job.over]: value} if job.over else {}
        get_algorithm(resolve(asked['toml'], asked['assignments'], values | varied).train.algo)
