"""Numbers on the command line: click takes nan and inf for numbers."""

import click


def finite(context, parameter, number):
    """A number that can be reckoned with, or None: neither NaN nor endless."""
    if number is not None and not abs(number) < 1e6:
        raise click.BadParameter(f'{number:g} is not a finite number below a million')
    return number
