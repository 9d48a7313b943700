"""`hpcasr report`."""

import json

import click


@click.command()
@click.argument('experiments', nargs=-1, required=True, metavar='EXP...')
@click.option('--plot', metavar='FILE', help='Draw the curves into FILE (.png, .svg or .pdf).')
@click.option('--force', is_flag=True, help='Replace FILE.')
@click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
def report(experiments, plot, force, as_json):
    """Compare experiments: held-out cross-entropy, frame error, speed.

    \b
    Examples:
      hpcasr report exp/*
      hpcasr report exp/demo --plot exp/demo/curves.png
    """
    import os

    from hpcasr.errors import BadInput
    from hpcasr.report import curves
    rows = curves.rows(experiments)
    if plot and os.path.exists(plot) and not force:
        raise BadInput(f'{plot} exists; choose another name or give --force')
    click.echo(json.dumps(rows, indent=1) if as_json else curves.table(rows))
    if plot:
        curves.picture(experiments, plot)
        click.echo(f'curves    {plot}', err=True)
