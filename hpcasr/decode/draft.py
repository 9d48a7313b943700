"""A recognition on its way into its directory: it appears whole or not at all."""

import json
import os
import pathlib
import shutil
from contextlib import suppress

from hpcasr.decode.texts import write_whole
from hpcasr.errors import BadInput
from hpcasr.lock import hold


class Draft:
    """What is to be DIR/scoring and DIR/log.json; one process at a time may have one in DIR.  Used by one rank.

    path  the folder to write to, from `claim` to `publish`
    """

    def __init__(self, out, force=False):
        self.out, self.force, self.lock = pathlib.Path(out), force, None
        self.path = self.out/f'.scoring.tmp-{os.getpid()}'

    def claim(self):
        """Make the folder.  Raises BadInput if there are hypotheses, or another job makes some."""
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            self.lock = hold(self.out, 'recognizing')
            self.refuse_existing()
            for left in [] if self.lock.closed else self.out.glob('.scoring.tmp-*'):  # of a job that was killed
                shutil.rmtree(left)
            self.path.mkdir()
        except OSError as e:
            raise BadInput(f'{self.out}: {e.strerror}; choose another --out') from None

    def refuse_existing(self):
        for name in 'scoring', 'log.json':
            if (self.out/name).exists() and not self.force:
                raise BadInput(f'{self.out} holds {name}, hypotheses of another run; choose another --out, or replace '
                               'them with --force')

    def publish(self, facts):
        """Put what is whole in its place, and log.json; scores of what was there go."""
        self.refuse_existing()  # where the file system has no locks
        try:
            for old in [self.out/'log.json', self.out/'scoring', *self.out.glob('wer_*')]:
                shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
            os.rename(self.path, self.out/'scoring')
        except OSError as e:
            raise BadInput(f'{self.out}: {e.strerror}; choose another --out') from None
        write_whole(self.out/'log.json', json.dumps(facts, indent=1) + '\n')

    def discard(self):
        """Leave nothing but what was published, or was there before."""
        if self.lock is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            if os.listdir(self.out) == ['.lock']:
                os.unlink(self.out/'.lock')
                self.out.rmdir()
        self.lock.close()
        self.lock = None
