"""`hpcasr data`: from speech or a Kaldi directory to a store."""

import click


@click.group()
def data():
    """Bring speech or a Kaldi directory into a store, look at it, check it."""
