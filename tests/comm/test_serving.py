"""A thread that serves the other ranks ends with the Comm, disturbs nothing, and is refused where MPI forbids it."""

import threading

import numpy as np
import pytest
from mpi4py import MPI

from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.errors import AgreedBadInput


def threads():
    return [thread for thread in threading.enumerate() if thread.name == 'progress']


@pytest.mark.parametrize('how', ['poll', 'thread'])
def test_who_needs_no_thread_has_none(how):
    def work(comm):
        comm.serve(how)
        assert not threads()
    World(3).run(work)
    work(Comm())


@pytest.mark.mpi
def test_polling_needs_no_thread():
    comm = MPIComm()
    comm.serve('poll')
    assert not threads()
    comm.close()


@pytest.mark.mpi
def test_there_is_one_until_the_end():
    comm = MPIComm()
    for _ in range(2):
        comm.serve('thread')
        assert len(threads()) == (comm.size > 1) and all(thread.daemon for thread in threads())
    comm.close()
    assert not threads()
    comm.close()


@pytest.mark.mpi
def test_it_disturbs_nobody():
    """Sums, messages and locks at once, while all threads look."""
    comm = MPIComm()
    comm.serve('thread')
    window, x = comm.window(1000, 'd'), np.empty(1000)
    rng, right, left = np.random.default_rng(comm.rank), (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for turn in range(20):
        total = np.full(5000, float(comm.rank + turn))
        finish = comm.start_sum(total)
        came = comm.start_exchange(np.full(3, float(comm.rank)), [right]*(comm.size > 1), [left]*(comm.size > 1))
        with window.lock([0, comm.size - 1]):
            for rank in {0, comm.size - 1}:
                window.get(rank, x)
                comm.sleep(rng.random()*1e-3)
                window.put(rank, x + 1)
        finish()
        assert (total == sum(range(comm.size)) + turn*comm.size).all()
        assert all((vector == left).all() for vector in came())
    comm.barrier()
    for rank in {0, comm.size - 1}:
        window.get(rank, x)
        assert (x == 20*comm.size).all()
    comm.close()


@pytest.mark.mpi
def test_a_library_that_forbids_it(monkeypatch):
    comm = MPIComm()
    monkeypatch.setattr(MPI, 'Query_thread', lambda: MPI.THREAD_SERIALIZED if comm.rank == 0 else MPI.THREAD_MULTIPLE)
    if comm.size > 1:
        with pytest.raises(AgreedBadInput, match=r'rank 0: --progress thread: .* use --progress poll'):
            comm.serve('thread')
    assert not threads()
    comm.close()
