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
from contextlib import closing
from functools import partial
from pathlib import Path

from hpcasr import faults, launcher
from hpcasr.checkpoint import writing
from hpcasr.data.progress import silent
from hpcasr.decode.texts import write_whole
from hpcasr.errors import AgreedBadInput, BadInput, CheckFailed
from hpcasr.given import json_of
from hpcasr.lock import hold

AGAIN, INTERRUPTED = 75, 130  # exit statuses: start me again; by SIGINT
TABLES = 'feats.scp', 'wav.scp', 'segments', 'text', 'utt2spk', 'cmvn.scp'


class Runner:
    """Runs the stages of a recipe below the directory `out`; OUT/stages/NAME.json says what was done, and how.

    launcher   words before the command of a parallel stage: ['mpirun', '-n', '2']; [] for one process
    say        called with a line for every stage
    """

    def __init__(self, out, stages, launcher, say=silent):
        self.out, self.root, self.launcher, self.say = str(out), Path(out)/'stages', launcher, say
        self.stages, self.keys = {stage.name: stage for stage in stages}, {}

    def run(self):
        """Run what is not done.  Raises BadInput or CheckFailed as the first stage that fails; returns 0, or AGAIN or
        INTERRUPTED where a signal ended it: whoever starts it again goes on."""
        if (launcher.size()[0] or 1) > 1:
            raise AgreedBadInput('hpcasr recipe starts the ranks of its stages itself; start it without mpirun or '
                                 'srun, with --ranks N')
        with writing(self.root, 'choose another --out'):
            self.root.mkdir(parents=True, exist_ok=True)
            lock = hold(self.root, 'following a recipe')
        with closing(lock):
            return self.follow()

    def follow(self):
        for stage in self.stages.values():
            if self.is_done(stage):
                continue
            relabel = stage.targets and self.labelled_by() != stage.targets
            for each in [self.stages[stage.targets], stage] if relabel else [stage]:
                if status := self.perform(each):
                    return status
        return 0

    def key(self, stage):
        """Of the command, of the files of others that it names, and of everything that it builds on."""
        if stage.name not in self.keys:
            facts = [[self.argument(a) for a in stage.argv], [self.key(self.stages[name]) for name in stage.needs]]
            self.keys[stage.name] = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        return self.keys[stage.name]

    def argument(self, text):
        """What is to stay the same: a path below OUT as seen from there, whatever OUT is called; else the text, with
        [[bytes, time of change]] of the files that it names, the tables of a Kaldi directory among them."""
        if text.startswith(self.out + os.sep):
            return text.removeprefix(self.out)
        files = [text] if os.path.isfile(text) else filter(os.path.isfile, (os.path.join(text, t) for t in TABLES))
        return [text, [[found.st_size, found.st_mtime_ns] for found in map(os.stat, files)]]

    def marker(self, stage):
        return self.root/f'{stage.name}.json'

    def state(self, stage):
        """What is known of a stage: {} or {key, state, seconds}."""
        try:
            found = json_of(self.marker(stage))
            return found if isinstance(found, dict) and found.get('key') == self.key(stage) else {}
        except (OSError, ValueError):
            return {}

    def is_done(self, stage):
        return self.state(stage).get('state') == 'done'

    def note(self, stage, state, **facts):
        text = json.dumps({'key': self.key(stage), 'state': state, 'argv': stage.argv, **facts})
        write_whole(self.marker(stage), text + '\n')

    def labelled_by(self):
        """The stage that wrote the targets last."""
        done = [s for s in self.stages.values() if s.labels and self.is_done(s)]
        return max(done, key=lambda s: self.marker(s).stat().st_mtime_ns).name if done else ''

    def perform(self, stage):
        """Run one stage; returns 0, AGAIN or INTERRUPTED."""
        before = self.state(stage).get('before', made(stage))
        argv = [*stage.argv, *(stage.resume if stage.resume and made(stage) != before else stage.force)]
        self.note(stage, 'started', before=before)
        self.say(f'{stage.name}: hpcasr {shlex.join(argv)}')
        since = time.monotonic()
        status = execute([*(self.launcher if stage.parallel else []), *hpcasr(), *argv], bool(stage.resume))
        if status in (AGAIN, INTERRUPTED):
            self.say(f'{stage.name}: was interrupted; start the recipe again: it goes on from there')
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


def made(stage):
    """What tells one experiment in the stage's directory from another; None: there is none.

    An interrupted stage goes on only in an experiment of its own: it may have ended before it replaced an older one.
    """
    try:
        found = os.stat(os.path.join(stage.argv[stage.argv.index('--out') + 1], 'config.toml'))
    except (OSError, ValueError):
        return None
    return [found.st_ino, found.st_mtime_ns]


def execute(command, resumes=True):
    """The exit status of a command; AGAIN or INTERRUPTED if it failed after a signal, which is passed on to it.

    resumes  whether it knows SIGUSR1, which asks to stop and to go on later; else it gets SIGTERM
    """
    signals, process = [], None

    def pass_on(number, _frame):
        signals.append(number)
        if process:
            process.send_signal(number if resumes or number != signal.SIGUSR1 else signal.SIGTERM)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)}
    try:
        process = start(command)
        if signals:  # before there was a process
            process.terminate()
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return (INTERRUPTED if signal.SIGINT in signals else AGAIN) if signals and status else status


def start(command):
    """A process that ends with this one, and hears of Ctrl-C from it alone."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0,
                                preexec_fn=partial(faults.die_with, os.getpid()))
    except OSError as e:
        raise BadInput(f'{command[0]}: {e.strerror}; name how ranks are started with --launcher') from None


def default_launcher(ranks):
    """srun inside a SLURM job, else the mpirun beside this Python, else the first in PATH."""
    if ranks == 1:
        return []
    if os.environ.get('SLURM_JOB_ID') and shutil.which('srun'):
        return ['srun', '--kill-on-bad-exit=1', '-n', str(ranks)]
    beside = Path(sys.executable).parent/'mpirun'
    return [str(beside) if beside.exists() else 'mpirun', '-n', str(ranks)]
