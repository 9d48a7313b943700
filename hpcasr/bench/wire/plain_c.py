"""The loops of some tests in plain C, on the same communicator and the same buffers, compiled where they run."""

import ctypes
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
from mpi4py import MPI

from hpcasr.errors import BadInput

SOURCE = r'''
#include <mpi.h>
#include <stdlib.h>

void latency(int comm, void *x, void *y, int n, int window, int count, double *seconds) {
    MPI_Comm c = MPI_Comm_f2c(comm);
    int rank;
    MPI_Comm_rank(c, &rank);
    for (int k = 0; k < count; k++) {
        double tic = MPI_Wtime();
        if (rank == 0) {
            MPI_Send(x, n, MPI_BYTE, 1, 11, c);
            MPI_Recv(y, n, MPI_BYTE, 1, 11, c, MPI_STATUS_IGNORE);
        } else {
            MPI_Recv(y, n, MPI_BYTE, 0, 11, c, MPI_STATUS_IGNORE);
            MPI_Send(x, n, MPI_BYTE, 0, 11, c);
        }
        seconds[k] = MPI_Wtime() - tic;
    }
}

void bw(int comm, void *x, void *y, int n, int window, int count, double *seconds) {
    MPI_Comm c = MPI_Comm_f2c(comm);
    MPI_Request *moves = malloc(window*sizeof *moves);
    int rank;
    MPI_Comm_rank(c, &rank);
    for (int k = 0; k < count; k++) {
        double tic = MPI_Wtime();
        for (int w = 0; w < window; w++) {
            if (rank == 0)
                MPI_Isend(x, n, MPI_BYTE, 1, 11, c, moves + w);
            else
                MPI_Irecv(y, n, MPI_BYTE, 0, 11, c, moves + w);
        }
        MPI_Waitall(window, moves, MPI_STATUSES_IGNORE);
        if (rank == 0)
            MPI_Recv(0, 0, MPI_BYTE, 1, 12, c, MPI_STATUS_IGNORE);
        else
            MPI_Send(0, 0, MPI_BYTE, 0, 12, c);
        seconds[k] = MPI_Wtime() - tic;
    }
    free(moves);
}

void allreduce(int comm, void *x, void *y, int n, int window, int count, double *seconds) {
    MPI_Comm c = MPI_Comm_f2c(comm);
    for (int k = 0; k < count; k++) {
        MPI_Barrier(c);
        double tic = MPI_Wtime();
        MPI_Allreduce(x, y, n/4, MPI_FLOAT, MPI_SUM, c);
        seconds[k] = MPI_Wtime() - tic;
    }
}

void bcast(int comm, void *x, void *y, int n, int window, int count, double *seconds) {
    MPI_Comm c = MPI_Comm_f2c(comm);
    for (int k = 0; k < count; k++) {
        MPI_Barrier(c);
        double tic = MPI_Wtime();
        MPI_Bcast(x, n, MPI_BYTE, 0, c);
        seconds[k] = MPI_Wtime() - tic;
    }
}

static void reach(int get, int handle, void *x, int n, int count, double *seconds) {
    MPI_Win win = MPI_Win_f2c(handle);
    for (int k = 0; k < count; k++) {
        double tic = MPI_Wtime();
        if (get)
            MPI_Get(x, n, MPI_BYTE, 1, 64, n, MPI_BYTE, win);
        else
            MPI_Put(x, n, MPI_BYTE, 1, 64, n, MPI_BYTE, win);
        MPI_Win_flush(1, win);
        seconds[k] = MPI_Wtime() - tic;
    }
}

void get_latency(int win, void *x, void *y, int n, int window, int count, double *seconds) {
    reach(1, win, x, n, count, seconds);
}

void put_latency(int win, void *x, void *y, int n, int window, int count, double *seconds) {
    reach(0, win, x, n, count, seconds);
}
'''
LOOPS = 'latency', 'bw', 'allreduce', 'bcast', 'put_latency', 'get_latency'


def load():
    """The compiled loops: a ctypes library.  Raises BadInput where compiler, header or library are missing."""
    compiler, library = shutil.which('gcc') or shutil.which('cc'), libmpi()
    if not compiler:
        raise BadInput('the comparison with C needs a compiler: there is no gcc and no cc; apt-get install gcc, or '
                       'leave --check-c out')
    with tempfile.TemporaryDirectory() as folder:
        source, made = pathlib.Path(folder, 'loops.c'), pathlib.Path(folder, 'loops.so')
        source.write_text(SOURCE)
        done = subprocess.run([compiler, '-O2', '-shared', '-fPIC', f'-I{headers(library)}', source, library, '-o',
                               made], capture_output=True, text=True)
        if done.returncode:
            raise BadInput(f'the C loops do not compile: {done.stderr.strip().splitlines()[-1]}')
        return ctypes.CDLL(str(made))


def libmpi():
    """The MPI library that this process has loaded."""
    with open('/proc/self/maps') as f:
        paths = [line.split()[-1] for line in f if '/libmpi' in line]
    found = next((path for path in paths if pathlib.Path(path).name.startswith('libmpi.so')), None)
    if not found:
        raise BadInput('no libmpi.so among the loaded libraries, so C cannot be linked with it; leave --check-c out')
    return found


def headers(library):
    """The folder of the mpi.h that belongs to `library`."""
    near = pathlib.Path(library).resolve()
    for folder in [p/'include' for p in near.parents][:3] + [pathlib.Path(sys.prefix, 'include')]:
        if (folder/'mpi.h').exists():
            return folder
    raise BadInput(f'no mpi.h beside {library}; load the development files of this MPI, or leave --check-c out')


def loop(library, name, handle, x, y, window):
    """run(count) -> seconds [count] of so many turns of the loop `name`.

    handle   an mpi4py communicator or window;  x, y  what is sent and received, y None: nothing
    """
    into = None if y is None else y.ctypes.data_as(ctypes.c_void_p)
    call, fixed = getattr(library, name), (handle.py2f(), x.ctypes.data_as(ctypes.c_void_p), into, x.nbytes, window)

    def run(count):
        seconds = np.empty(count)
        call(*fixed, count, seconds.ctypes.data_as(ctypes.POINTER(ctypes.c_double)))
        return seconds
    assert isinstance(handle, MPI.Comm | MPI.Win)
    return run
