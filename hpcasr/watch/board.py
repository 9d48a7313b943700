"""What the ranks of a job tell one another when none of them gets on: a small file of each, without MPI.

EXP/.watch/rank0003.json    written over in place: who opens it sees what it says now, also on other nodes
"""

import json
import os
import pathlib
from contextlib import suppress

FOLDER = '.watch'


class Board:
    """The reports of `size` ranks in the experiment directory `out`, seen by the process beside `rank`."""

    def __init__(self, out, rank, size):
        self.folder, self.rank, self.size = pathlib.Path(out)/FOLDER, rank, size

    def path(self, rank):
        return self.folder/f'rank{rank:04d}.json'

    def write(self, report):
        """Replace the report of this rank; a disk that takes nothing is no reason to end the job."""
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(os.open(self.path(self.rank), os.O_WRONLY | os.O_CREAT, 0o644), 'wb') as file:
                file.write(json.dumps(report).encode())
                file.truncate()

    def read(self):
        """{rank: report} of all that can be read now."""
        reports = {}
        for rank in range(self.size):
            with suppress(OSError, ValueError):  # not there, or just being written
                reports[rank] = json.loads(self.path(rank).read_bytes())
        return reports

    def close(self):
        """Take the report of this rank away, and with the last one the folder."""
        with suppress(OSError):
            self.path(self.rank).unlink()
            self.folder.rmdir()
