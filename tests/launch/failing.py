"""hpcasr with a mishap: python failing.py MISHAP RANK STEP ARGUMENTS OF HPCASR...

The rank RANK meets MISHAP when it begins step STEP (from 1) of this process.
"""

import os
import pathlib
import resource
import signal
import sys
import traceback

from hpcasr import cli, launcher


def exception():
    raise ArithmeticError('made by the test')


def broken_handler():
    """An exception whose handling fails in its turn, as a mistake in our own code would."""
    traceback.format_exc = None
    exception()


def full_disk():
    """From now on no file of this process can grow beyond 2 KiB (write fails as on a full disk)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))


def parent_of(pid, name):
    """The outermost ancestor of process `pid` whose command starts with `name`: mpirun, whatever stands between."""
    found = None
    while pid > 1:
        command, rest = pathlib.Path(f'/proc/{pid}/stat').read_text().split('(', 1)[1].rsplit(')', 1)
        found = pid if command.startswith((name, 'prte')) else found
        pid = int(rest.split()[1])
    return found


def with_a_lock(mishap):
    """Meet it when something has been read under the next lock, and not yet written back."""
    from hpcasr.comm.onesided import Window
    from hpcasr.comm.rma import MPIWindow
    for window in Window, MPIWindow:
        window.put = lambda *_: MISHAPS[mishap]()


MISHAPS = {
    'exception': exception,
    'broken-handler': broken_handler,
    'exit': lambda: os._exit(0),
    'exit-75': lambda: os._exit(75),
    'sys-exit': lambda: sys.exit(0),
    'interrupt': lambda: os.kill(os.getpid(), signal.SIGINT),
    'usr1-to-mpirun': lambda: os.kill(parent_of(os.getppid(), 'mpi'), signal.SIGUSR1),
    'kill': lambda: os.kill(os.getpid(), signal.SIGKILL),
    'kill-with-a-lock': lambda: with_a_lock('kill'),
    'stop': lambda: os.kill(os.getpid(), signal.SIGSTOP),
    'stop-with-a-lock': lambda: with_a_lock('stop'),
    'kill-supervisor': lambda: os.kill(os.getppid(), signal.SIGKILL),
    'usr1': lambda: os.kill(os.getpid(), signal.SIGUSR1),
    'term-supervisor': lambda: os.kill(os.getppid(), signal.SIGTERM),
    'full-disk': full_disk,
}


def meet(mishap, rank, step):
    """Let it happen where the model computes its gradient."""
    from hpcasr.model.network import Network
    original, steps = Network.loss_and_grad, 0

    def loss_and_grad(self, *args, **options):
        nonlocal steps
        steps += 1
        if steps == step and launcher.rank() in (rank, None):
            MISHAPS[mishap]()
        return original(self, *args, **options)
    Network.loss_and_grad = loss_and_grad


if __name__ == '__main__':
    mishap, rank, step, *arguments = sys.argv[1:]
    meet(mishap, int(rank), int(step))
    sys.exit(cli.main(arguments))
