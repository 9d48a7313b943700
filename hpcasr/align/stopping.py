"""SIGTERM ends an alignment between two utterances, so that its temporary files go with it."""

from hpcasr.errors import BadInput
from hpcasr.faults import StopRequest

requests = []  # of this process: none, or the one that `listen` made


def listen():
    """From here on SIGTERM and SIGUSR1 are only noted."""
    requests[:] = [StopRequest()]


def until_asked(items):
    """The items.  BadInput, which all ranks hear of, once this process was asked to stop."""
    for item in items:
        if any(requests):
            raise BadInput(f'ended by {requests[0].signal} before it was done; start the same command again')
        yield item
