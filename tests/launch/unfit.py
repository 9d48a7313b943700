"""hpcasr on a machine that is not fit for one-sided exchange: python unfit.py HOW ARGUMENTS OF HPCASR..."""

import sys

from hpcasr import cli, faults

BYTES = 2_000_000  # enough for the test of the library


def swaps():
    """Compare-and-swap does not compare, as in some builds of MPI."""
    from hpcasr.comm.rma import MPIWindow
    MPIWindow.compare_and_swap = lambda self, rank, k, expected, new: self.write(rank, k, new) and expected


def memory():
    """Little is free in /dev/shm."""
    from hpcasr.comm import rma
    rma.free = lambda: BYTES


def threads():
    """MPI was started for one thread."""
    from mpi4py import rc
    rc.thread_level = 'single'


def after(call, then):
    """call, and after it then() where it returned None: in a rank that is supervised, before MPI is loaded."""
    def both():
        status = call()
        if status is None:
            then()
        return status
    return both


if __name__ == '__main__':
    how, *arguments = sys.argv[1:]
    faults.supervise = after(faults.supervise, globals()[how])
    sys.exit(cli.main(arguments))
