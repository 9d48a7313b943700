"""Stages are run one by one; one that is done, with the same arguments on the same results, is not run again."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from hpcasr.data.progress import silent
from hpcasr.errors import BadInput, CheckFailed


class Runner:
    """Runs the stages of a recipe below the directory `out`; OUT/stages/NAME.json says what was done, and how.

    launcher   words before the command of a parallel stage: ['mpirun', '-n', '2']; [] for one process
    say        called with a line for every stage
    """

    def __init__(self, out, stages, launcher, say=silent):
        self.root, self.launcher, self.say = Path(out)/'stages', launcher, say
        self.stages = {stage.name: stage for stage in stages}

    def run(self):
        """Run what is not done.  Raises BadInput or CheckFailed as the first stage that fails; returns 0 or 75."""
        self.root.mkdir(parents=True, exist_ok=True)
        for stage in self.stages.values():
            if self.is_done(stage):
                continue
            if stage.targets and self.labelled_by() != stage.targets:
                self.perform(self.stages[stage.targets])
            if status := self.perform(stage):
                return status
        return 0

    def key(self, stage):
        """Of the command and of everything that it builds on."""
        return hashlib.sha256(json.dumps([stage.argv, [self.key(self.stages[name]) for name in stage.needs]]).encode()
                              ).hexdigest()

    def marker(self, stage):
        return self.root/f'{stage.name}.json'

    def state(self, stage):
        """What is known of a stage: {} or {key, state, seconds}."""
        try:
            found = json.loads(self.marker(stage).read_text())
            return found if isinstance(found, dict) and found.get('key') == self.key(stage) else {}
        except (OSError, ValueError):
            return {}

    def is_done(self, stage):
        return self.state(stage).get('state') == 'done'

    def note(self, stage, state, **facts):
        path = self.marker(stage)
        beside = path.with_suffix('.tmp')
        beside.write_text(json.dumps({'key': self.key(stage), 'state': state, 'argv': stage.argv, **facts}) + '\n')
        os.replace(beside, path)

    def labelled_by(self):
        """The stage that wrote the targets last."""
        done = [s for s in self.stages.values() if s.labels and self.is_done(s)]
        return max(done, key=lambda s: self.marker(s).stat().st_mtime_ns).name if done else ''

    def perform(self, stage):
        """Run one stage; returns 0, or 75 where it wants to be started again."""
        begun = self.state(stage).get('state') == 'started'
        argv = [*stage.argv, *(stage.resume if begun and stage.resume else stage.force)]
        self.note(stage, 'started')
        self.say(f'{stage.name}: hpcasr {shlex.join(argv)}')
        since = time.monotonic()
        status = execute([*(self.launcher if stage.parallel else []), *hpcasr(), *argv])
        if status == 75:
            return status
        if status:
            raise (BadInput if status == 2 else CheckFailed)(
                f'stage {stage.name} failed with status {status}, see above; mend it and start the recipe again: it '
                'goes on from there')
        self.note(stage, 'done', seconds=round(time.monotonic() - since, 1))
        return 0

    def seconds(self):
        """{stage: seconds} of what is done."""
        return {name: self.state(stage).get('seconds', 0) for name, stage in self.stages.items() if self.is_done(stage)}


def hpcasr():
    return [sys.executable, '-m', 'hpcasr']


def execute(command):
    """The exit status of a command, to which signals are passed on."""
    try:
        process = subprocess.Popen(command)
    except OSError as e:
        raise BadInput(f'{command[0]}: {e.strerror}; name how ranks are started with --launcher') from None
    before = {number: signal.signal(number, lambda n, _: process.send_signal(n))
              for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        return process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_launcher(ranks):
    """srun inside a SLURM job, else the mpirun beside this Python, else the first in PATH."""
    if ranks == 1:
        return []
    if os.environ.get('SLURM_JOB_ID') and shutil.which('srun'):
        return ['srun', '--kill-on-bad-exit=1', '-n', str(ranks)]
    beside = Path(sys.executable).parent/'mpirun'
    return [str(beside) if beside.exists() else 'mpirun', '-n', str(ranks)]
