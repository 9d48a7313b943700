"""`hpcasr align`: the integer target of every frame."""

import click


@click.group()
def align():
    """Give every frame of a store its target."""
