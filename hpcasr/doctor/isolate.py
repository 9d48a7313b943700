"""Work in a process of its own, which may crash or hang without harm to the one that watches it."""

import json
import os
import select
import signal
import sys
import traceback
from contextlib import suppress
from time import monotonic, sleep

from hpcasr import faults
from hpcasr.doctor.finding import broken, from_plain

BURIAL = 2.0  # seconds for a killed process to end; one in an uninterruptible wait for a disk stays


class Stopped(BaseException):
    """This process was asked to end, in words."""


def standard_streams():
    """Open those that are closed, on nothing: a pipe of ours would get their number, and what is printed with it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
    sys.stderr = sys.stderr or os.fdopen(2, 'w')


def watched(work, hear, limit):
    """work(say) in a process of its own; hear(value) for whatever it says.  Return '' or how it failed, in words.

    limit   limit() -> seconds of silence after which it is ended
    Values are of JSON.  Fork first, load MPI, BLAS or CUDA later.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    faults.flush()
    child = os.fork()
    if not child:
        os.close(reader)
        live(parent, work, writer)
    os.close(writer)
    try:
        silent = listen(reader, hear, limit)
        return f'did not end within {limit():.3g} s' if silent else how(os.waitpid(child, 0)[1])
    finally:
        os.close(reader)
        bury(child)


def live(parent, work, writer):
    """The life of the process that works; never returns."""
    for number in signal.SIGTERM, signal.SIGINT:
        signal.signal(number, signal.SIG_DFL)
    status = 1
    try:
        os.setsid()  # what it starts ends with it
        faults.die_with(parent)
        os.dup2(2, 1)  # stdout is for the table
        sys.stdout = sys.stderr
        with os.fdopen(writer, 'w') as file:
            work(lambda value: print(json.dumps(value), file=file, flush=True))
            status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def listen(reader, hear, limit):
    """Whether there was silence for limit() seconds, before the end."""
    rest = b''
    while select.select([reader], [], [], limit())[0]:
        block = os.read(reader, 1 << 16)
        if not block:
            return False
        *lines, rest = (rest + block).split(b'\n')
        for line in lines:
            hear(json.loads(line))
    return True


def how(status):
    """'' or how a process ended, from what waitpid said."""
    code = os.waitstatus_to_exitcode(status)
    return f'was ended by {signal.Signals(-code).name}' if code < 0 else f'ended with status {code}' if code else ''


def bury(child):
    """End `child` and what it has started, if they are still there."""
    for end in os.killpg, os.kill:  # it may not have its session yet
        with suppress(ProcessLookupError, PermissionError):
            end(child, signal.SIGKILL)
    deadline = monotonic() + BURIAL
    with suppress(ChildProcessError):
        while not os.waitpid(child, os.WNOHANG)[0] and monotonic() < deadline:
            sleep(0.01)


def alone(name, check, limit):
    """[Finding] of check(), one or a list of them, in a process of its own; a check that fails is one, too."""
    told = []
    end = watched(lambda say: say([finding.plain() for finding in tried(name, check)]), told.extend, lambda: limit)
    findings = [from_plain(values) for values in told]
    return findings if findings or not end else [broken(name, end)]


def tried(name, check, *args):
    """[Finding] of check(*args); of the exception that it raises."""
    try:
        found = check(*args)
    except Exception as e:
        found = broken(name, f'failed ({type(e).__name__}: {" ".join(str(e).split())[:100]})')
    return found if isinstance(found, list) else [found]
