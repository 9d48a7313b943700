"""Sums in memory that the learners of a node share: the bits of messages, and nobody reads what another overwrites."""

import errno
import mmap
import resource
import time
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest

from hpcasr.comm import memory
from hpcasr.comm.adding import BLOCK, add_everywhere
from hpcasr.comm.base import add_in_order
from hpcasr.comm.mpi import MPIComm, unshareable
from hpcasr.errors import BadInput


def vector(seed, rank, n, dtype='float32'):
    """Twelve decades of magnitude, so that another order of summation gives other bits."""
    rng = np.random.default_rng([seed, rank, n])
    return (rng.normal(size=n)*10.0**rng.integers(-6, 7, n)).astype(dtype)


def expected(seed, comm, n, dtype='float32'):
    total = np.empty(n, dtype)
    add_in_order([vector(seed, rank, n, dtype) for rank in range(comm.size)], comm.nodes, total)
    return total.tobytes()


def arranged(node_size):
    comm = MPIComm()
    if node_size and comm.size % node_size:
        pytest.skip(f'{node_size} does not divide {comm.size}')
    comm.arrange(node_size)
    return comm


def in_memory(comm):
    return 1 < comm.nodes.count(0)


@pytest.mark.mpi
@pytest.mark.parametrize('node_size', [0, 1, 2, 3])
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('n', [1, 2, 5, 1000, 100_003])
def test_both_roads_give_the_sum_over_nodes_of_sums_in_order(n, dtype, node_size):
    comm = arranged(node_size)
    x, y = comm.shared(n, dtype), vector(0, comm.rank, n, dtype)
    assert x.shape == (n,) and x.dtype == dtype and not x.any()
    assert not in_memory(comm) or x.ctypes.data % 64 == 0
    x[:] = y
    assert len(comm.windows) == in_memory(comm) and ('memory' in comm.road) == in_memory(comm)
    comm.sum_ordered(x)
    comm.sum_ordered(y)
    assert x.tobytes() == y.tobytes() == expected(0, comm, n, dtype)


@pytest.mark.mpi
@pytest.mark.parametrize('node_size', [0, 2])
def test_sums_under_way_together_race_with_nobody(node_size):
    """Buckets, messages and a library sum in between, each finished vector overwritten at once, with random pauses."""
    comm, n, bounds = arranged(node_size), 5003, [0, 3, 3, 1700, 1701, 4000, 5003]
    x, y, pauses = comm.shared(n, 'float32'), np.empty(77), np.random.default_rng([5, comm.rank])
    for turn in range(200):
        x[:], y[:], z = vector(turn, comm.rank, n), vector(turn, comm.rank, 77, float), np.full(9, turn)
        finish, other = [], comm.start_sum(y)
        for lo, hi in pairwise(bounds):
            finish.append(comm.start_sum(x[lo:hi]))
            pause(pauses)
            comm.progress()
        library, want = comm.start_library_sum(z), np.frombuffer(expected(turn, comm, n), 'f4')
        for f, (lo, hi) in zip(finish, pairwise(bounds), strict=True):
            f()
            assert x[lo:hi].tobytes() == want[lo:hi].tobytes()
            x[lo:hi] = -1e30  # a peer that still reads it will notice
            pause(pauses)
        library()
        assert (z == turn*comm.size).all()
        other()
        assert y.tobytes() == expected(turn, comm, 77, float)


def pause(rng):
    if rng.random() < 0.1:
        time.sleep(rng.random()*1e-3)


@pytest.mark.mpi
def test_finished_in_any_order():
    comm, n = arranged(0), 1000
    x, y = comm.shared(n, 'float32'), comm.shared(n, 'float32')
    x[:], y[:] = vector(1, comm.rank, n), vector(2, comm.rank, n)
    finish = comm.start_sum(x), comm.start_sum(y[:500]), comm.start_sum(y[500:])
    for f in finish if comm.rank % 2 else finish[::-1]:
        f()
    assert (x.tobytes(), y.tobytes()) == (expected(1, comm, n), expected(2, comm, n))


