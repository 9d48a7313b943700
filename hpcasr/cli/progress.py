"""How far a command is: a bar on a terminal, a plain line a minute in a job's log; both on stderr."""

import sys
from time import monotonic

import click

from hpcasr.cli.sigterm import until_noted

EVERY = 60  # seconds


def progress(items, total=None):
    """The same items, told about while they are taken."""
    total, items = len(items) if total is None else total, until_noted(items)
    if sys.stderr.isatty():
        from tqdm import tqdm
        return tqdm(items, total=total, leave=False)
    return lines(items, total)


def lines(items, total):
    told = monotonic()
    for n, item in enumerate(items):
        if monotonic() - told > EVERY:
            told = monotonic()
            click.echo(f'{n} of {total}', err=True)
        yield item
