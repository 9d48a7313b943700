"""The Python stacks of a rank, on demand of the process beside it, also while the rank is inside of a library."""

import faulthandler
import os
import re
import signal
import tempfile
from time import monotonic, sleep

ASK = signal.SIGUSR2
PATIENCE = 1.0  # seconds for a busy process to answer
FRAME = re.compile(r'File "(?P<path>[^"]+)", line (?P<line>\d+) in (?P<name>\S+)')


class Stacks:
    """A nameless file between two processes, made before the fork: one writes its stacks into it when it is asked."""

    def __init__(self):
        self.file = tempfile.TemporaryFile()

    def answer(self):
        """From here on, write the stacks of all threads whenever ASK comes, whatever this process is doing."""
        signal.signal(ASK, signal.SIG_IGN)  # what is left of it when the interpreter ends
        faulthandler.register(ASK, self.file, all_threads=True, chain=False)

    def of(self, process):
        """The stacks of `process`, as text; '' if it does not answer (it is stopped, or waits for a disk)."""
        before = size = os.fstat(self.file.fileno()).st_size
        os.kill(process, ASK)
        until = monotonic() + PATIENCE
        while monotonic() < until:
            sleep(0.05)
            last, size = size, os.fstat(self.file.fileno()).st_size
            if before < last == size:  # nothing has come any more
                break
        return os.pread(self.file.fileno(), size - before, before).decode(errors='replace')


def place(stacks):
    """Where the training is, `name (file.py line N)`: the innermost frame of ours in a thread of the command line.

    Of virtual learners, one that does not wait for its turn.
    """
    threads = [[frame.groupdict() for frame in FRAME.finditer(thread)] for thread in stacks.split('\n\n')]
    found = [innermost(frames) for frames in threads if any('hpcasr/cli/' in frame['path'] for frame in frames)]
    return next((text for text in found if 'comm/virtual.py' not in text), found[0] if found else '')


def innermost(frames):
    ours = next(frame for frame in frames if re.search(r'/(hpcasr|kernels)/', frame['path']))
    path = re.split(r'/(?=hpcasr/|kernels/)', ours['path'])[-1]
    return f'{ours["name"]} ({path} line {ours["line"]})'


def state(process):
    """The letter by which Linux says what a process does (D: it waits for a disk, T: it is stopped); '': not known."""
    try:
        with open(f'/proc/{process}/stat') as file:
            return file.read().rpartition(')')[2].split()[0]
    except (OSError, IndexError):
        return ''
