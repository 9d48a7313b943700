"""Starting a job of many ranks, and ending it when one of them fails."""

import os
import socket
import sys
import traceback

from hpcasr import faults, launcher
from hpcasr.comm.base import Comm
from hpcasr.errors import Agreed, AgreedBadInput, BadInput, CheckFailed


def run(work):
    """work(comm) with comm over all ranks that were started; return what it returns.

    A rank that fails ends the job: bad input that only it has met is one line and status 2, any other exception is its
    traceback and status 1.  Raises BadInput where MPI cannot be loaded or the world has not the size it should have.
    """
    comm = start()
    try:
        result = work(comm)
        comm.close()
        return result
    except Agreed:
        comm.close()
        raise
    except CheckFailed:
        raise
    except BadInput as e:
        if comm.size == 1:
            raise
        return fail(comm, f'hpcasr: error: rank {comm.rank}: {e}\n', 2)
    except KeyboardInterrupt:
        return fail(comm, 'hpcasr: interrupted\n'*(comm.rank == 0), 130)
    except BaseException:  # SystemExit, too: the others would wait for this rank
        return fail(comm, f'hpcasr: rank {comm.rank} of {comm.size} on {socket.gethostname()} failed:\n'
                          f'{traceback.format_exc()}', 1)


def virtual(size):
    """The `run` of `size` virtual learners in this process.  Raises BadInput where it is one of several."""
    from hpcasr.comm.virtual import World

    def run(work):
        started, variable = launcher.size(os.environ)
        if (started or 1) > 1:
            raise AgreedBadInput(f'{variable}={started}: virtual learners live in one process; start it without mpirun '
                                 'or srun, or leave --virtual out')
        try:
            return World(size).run(work)[0]
        except (BadInput, CheckFailed):
            raise
        except KeyboardInterrupt:
            return fail(Comm(), 'hpcasr: interrupted\n', 130)
        except BaseException:
            return fail(Comm(), f'hpcasr: a virtual learner failed:\n{traceback.format_exc()}', 1)
    return run


def fail(comm, text, status):
    print(text, end='', file=sys.stderr)
    faults.flush()
    if comm.size > 1:
        faults.finished(status)
        comm.abort(status)
    return status


def start():
    """The Comm over all ranks of this job."""
    try:
        from hpcasr.comm.mpi import MPIComm
    except (ImportError, RuntimeError) as e:
        raise AgreedBadInput(f'no MPI library can be loaded ({str(e).splitlines()[0]}); load the site\'s MPI module, '
                       'or: pip install "hpcasr[mpich]"') from None
    comm = MPIComm()
    sys.excepthook = lambda *exception: fail(comm, ''.join(traceback.format_exception(*exception)), 1)
    check_size(comm.size, os.environ)
    return comm


def check_size(size, environment):
    """Raise BadInput if the launcher started more (or fewer) tasks than MPI sees.

    With the wrong `--mpi=` srun starts N worlds of one rank, and each of them would train on its own.
    """
    started, variable = launcher.size(environment)
    if started not in (None, size):
        raise AgreedBadInput(f'{variable}={started}, but MPI sees a world of {size}: the launcher does not fit the MPI '
                             'library; try srun --mpi=pmi2 (MPICH, Intel), srun --mpi=pmix (Open MPI), or mpirun')
