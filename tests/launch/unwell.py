"""hpcasr where something breaks in one rank: python unwell.py HOW RANK ARGUMENTS OF HPCASR..."""

import os
import signal
import sys
import time

from hpcasr import cli, launcher


def crashes():
    """MPI ends the process in the self-test."""
    from hpcasr.comm import selftest
    selftest.tried = lambda comm: os.kill(os.getpid(), signal.SIGSEGV)


def raises():
    from hpcasr.comm import selftest
    selftest.tried = lambda comm: 1//0


def aborts():
    """MPI ends the process while it is loaded."""
    from hpcasr.doctor import run
    run.together = lambda say, before: os.abort()


def absent():
    """There is no MPI library."""
    sys.modules['hpcasr.comm.mpi'] = None


def swaps():
    from hpcasr.comm.rma import MPIWindow
    MPIWindow.compare_and_swap = lambda self, rank, k, expected, new: self.write(rank, k, new) and expected


def waits():
    """One-sided operations wait until the target calls MPI."""
    from hpcasr.doctor import onesided
    onesided.timed = lambda window, target: 0.3


def disk():
    """The file system hangs, then crashes."""
    from hpcasr.doctor import run
    run.ALONE |= {'file system': lambda: time.sleep(100), 'file locks': lambda: os.kill(os.getpid(), signal.SIGBUS),
                  'free space': lambda: 1//0}


if __name__ == '__main__':
    how, rank, *arguments = sys.argv[1:]
    if rank in ('all', str(launcher.rank() or 0)):
        patch = globals()[how]
        if how in ('crashes', 'raises', 'swaps', 'waits'):  # not before the process that loads MPI
            from hpcasr.doctor import run
            together = run.together

            def patched(say, before):
                patch()
                return together(say, before)
            run.together = patched
        else:
            patch()
    sys.exit(cli.main(arguments))
