"""Which MPI library is known to be wrong, and a world that is not the launcher's."""

import pytest

from hpcasr.doctor import mpi
from hpcasr.doctor.job import Job


@pytest.fixture
def alone(monkeypatch):
    """No launcher."""
    for variable in mpi.launcher.SIZE_VARIABLES:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(('library', 'why'), [
    ('MPICH Version: 4.0.2', 'MPICH 4.0.2: parts of windows overlapped'),
    ('Open MPI v4.1.4, package: Debian OpenMPI, ident: 4.1.4', 'Open MPI v4.1.4: its Compare_and_swap crashed')])
def test_debians_libraries_are_named(library, why):
    f = mpi.library(Job(library=library))
    assert f.level == 'error' and f.found.startswith(why) and 'hpcasr[mpich]' in f.advice


@pytest.mark.parametrize('library', ['MPICH Version: 5.0.2', 'MPICH Version: 4.0.20', 'Open MPI v4.1.40'])
def test_others_are_not(library):
    assert mpi.library(Job(library=library)).level == 'ok'


def test_four_worlds_of_one_under_srun(alone, monkeypatch):
    monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
    f = mpi.world_size(Job())
    assert f.level == 'error' and f.found.startswith('SLURM_STEP_NUM_TASKS=4, but MPI sees a world of 1')
    assert 'srun --mpi=pmi2' in f.advice
    assert mpi.world_size(Job(size=4)).level == 'ok'


def test_one_process_without_a_launcher(alone):
    f = mpi.world_size(Job())
    assert (f.level, f.found) == ('ok', '1 rank on 1 machine, without a launcher')


def test_no_library_is_an_error_only_where_ranks_were_started(alone, monkeypatch):
    e = RuntimeError('cannot load MPI library\nlibmpi.so: cannot open')
    f = mpi.missing(e)
    assert f.level == 'warning' and 'cannot load MPI library' in f.found and 'hpcasr[mpich]' in f.advice
    monkeypatch.setenv('PMI_SIZE', '4')
    assert mpi.missing(e).level == 'error' and 'PMI_SIZE=4' in mpi.missing(e).found


def test_a_library_for_one_thread():
    f = mpi.judge_threads('FUNNELED')
    assert f.level == 'warning' and 'MPI_THREAD_FUNNELED' in f.found and '--progress thread' in f.advice
    assert mpi.judge_threads('MULTIPLE').level == 'ok'
