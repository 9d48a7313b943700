"""A thread that lets the library serve the other ranks while its own rank computes and calls nothing."""

import atexit
import threading

from mpi4py import MPI

from hpcasr.errors import BadInput

PERIOD = 1e-3  # seconds between two looks


class Server:
    """Looks for messages on `mpi` until `stop`.  There are none; but the library moves on whatever it is asked for.

    mpi   a communicator that nobody else uses
    """

    def __init__(self, mpi):
        self.mpi, self.over = mpi, threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True, name='progress')
        self.thread.start()
        atexit.register(self.stop)  # however the process ends: MPI is not left while a thread is inside of it

    def serve(self):
        while not self.over.wait(PERIOD):
            self.mpi.Iprobe()

    def stop(self):
        """Return when the thread has ended."""
        self.over.set()
        self.thread.join()
        atexit.unregister(self.stop)


def require_threads():
    """Raise BadInput where MPI must not be called from two threads."""
    if MPI.Query_thread() != MPI.THREAD_MULTIPLE:
        raise BadInput('--progress thread: this MPI was not started with MPI_THREAD_MULTIPLE, so a second thread must '
                       'not call it; use --progress poll')
