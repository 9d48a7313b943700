"""The time between the signal that asks a job to stop and its end: a checkpoint has to fit into it."""

import math
import os

from hpcasr.errors import BadInput

VARIABLE = 'HPCASR_GRACE'  # set by job scripts to the seconds of `sbatch --signal=USR1@SECONDS`


class Grace:
    """seconds   of it; 0: as the environment says, and if it says nothing, none is known.  Raises BadInput."""

    def __init__(self, seconds):
        self.seconds, self.warned = seconds or from_environment(), False

    def warning(self, took):
        """What to say, once, of a checkpoint that took so many seconds; or ''."""
        if self.warned or not 0 < self.seconds < took:
            return ''
        self.warned = True
        return (f'warning: a checkpoint took {took:.1f} s, but a job that is asked to stop ends after '
                f'{self.seconds:g} s: ask earlier (sbatch --signal=USR1@{math.ceil(2*took)}), or what it has trained '
                'since the last checkpoint is lost')


def from_environment():
    text = os.environ.get(VARIABLE, '')
    try:
        seconds = float(text or 0)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < math.inf:
        raise BadInput(f'{VARIABLE}={text}: give the seconds between the signal that asks to stop and the end of the '
                       'job')
    return seconds
