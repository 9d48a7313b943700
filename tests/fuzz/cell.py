"""Where cases run: a process of its own that is limited, watched and ended; cases follow one another until one escapes.

The process may take SECONDS of time and MEMORY more than it began with for a case.  An audit hook sees what it would
run, open for writing, connect to or change on the disk; nothing of that happens outside of its folder for output.
"""

import faulthandler
import json
import mmap
import os
import resource
import signal
import struct
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path

from hpcasr.errors import BadInput, CheckFailed

SECONDS = 10  # of a clock, on a machine that does other things too
COMPUTING = 5  # of the processor
MEMORY = 256 << 20  # bytes resident beyond those of before
ROOM = 8 << 30  # bytes of address space beyond those of before: what is never touched costs nothing
FILE = 64 << 20  # bytes of a file that is written
RUNS = ('subprocess.Popen', 'os.system', 'os.exec', 'os.posix_spawn', 'os.fork', 'os.forkpty', 'pty.spawn',
        'socket.connect', 'socket.bind', 'pickle.find_class', 'os.kill')
CHANGES = ('os.remove', 'os.rename', 'os.mkdir', 'os.rmdir', 'os.truncate', 'os.link', 'os.symlink', 'os.chmod',
           'os.chown', 'os.utime', 'shutil.rmtree', 'shutil.move')
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Cell:
    """Runs cases of one reader.

    read      function of a folder        folder    that it may read and write to
    allowed   allowed(event, arguments) -> whether something that is forbidden is meant to happen
    traced    a Traced, or None
    """

    def __init__(self, read, folder, allowed=lambda event, args: False, traced=None):
        self.read, self.folder, self.allowed, self.traced = read, Path(folder), allowed, traced
        self.current = mmap.mmap(-1, 8)  # shared with the process
        self.lines = set()

    def run(self, cases, prepare):
        """Yield (case, told) until one escapes, told being 'done', 'refused' or how it escaped, and prepare(case) is
        called in the process before each."""
        reader, writer = os.pipe()
        self.note(-1)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            os.close(reader)
            self.live(cases, prepare, os.fdopen(writer, 'w'))
        os.close(writer)
        with os.fdopen(reader) as told:
            for line in told:
                kind, *values = json.loads(line)
                if kind == 'lines':
                    self.lines.update(map(tuple, values[0]))
                else:
                    yield kind, values[0]
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            yield struct.unpack('<q', self.current[:])[0], ending(code)

    def note(self, case):
        self.current[:] = struct.pack('<q', case)

    def live(self, cases, prepare, pipe):
        """The life of the process; never returns."""
        try:
            confine(self.folder)
            faulthandler.disable()  # pytest's: a crash is told by the exit status
            watch = Watch(self.folder/'out', self.allowed)
            say = lambda *values: print(json.dumps(values), file=pipe, flush=True)
            base = resident()
            for case in cases:
                self.note(case)
                prepare(case)
                told = watch.outcome(self.traced_read, base)
                say(case, told)
                if told not in ('done', 'refused'):
                    break
            say('lines', sorted(self.traced.seen if self.traced else ()))
            pipe.close()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(99)

    def traced_read(self):
        if not self.traced:
            return self.read(self.folder)
        self.traced.start()
        try:
            return self.read(self.folder)
        finally:
            self.traced.stop()


def ending(code):
    names = {-signal.SIGALRM: f'takes more than {SECONDS} s', -signal.SIGPROF: f'computes for more than {COMPUTING} s',
             -signal.SIGXFSZ: f'writes more than {FILE >> 20} MB', 99: 'the process of the case failed'}
    return names.get(code) or (f'signal {signal.Signals(-code).name}' if code < 0 else f'exit status {code}')


def confine(folder):
    """Limits of this process, and nothing of its terminal."""
    size = int(open('/proc/self/statm').read().split()[0])*mmap.PAGESIZE
    for what, most in (resource.RLIMIT_AS, size + ROOM), (resource.RLIMIT_FSIZE, FILE), (resource.RLIMIT_CORE, 0):
        resource.setrlimit(what, (most, most))
    for number in signal.SIGALRM, signal.SIGPROF, signal.SIGTERM, signal.SIGXFSZ:
        signal.signal(number, signal.SIG_DFL)  # also while a library is at work
    null = os.open(os.devnull, os.O_RDONLY)
    noise = os.open(folder.parent/'noise', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for old, new in (null, 0), (noise, 1), (noise, 2):
        os.dup2(old, new)
    os.environ['TMPDIR'] = str(folder/'out')
    os.chdir(folder)


def resident():
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Watch:
    """What a case does: its end, its time, its memory, and all that the audit hook sees."""

    def __init__(self, out, allowed):
        self.out, self.allowed, self.active, self.seen = f'{os.path.realpath(out)}/', allowed, False, []
        sys.addaudithook(self.audit)

    def audit(self, event, args):
        if self.active and self.forbidden(event, args) and not self.allowed(event, args):
            self.seen.append(f'{event} {" ".join(map(str, args[:2]))[:200]}')

    def forbidden(self, event, args):
        if event in RUNS:
            return True
        if event == 'open':
            path, _, flags = args
            return bool(flags & WRITES) and not isinstance(path, int) and not self.inside(path)
        named = {'os.rename': args[:2], 'os.symlink': args[1:2], 'os.link': args[1:2]}.get(event, args[:1])
        return event in CHANGES and not all(map(self.inside, named))

    def inside(self, path):
        path = os.fsdecode(path) if isinstance(path, bytes | str | os.PathLike) else ''
        return path == os.devnull or any(f'{os.path.realpath(p)}/'.startswith(self.out)
                                         for p in (path, os.path.dirname(path) or '.'))

    @contextmanager
    def limited(self):
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        signal.setitimer(signal.ITIMER_PROF, COMPUTING)
        self.active = True
        try:
            yield
        finally:
            self.active = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)

    def outcome(self, read, base):
        """'done', 'refused', or how it escaped."""
        told = 'done'
        try:
            with self.limited():
                read()
        except (BadInput, CheckFailed) as e:
            told = 'refused' if str(e).strip() else f'{type(e).__name__} without a word'
        except BaseException as e:
            told = failure(e)
        if self.seen:
            return f'does what it must not: {self.seen[0]}'
        more = resident() - base
        return f'takes {more >> 20} MB of memory' if more > MEMORY and told in ('done', 'refused') else told


def failure(e):
    """The exception and where it was raised: the last line of ours, the last line of all."""
    frames = traceback.extract_tb(e.__traceback__)
    ours = [f for f in frames if '/hpcasr/' in f.filename] or frames
    at = ' < '.join(f'{Path(f.filename).name}:{f.lineno}' for f in ours[:-4:-1])
    text = ' '.join(str(e).split())[:160]
    return f'{type(e).__name__} at {at}: {text}'
