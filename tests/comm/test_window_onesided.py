"""One-sided windows: every verb against NumPy, for real ranks and virtual learners; nothing is lost under the lock."""

import pathlib
import signal
import time
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm import rma
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import Deadlock, Link, World
from hpcasr.errors import BadInput

SCHEDULES = 'clock', 'random'
KINDS = [(1, 'f4'), (7, 'f8'), (1003, 'f4'), (10_003, 'i4'), (64, 'i8'), (5, 'f2'), (3, 'u1')]


def vector(rank, n, dtype):
    return (np.random.default_rng([rank, n]).random(n)*100).astype(dtype)


def verbs(comm, n, dtype):
    """Learner l has n + l entries; each writes its successor's part, reads everyone's from the second entry on."""
    window, after = comm.window(n + comm.rank, dtype), (comm.rank + 1) % comm.size
    assert window.own.shape == (n + comm.rank,) and window.own.dtype == dtype and not window.own.any()
    assert window.sizes == [n + rank for rank in range(comm.size)]
    comm.barrier()
    window.put(after, vector(after, n + after, dtype))
    comm.barrier()
    parts = [vector(rank, n + rank, dtype) for rank in range(comm.size)]
    for rank, part in enumerate(parts):
        out = np.empty(n + rank - 1, dtype)
        window.get(rank, out, 1)
        assert out.tobytes() == part[1:].tobytes()
    comm.barrier()
    if window.dtype.char in 'fdilq':
        adds(comm, window, parts)
    with window.lock([comm.rank]):
        assert window.own.tobytes() == parts[comm.rank].tobytes()
    comm.barrier()
    window.close()
    assert window.own is None


def adds(comm, window, parts):
    """Everyone to everyone at once, from the second entry on; whole numbers, so that the order leaves no trace."""
    for rank, part in enumerate(parts):
        np.floor(part, out=part, casting='unsafe')
        if rank == comm.rank:
            window.put(rank, part)
    comm.barrier()
    for k in range(comm.size):
        rank = (comm.rank + k) % comm.size
        window.add(rank, np.full(len(parts[rank]) - 1, comm.rank + 1, window.dtype), 1)
    comm.barrier()
    for part in parts:
        part[1:] += comm.size*(comm.size + 1)//2


@pytest.mark.mpi
@pytest.mark.parametrize(('n', 'dtype'), KINDS)
def test_entries_over_mpi(n, dtype):
    verbs(MPIComm(), n, dtype)


@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('size', [1, 2, 3, 5])
@pytest.mark.parametrize(('n', 'dtype'), KINDS)
def test_entries_of_virtual_learners(n, dtype, size, schedule):
    World(size, schedule=schedule, strict=True).run(lambda comm: verbs(comm, n, dtype))


@pytest.mark.parametrize(('n', 'dtype'), KINDS)
def test_entries_of_a_learner_alone(n, dtype):
    verbs(Comm(), n, dtype)


@pytest.mark.mpi
def test_pieces_make_a_whole(monkeypatch):
    monkeypatch.setattr(rma, 'PIECE', 1000)
    verbs(MPIComm(), 1003, 'f8')


def counting(comm):
    window, last = comm.window(0, 'f4', counters=3), comm.size - 1
    assert window.write(comm.rank, 1, 10**12) == 0
    comm.barrier()
    drawn = comm.allgather([window.fetch_add(last, 0, 2) for _ in range(20)])
    assert sorted(v for values in drawn for v in values) == list(range(0, 40*comm.size, 2))
    assert all(values == sorted(values) for values in drawn)
    lows = comm.allgather(window.lower(last, 1, 100 + comm.rank))
    assert window.read(last, 1) == 100 and 10**12 in lows
    wins = comm.allgather(window.compare_and_swap(0, 2, 0, comm.rank + 1))
    winner = window.read(0, 2)
    assert wins.count(0) == 1 and wins[winner - 1] == 0 and set(wins) <= {0, winner}
    assert window.compare_and_swap(0, 2, -5, 7) == winner == window.wait(0, 2, 1)
    comm.barrier()
    assert comm.size == 1 or window.read(0, 0) == (40*comm.size if last == 0 else 0)
    window.close()


@pytest.mark.mpi
def test_counters_over_mpi():
    counting(MPIComm())


@given(st.integers(1, 6), st.integers(0, 10**6), st.sampled_from(SCHEDULES))
@settings(max_examples=30, deadline=None)
def test_counters_of_virtual_learners(size, seed, schedule):
    World(size, schedule=schedule, seed=seed, strict=True).run(counting)


