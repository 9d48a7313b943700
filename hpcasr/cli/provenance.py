"""Where a file comes from: the command that made it."""

from datetime import UTC, datetime

import click

from hpcasr import __version__


def provenance():
    """Command, options, date and version of the command that runs, for JSON."""
    context = click.get_current_context()
    options = {k: v for k, v in context.params.items() if v is not None and v is not False and v != ()}
    date = datetime.now(UTC).isoformat(timespec='seconds')
    return {'command': context.command_path, 'options': options, 'date': date, 'hpcasr': __version__}
