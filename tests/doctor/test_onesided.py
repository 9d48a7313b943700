"""One-sided exchange: what fails is named, what waits for its target as well."""

import pytest

from hpcasr.comm import selftest
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.doctor import onesided
from hpcasr.doctor.job import Job, job_of


@pytest.mark.mpi
def test_this_library_keeps_its_promises():
    comm = MPIComm()
    f = onesided.rma(comm, job_of(comm))
    assert f.level == 'ok' and f.found == (
        onesided.ALONE if comm.size == 1 else 'sums, fetch-and-add, compare-and-swap and the lock are right')
    comm.close()


@pytest.mark.mpi
def test_progress_is_told_for_every_place():
    comm = MPIComm()
    job = job_of(comm)
    found = onesided.progress(comm, job)
    assert len(found if isinstance(found, list) else [found]) == max(1, len(onesided.targets(comm.nodes)))
    assert not comm.exposed
    comm.close()


def test_what_fails_is_named(monkeypatch):
    monkeypatch.setattr(selftest, 'tried', lambda comm: ['concurrent sums are wrong (rank 0: 6 of 200006 float32)'])
    f = onesided.rma(Comm(), Job(size=2))
    assert f.level == 'error' and '6 of 200006' in f.found and 'synchronous algorithms' in f.advice


def test_virtual_learners_pass():
    assert World(3).run(lambda comm: onesided.rma(comm, Job(size=3)).level) == ['ok']*3


@pytest.mark.parametrize('check', [onesided.rma, onesided.progress])
def test_a_library_that_crashes_is_not_tried(check):
    f = check(None, Job(size=2, library='Open MPI v4.1.4, package: Debian'))
    assert f.level != 'ok' and 'crashes' in f.found and 'Open MPI 5' in f.advice


def test_targets_are_the_last_rank_here_and_one_elsewhere():
    assert onesided.targets((0, 0, 0)) == {'on its own machine': 2}
    assert onesided.targets((0, 1, 0, 1)) == {'on its own machine': 2, 'on another machine': 3}
    assert onesided.targets((0, 1)) == {'on another machine': 1}


def test_waiting_for_the_target_is_named():
    f = onesided.judge('on another machine', 0.3, False)
    assert f.level == 'warning' and '300 ms' in f.found and 'until the target calls' in f.found
    assert '--progress thread' in f.advice
    assert 'more ranks than cores' in onesided.judge('here', 0.3, True).found
    assert onesided.judge('here', 1e-5, True).level == 'ok'