@pytest.mark.mpi
def test_a_learner_that_waits_serves_the_others():
    """The even ones finish before the barrier, the odd ones behind it."""
    comm = arranged(0)
    for x in comm.shared(1000, 'float32'), np.empty(1000, 'float32'):
        x[:] = vector(3, comm.rank, 1000)
        finish = comm.start_sum(x)
        first, second = (finish, comm.barrier) if comm.rank % 2 else (comm.barrier, finish)
        first()
        second()
        assert x.tobytes() == expected(3, comm, 1000)


@pytest.mark.mpi
def test_another_arrangement_leaves_the_window():
    comm = arranged(0)
    x = comm.shared(500, 'float32')
    x[:] = vector(4, comm.rank, 500)
    comm.arrange(1)
    comm.sum_ordered(x)
    assert comm.nodes == tuple(range(comm.size)) and x.tobytes() == expected(4, comm, 500)


@pytest.mark.mpi
def test_node_sizes_that_do_not_divide_are_refused():
    comm = MPIComm()
    with pytest.raises(BadInput, match=f'--node-size {comm.size + 1} does not divide {comm.size} rank'):
        comm.arrange(comm.size + 1)


@pytest.mark.mpi
def test_where_the_first_gets_no_file_all_use_messages():
    comm = arranged(0)
    with file_limit(comm.rank == 0):
        x = comm.shared(100_000, 'float32')
    require_messages(comm, x, 'File too large')


@pytest.mark.mpi
def test_where_the_last_gets_no_memory_all_use_messages(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, 'No space left on device')
    comm = arranged(0)
    if comm.rank == comm.size - 1:
        monkeypatch.setattr(memory.os, 'posix_fallocate', full)
    require_messages(comm, comm.shared(1000, 'float32'), 'No space left on device')


def require_messages(comm, x, why):
    x[:] = vector(5, comm.rank, len(x))
    comm.sum_ordered(x)
    assert x.tobytes() == expected(5, comm, len(x)) and not comm.windows
    assert comm.road == f'messages ({why if comm.size > 1 else "every node has one learner"})'


@contextmanager
def file_limit(active):
    """No file of more than one page, for this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if active:
        resource.setrlimit(resource.RLIMIT_FSIZE, (mmap.PAGESIZE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.mpi
def test_more_than_there_is_goes_to_whoever_makes_arrays():
    comm = arranged(0)
    if comm.size > 1:
        with pytest.raises((MemoryError, ValueError)):
            comm.shared(10**17, 'float32')
        assert 'MB are free' in comm.road


@pytest.mark.mpi
def test_nodes_over_several_machines_use_messages(monkeypatch):
    comm = MPIComm()
    monkeypatch.setitem(vars(comm), 'machines', tuple(range(comm.size)))
    comm.arrange(comm.size)
    x = comm.shared(10, 'float32')
    x[:] = vector(6, comm.rank, 10)
    comm.sum_ordered(x)
    assert x.tobytes() == expected(6, comm, 10) and not comm.windows
    comm.arrange(0)
    assert comm.nodes == comm.machines


def test_what_can_be_shared():
    assert unshareable((0, 0, 1, 1), (0, 0, 1, 1)) == unshareable((0, 1, 0, 1), (0, 0, 0, 0)) == ''
    assert unshareable((0, 0, 1), (0, 0, 1)) == 'the nodes have 1 to 2 learners'
    assert unshareable((0, 1), (0, 0)) == unshareable((0,), (0,)) == 'every node has one learner'
    assert unshareable((0, 0, 1, 1), (0, 0, 1, 2)) == 'a node spans several machines'


def test_another_file_is_not_taken_for_ours():
    made, path, _ = memory.create(mmap.PAGESIZE)
    assert memory.attempt(memory.attach, path, (0, 0), 0, 1, mmap.PAGESIZE) == (
        None, 'processes of one machine do not see each other')
    memory.os.close(made)


@pytest.mark.parametrize('nodes', [(0,), (0, 0), (0, 1), (0, 0, 0, 1, 1), (0, 1, 0, 1, 2), (0,)*20])
@pytest.mark.parametrize('n', [0, 1, 4095, 4097, BLOCK + 5])
def test_blocks_do_not_change_the_bits(n, nodes):
    parts = [vector(7, rank, n) for rank in range(len(nodes))]
    want = np.empty(n, 'float32')
    add_in_order(parts, nodes, want)
    add_everywhere(parts, nodes, parts)
    assert {part.tobytes() for part in parts} == {want.tobytes()}
