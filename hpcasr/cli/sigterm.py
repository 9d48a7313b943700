"""SIGTERM ends a command in order, so that its temporary files and its processes go with it."""

import signal
from contextlib import contextmanager

import click

STATUS = 128 + signal.SIGTERM
noted = []  # SIGTERM came while an item was at work


@contextmanager
def handled(handler):
    before = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        noted.clear()


def leave(*_):
    """Unwind: an exit, because `except Exception` is for damaged files."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    click.echo('hpcasr: error: ended by SIGTERM before it was done', err=True)
    raise SystemExit(STATUS)


def note(number, _frame):
    noted.append(number)


def ends_at_once():
    """Decorates a command that SIGTERM ends wherever it is."""
    return handled(leave)


def ends_between_items():
    """Decorates a command that SIGTERM ends where it shows progress: HDF5 does not bear an exception in its midst."""
    return handled(note)


def until_noted(items):
    """The items, until SIGTERM has come."""
    for item in items:
        if noted:
            leave()
        yield item
