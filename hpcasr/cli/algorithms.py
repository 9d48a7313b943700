"""`hpcasr algorithms`."""

import json
import shutil
import sys

import click

MOST = 1 << 20  # ranks, features, targets


@click.command()
@click.argument('name', required=False)
@click.option('--ranks', type=click.IntRange(1, MOST), metavar='L', help='Show bytes and messages for L ranks.')
@click.option('--model', metavar='PRESET', help='Of this model: tiny, small, mid, dnn or swb2000.  [default: small]')
@click.option('--dim', type=click.IntRange(1, MOST), metavar='N',
              help="Features of a frame.  [default: those of the built-in task; of swb2000, the paper's]")
@click.option('--targets', type=click.IntRange(2, MOST), metavar='N',
              help='Classes of the softmax.  [default: likewise]')
@click.option('--set', 'assignments', metavar='SECTION.KEY=VALUE', multiple=True,
              help='Set one key of the configuration, such as exchange.period=16; may be repeated.')
@click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
@click.option('--compress', is_flag=True, help='Show what each can compress, by which methods, or why not.')
@click.option('--markdown', is_flag=True, help='Print the table of the README; with --compress, the other one.')
def algorithms(name, ranks, model, dim, targets, assignments, as_json, compress, markdown):
    """Tell what the distributed-SGD algorithms do and what they send; everything about the one called NAME.

    \b
    Examples:
      hpcasr algorithms
      hpcasr algorithms sync-allreduce --ranks 16 --model swb2000
      hpcasr algorithms --compress
    """
    from hpcasr.algorithms import ALGORITHMS, get_algorithm
    from hpcasr.algorithms.about import readme_table
    from hpcasr.compress import takes
    if markdown:
        refuse(name or ranks or model or dim or targets or assignments or as_json,
               '--markdown prints the table of the README and takes nothing else')
        return say((takes.markdown if compress else readme_table)(ALGORITHMS.values()))
    refuse(not ranks and (model or dim or targets or assignments), 'numbers need the ranks as well: --ranks L')
    classes = [get_algorithm(name)] if name else list(ALGORITHMS.values())
    if compress:
        refuse(ranks or as_json, '--compress prints a table and takes a NAME or --markdown')
        return say('\n'.join(takes.lines(classes, width())))
    case = case_of(ranks, model, dim, targets, assignments) if ranks else None
    say(as_object(classes, case) if as_json else as_text(classes, case, name))


def refuse(wrong, line):
    from hpcasr.errors import BadInput
    if wrong:
        raise BadInput(line)


def case_of(ranks, model, dim, targets, assignments):
    """The Case of these options; raises BadInput for an unknown preset or key."""
    from hpcasr.algorithms.about import Case, shape
    from hpcasr.config import resolve
    config = resolve(None, assignments, {'model.preset': model} if model else None)
    usual = shape(config.model.preset)
    return Case(ranks, config, dim or usual[0], targets or usual[1])


def as_object(classes, case):
    from hpcasr.algorithms.about import facts
    given = {'ranks': case.ranks, 'model': case.config.model.preset, 'dim': case.dim, 'targets': case.targets,
             'dtype': case.config.train.dtype, 'model_bytes': case.V} if case else {}
    return json.dumps(given | {'algorithms': [facts(cls, case) for cls in classes]}, indent=1)


def as_text(classes, case, name):
    from hpcasr.algorithms.about import detail, overview
    return detail(classes[0], case, width()) if name else overview(classes, case, width())


def width():
    """Columns to write."""
    return max(shutil.get_terminal_size((100, 24)).columns, 80)


def say(text):
    """Print `text`; where the terminal has no such letters as ← and Σ, a question mark in their place."""
    encoding = getattr(sys.stdout, 'encoding', None) or 'utf-8'
    click.echo(text.encode(encoding, 'replace').decode(encoding))
