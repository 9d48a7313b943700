"""What submitting leaves beside an experiment.

OUT/job.sbatch    the script, as it was submitted
OUT/job.json      its template, experiments and links, and the folder it was submitted from
EXP/jobs.log      a line for each event: time, job, what happened; the script adds to it
"""

import json
import os
import pathlib
import time
from dataclasses import asdict, dataclass

from hpcasr.checkpoint import write_file, writing
from hpcasr.errors import BadInput


@dataclass(frozen=True)
class Record:
    """folder        from which it was submitted; the other paths are relative to it
    out           that of --out
    experiments   it alone, or those below it, one for each job of an array
    links         jobs of a chain
    """

    template: str
    folder: str
    out: str
    experiments: list
    links: int = 1

    def require_whole(self):
        """ValueError unless everything has its type."""
        texts = [self.template, self.folder, self.out, *self.experiments]
        if not all(isinstance(t, str) and t for t in texts) or len(texts) < 4 or not 1 <= int(self.links) <= 1000:
            raise ValueError

    @property
    def array(self):
        return self.experiments != [self.out]

    def places(self, out):
        """The experiments as seen from here, where that of --out is `out`."""
        return [str(pathlib.Path(out)/os.path.relpath(experiment, self.out)) for experiment in self.experiments]

    def keep(self, script):
        """Write it, and the script.  Raises BadInput."""
        out = pathlib.Path(self.folder)/self.out
        with writing(out, 'make room, or choose another --out'):
            out.mkdir(parents=True, exist_ok=True)
            write_file(out/'job.sbatch', script.encode())
            write_file(out/'job.json', (json.dumps(asdict(self), indent=1) + '\n').encode())


def read(out):
    """The Record in `out`; None if there is none.  Raises BadInput where it is not one of ours."""
    path = pathlib.Path(out)/'job.json'
    try:
        record = Record(**json.loads(path.read_text()))
        record.require_whole()
        return record
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as e:
        raise BadInput(f'{path}: {getattr(e, "strerror", None) or "is not what hpcasr jobs submit writes"}') from None


def note(experiment, job, what):
    """Add one event."""
    path = pathlib.Path(experiment)/'jobs.log'
    with writing(path, 'the job was submitted'):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, 'a') as file:
            file.write(f'{time.strftime("%Y-%m-%dT%H:%M:%S")} {job} {what}\n')


def events(experiment):
    """[(time, job, what)], oldest first."""
    try:
        text = (pathlib.Path(experiment)/'jobs.log').read_text(errors='replace')
    except OSError:
        return []
    return [tuple(line.split(' ', 2)) for line in text.splitlines() if line.count(' ') >= 2]
