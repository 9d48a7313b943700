"""Commands of hpcasr beside each other, as processes of their own."""

import json
import pathlib
import shutil
import subprocess
import sys
from time import monotonic

from hpcasr.errors import BadInput

HPCASR = sys.executable, '-m', 'hpcasr'
QUIET = '--set', 'report.tensorboard=false'
SAID = 300  # characters of what a command that failed has said


def mpirun(ranks):
    """What starts so many ranks.  Raises BadInput where there is no launcher."""
    path = next(filter(None, map(shutil.which, ('mpirun', 'mpiexec'))), None)
    if path is None:
        raise BadInput('no mpirun is found: ranks that share a GPU are not compared; install "hpcasr[mpich]"')
    return path, '-n', str(ranks)


def train(folder, name, *options, launcher=()):
    """(name, command) of a training run on the built-in task, which leaves folder/name/DONE."""
    return name, [*launcher, *HPCASR, 'train', '--out', str(folder/name), *QUIET, *map(str, options)]


def together(folder, commands, seconds):
    """{name: (exit status, None for one that was ended, and the last of what it said)}, all at the same time."""
    begin, started = monotonic(), {}
    for name, command in commands:
        with open(folder/f'{name}.log', 'w') as log:
            started[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return {name: ended(process, folder/f'{name}.log', max(0.1, begin + seconds - monotonic()))
            for name, process in started.items()}


def ended(process, log, seconds):
    try:
        status = process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        status = None
    return status, log.read_text(errors='replace')[-SAID:].strip()


def done(folder, name):
    """What a training run says of its end; {} where it did not come to it."""
    path = pathlib.Path(folder)/name/'DONE'
    return json.loads(path.read_text()) if path.exists() else {}
