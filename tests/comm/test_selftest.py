"""The self-test passes where windows work, and names what is broken where they do not."""

from contextlib import nullcontext

import pytest

from hpcasr.comm import mpi, selftest, virtual
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.ticket import SERVED
from hpcasr.comm.virtual import World
from hpcasr.errors import AgreedBadInput


class Overlaps:
    def add(self, rank, x, lo=0):
        super().add(rank, x, lo)
        super().add(rank, x[-3:], lo + x.size - 3)


class Tears:
    """Counters change in two steps; the lock does not use this one."""

    def fetch_add(self, rank, k, v):
        if k < 0:
            return super().fetch_add(rank, k, v)
        old = self.read(rank, k)
        self.write(rank, k, old + v)
        return old


class Swaps:
    def compare_and_swap(self, rank, k, expected, new):
        return self.write(rank, k, new) and expected


class Excludes:
    def lock(self, ranks, turns=None, stop=None):
        return nullcontext({})


class Fails:
    def compare_and_swap(self, rank, k, expected, new):
        raise OSError('no such\nthing')


class Stuck:
    """Nobody is served after the first."""

    def fetch_add(self, rank, k, v):
        return super().fetch_add(rank, k, 0 if k == SERVED else v)


BROKEN = {Overlaps: r'concurrent sums are wrong \(rank 0: 6 of 200006 float32\)',
          Tears: r'fetch-and-add is not atomic \(rank 0: \d+ numbers in 300 draws\)',
          Swaps: r'compare-and-swap is not atomic \(rank 0: 15 increments give \d+\)',
          Excludes: r'pair averages under the lock lose something \(rank 0: \d+ of 101 sums\)',
          Fails: r'compare-and-swap is not atomic \(rank 0: OSError: no such thing\)'}


@pytest.mark.mpi
def test_this_library_works():
    comm = MPIComm()
    selftest.run(comm)
    assert not comm.exposed


@pytest.mark.parametrize('schedule', ['clock', 'random'])
@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_virtual_learners_work(size, schedule):
    World(size, schedule=schedule, strict=True).run(selftest.run)
    selftest.run(Comm())


@pytest.mark.parametrize('broken', BROKEN, ids=lambda c: c.__name__)
def test_what_is_broken_is_named(broken, monkeypatch):
    monkeypatch.setattr(virtual, 'VirtualWindow', type('Broken', (broken, virtual.VirtualWindow), {}))

    def work(comm):
        with pytest.raises(AgreedBadInput, match=BROKEN[broken]) as found:
            selftest.run(comm)
        return str(found.value)
    said = World(3, schedule='random').run(work)
    assert len(set(said)) == 1 and said[0].startswith('one-sided exchange does not work with virtual: ')
    assert 'hpcasr[mpich]' in said[0] and '\n' not in said[0]


def test_a_swap_that_does_not_compare_is_found_though_nobody_else_swaps(monkeypatch):
    monkeypatch.setattr(virtual, 'VirtualWindow', type('Broken', (Swaps, virtual.VirtualWindow), {}))
    with pytest.raises(AgreedBadInput, match=r'compare-and-swap is not atomic .*5 increments give 3'):
        World(1).run(selftest.run)


@pytest.mark.mpi
@pytest.mark.parametrize(('broken', 'why'), [
    (Overlaps, 'concurrent sums'), (Fails, 'compare-and-swap'), (Stuck, 'lose something .*Interrupted: learner')])
def test_all_ranks_hear_of_it(broken, why, monkeypatch):
    comm = MPIComm()
    monkeypatch.setattr(mpi, 'MPIWindow', type('Broken', (broken, mpi.MPIWindow), {}))
    monkeypatch.setattr(selftest, 'PATIENCE', 0.3)
    if comm.size > 1:
        with pytest.raises(AgreedBadInput, match=why):
            selftest.run(comm)
    comm.close()


def test_a_library_that_would_crash_is_not_tried(monkeypatch):
    comm = Comm()
    comm.library = 'Open MPI v4.1.4, package: Debian OpenMPI'
    with pytest.raises(AgreedBadInput, match=r'v4.1.4.* Compare_and_swap crashes'):
        selftest.run(comm)