def test_counters_of_a_learner_alone():
    counting(Comm())
    with pytest.raises(RuntimeError, match='alone waits for the end of time'):
        Comm().window(1, 'f4', 1).wait(0, 0, 1, 'the end of time')


def sums(comm, locked=True, rounds=10, n=33):
    """(Σ_l of what x_l has to be, of what it is) after pair averages and steps of whole numbers, with pauses."""
    window, rng, other = comm.window(n, 'f4'), np.random.default_rng([3, comm.rank]), np.empty(n, 'f4')
    lock = window.lock if locked else lambda ranks: nullcontext()
    added, steps = np.zeros(n, 'f4'), rng.integers(-1000, 1000, (rounds, n)).astype('f4')
    for step in steps:
        peer = (comm.rank + rng.integers(1, max(comm.size, 2))) % comm.size
        with lock([comm.rank, peer]):
            window.get(peer, other)
            mean = np.floor((window.own + other)/2)  # exact, however many averages there are
            rest = window.own + other - mean
            comm.sleep(rng.random()*2e-3)
            window.own[:] = mean if peer != comm.rank else window.own
            window.put(peer, rest if peer != comm.rank else other)
        with lock([comm.rank]):
            window.own += step
            added += step
    comm.barrier()
    window.sync()
    before, after = (np.sum(comm.allgather(x.tolist()), axis=0) for x in (added, window.own))
    window.close()
    return before, after


def conserves(before, after):
    return before.tobytes() == after.tobytes()


@pytest.mark.mpi
def test_pair_averages_conserve_the_sum_over_mpi():
    assert conserves(*sums(MPIComm()))


@given(st.integers(1, 5), st.integers(0, 10**6), st.sampled_from(SCHEDULES))
@settings(max_examples=40, deadline=None)
def test_pair_averages_conserve_the_sum_of_virtual_learners(size, seed, schedule):
    for before, after in World(size, schedule=schedule, seed=seed, strict=True).run(sums):
        assert conserves(before, after)


@pytest.mark.parametrize('schedule', SCHEDULES)
@pytest.mark.parametrize('size', [2, 3, 5])
@pytest.mark.parametrize('seed', range(5))
def test_without_the_lock_they_do_not(size, seed, schedule):
    """The test of the test: the one above sees a race where there is one."""
    (before, after), *_ = World(size, schedule=schedule, seed=seed).run(lambda comm: sums(comm, locked=False))
    assert not conserves(before, after)


def test_simulated_time_is_that_of_the_links():
    def work(comm):
        window = comm.window(1000, 'f4')
        comm.barrier()
        tic = comm.now()
        if comm.rank == 0:
            window.get(1, np.empty(1000, 'f4'))
            window.put(0, np.ones(1000, 'f4'))
            window.read(1, -1)
        return comm.now() - tic, comm.bytes_sent, comm.messages_sent
    (spent, nbytes, messages), (idle, *_) = World(2, Link(1e-3, 1e6), strict=True).run(work)
    assert spent == pytest.approx(4e-3 + 2*1e-3) and idle == 0 and (nbytes, messages) == (4000, 1)


def test_a_wait_ends_when_the_counter_is_seen():
    def work(comm):
        window = comm.window(0, 'f4', 1)
        comm.barrier()
        if comm.rank:
            tic = comm.now()
            assert window.wait(0, 0, 3) == 3
            return comm.now() - tic
        for _ in range(3):
            comm.sleep(0.5)
            window.fetch_add(0, 0, 1)
    assert World(2, Link(0.25, 1e9), strict=True).run(work)[1] == pytest.approx(1.75)


def misuse(comm):
    window, x = comm.window(10, 'f4', 1), np.zeros(4, 'f4')
    for wrong in ((comm.size, x, 0), (-1, x, 0), (0, x, 7), (0, x, -1), (0, x.astype('f8'), 0), (0, x[::2], 0),
                  (0, x.reshape(2, 2), 0)):
        for verb in window.get, window.put, window.add:
            with pytest.raises(ValueError, match=r'no learner|entries|contiguous'):
                verb(*wrong)
    with pytest.raises(IndexError):
        window.read(0, 9)
    for verb in window.read, window.fetch_add, window.compare_and_swap:
        with pytest.raises(ValueError, match='no learner'):
            verb(comm.size, 0, *[0]*(verb.__func__.__code__.co_argcount - 3))
    with pytest.raises(ValueError, match='cannot be summed'):
        comm.window(10, 'f2').add(0, np.zeros(1, 'f2'))
    window.get(0, x[:0], 10)
    if comm.size > 1:
        with pytest.raises(ValueError, match='different windows'):
            comm.window(10, 'f4', counters=comm.rank)


