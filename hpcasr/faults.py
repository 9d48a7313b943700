"""What can happen to a rank: a signal that asks it to stop, a death that must not look like success."""

import os
import select
import signal
import sys
import time
from contextlib import suppress

from hpcasr import launcher
from hpcasr.watch import flight
from hpcasr.watch.guard import Guard
from hpcasr.watch.stacks import Stacks

STOP_SIGNALS = signal.SIGTERM, signal.SIGUSR1
HINTS = {signal.SIGBUS: ', as when a file that it reads is cut short, its disk goes, or /dev/shm is full'}
SAY_HOW_IT_ENDED = None  # file descriptor, in a supervised rank


class StopRequest:
    """True once this process was asked to stop, by SIGTERM or SIGUSR1 (as sent by `sbatch --signal=USR1@60`)."""

    def __init__(self):
        self.signal = None
        for number in STOP_SIGNALS:
            signal.signal(number, self.note)

    def note(self, number, _frame):
        self.signal = signal.Signals(number).name

    def __bool__(self):
        return self.signal is not None


def supervise():
    """Fork: go on in a child (returns None there), and return the exit status of this rank in the parent.

    A rank that ends without having said so (`os._exit(0)` deep in a library, a kill) would end mpirun silently, now and
    then with status 0; the parent sees it end, names it and gives a status that makes the launcher end the job.  It
    also sees when the job hangs (watch/guard.py).
    Call before MPI, BLAS or CUDA are loaded.  HPCASR_SUPERVISE=0 does without (for debuggers).
    """
    global SAY_HOW_IT_ENDED
    if os.environ.get('HPCASR_SUPERVISE') == '0':
        return None
    reader, writer = os.pipe()
    memory, stacks = flight.shared(), Stacks()
    parent = os.getpid()
    flush()
    child = os.fork()
    if child:
        os.close(writer)
        return watch(child, reader, Guard(child, memory, stacks))
    os.close(reader)
    SAY_HOW_IT_ENDED = writer
    die_with(parent)
    flight.use(memory)
    stacks.answer()
    signal.signal(signal.SIGINT, interrupt)
    return None


def interrupt(_number, _frame):
    """KeyboardInterrupt, once: a terminal sends SIGINT to both processes of a rank."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def flush():
    """Leave nothing in a buffer that both processes would write."""
    for stream in sys.stdout, sys.stderr:
        if stream is not None:  # closed by the shell
            stream.flush()


def nobody_reads():
    """What is left for stdout goes nowhere: its reader has gone (`hpcasr ... | head`), or the disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def finished(status):
    """Say that this rank ends on purpose, with `status`; a signal to stop comes too late to change that."""
    flight.tell(finished=True)
    if SAY_HOW_IT_ENDED is not None:
        ignore_stops()
        os.write(SAY_HOW_IT_ENDED, bytes([status]))


def ignore_stops():
    """srun sends SIGTERM to ranks that are about to end; in its last steps Python would die of it."""
    with suppress(ValueError):  # not in the main thread
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def watch(child, reader, guard):
    """Pass signals on to `child` until it ends, or the job hangs; return the exit status of the rank."""
    def pass_on(number, _frame):
        with suppress(ProcessLookupError):
            os.kill(child, number)

    for number in *STOP_SIGNALS, signal.SIGINT:
        signal.signal(number, pass_on)
    status = guarded(child, guard)
    guard.close()
    if status is not None:
        return status
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    said = os.read(reader, 1)
    ignore_stops()
    if code < 0:
        return blame(child, f'was ended by {signal.Signals(-code).name}{HINTS.get(-code, "")}', 128 - code)
    if not said:
        return blame(child, f'ended without finishing its work, with status {code}', code if code not in (0, 75) else 1)
    return code


def guarded(child, guard):
    """Look with `guard` now and then until `child` has ended (None), or must be (the status that the guard gives)."""
    ended = ending(child)
    while not ended(guard.period):
        status = guard.look()
        if status is not None:
            os.kill(child, signal.SIGKILL)
            launcher.end_step()
            return status
    return None


def ending(child):
    """wait(seconds): whether `child` has ended, at once when it does, or after so many seconds."""
    try:
        end = os.pidfd_open(child)
    except (AttributeError, OSError):  # no Linux, or one older than 5.3
        return lambda seconds: time.sleep(0.05) or os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return lambda seconds: bool(select.select([end], [], [], seconds)[0])


def blame(child, how, status):
    sys.stderr.write(f'hpcasr: rank {launcher.rank() or 0} on {os.uname().nodename} (process {child}) {how}\n')
    flush()
    launcher.end_step()
    return status


def die_with(parent):
    """Ask Linux to kill this process when its parent dies, however it dies."""
    if sys.platform == 'linux':
        import ctypes
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)