@pytest.mark.mpi
def test_misuse_is_refused_over_mpi():
    comm = MPIComm()
    misuse(comm)
    comm.close()
    assert not comm.exposed


@pytest.mark.parametrize('size', [1, 2])
def test_misuse_is_refused(size):
    World(size).run(misuse)
    misuse(Comm())


@pytest.mark.mpi
def test_too_little_shared_memory_is_said_to_all_before_it_is_taken(monkeypatch):
    comm = MPIComm()
    with monkeypatch.context() as patch:
        if comm.rank == comm.size - 1:
            patch.setattr(rma, 'free', lambda: 1.5e6)
        if comm.size > 1:
            with pytest.raises(BadInput, match=r'MB in /dev/shm, 1.5 MB are free; enlarge it .*synchronous algorithm'):
                comm.window(2_000_000, 'f4')
    assert not comm.exposed
    verbs(comm, 100, 'f4')


def test_free_space_of_no_such_folder_is_unknown(monkeypatch):
    assert 0 < rma.free() < np.inf
    monkeypatch.setattr(rma, 'SHM', '/nowhere')
    assert rma.free() == np.inf


@pytest.mark.mpi
def test_a_learner_that_makes_no_call_is_reached(tmp_path):
    """Learner 0 looks at nothing but a file, which the others write when they are done with its part."""
    comm = MPIComm()
    window, folder = comm.window(10_000, 'f4', 1), pathlib.Path(comm.allgather(str(tmp_path))[0])
    if len(set(comm.machines)) > 1:
        pytest.skip('across machines it depends on the network')
    if comm.rank:
        x = np.empty(10_000, 'f4')
        with window.lock([0]):
            window.get(0, x)
            window.put(0, x + comm.rank)
        if window.fetch_add(0, 0, 1) == comm.size - 2:
            (folder/'done').touch()
    until = time.monotonic() + 20
    while comm.rank == 0 < comm.size - 1 and not (folder/'done').exists():
        assert time.monotonic() < until
        time.sleep(1e-3)
    with window.lock([comm.rank]):
        assert comm.rank or (window.own == comm.size*(comm.size - 1)//2).all()
    comm.barrier()
    window.close()


@pytest.mark.mpi
def test_windows_of_a_part_of_the_learners():
    comm = MPIComm()
    part = comm.split([rank % 2 for rank in range(comm.size)])
    before, after = sums(part)
    assert conserves(before, after)
    verbs(comm, 10, 'f4')
    assert comm.seconds >= part.seconds >= part.waited >= 0


def test_nobody_waits_for_messages_while_it_holds_a_lock():
    def work(comm):
        with comm.window(1, 'f4').lock([0]):
            comm.barrier()
    with pytest.raises(AssertionError, match='waits for a meeting of 2 while it holds a lock'):
        World(2, strict=True).run(work)
    with pytest.raises(Deadlock, match=r'learner [01] waits for ticket 1 of learner 0'):
        World(2).run(work)


AGREED = '''
from hpcasr.comm import world
from hpcasr.errors import AgreedBadInput
def work(comm):
    window, other = comm.window(1000, 'f4'), comm.split([0]*comm.size).window(10, 'f4')
    with window.lock([0]):
        pass
    raise AgreedBadInput('all know')
try:
    world.run(work)
except AgreedBadInput:
    print('in order')
'''
KILLED = '''
import os, time
from hpcasr.comm import world
def work(comm):
    window = comm.window(1000, 'f4')
    comm.barrier()
    if comm.rank == 1:
        with window.lock([0]):
            os.kill(os.getpid(), 9)
    time.sleep(0.5)
    with window.lock([0]):
        print('never here')
world.run(work)
'''


@pytest.mark.launch
def test_a_job_that_ends_early_gives_its_windows_back(hpcasr, tmp_path):
    (tmp_path/'agreed.py').write_text(AGREED)
    done = hpcasr(ranks=2, script=['agreed.py'])
    assert done.stdout.count('in order') == 2 and 'rcache' not in done.stderr


@pytest.mark.launch
def test_who_dies_with_a_lock_ends_the_job(hpcasr, tmp_path):
    (tmp_path/'killed.py').write_text(KILLED)
    done = hpcasr(ranks=2, script=['killed.py'], status=None, timeout=30)
    assert done.returncode not in (0, -signal.SIGTERM) and 'never here' not in done.stdout
