"""Ranks that differ, ranks that fail: every rank learns of it, in the same words."""

import pytest

from hpcasr.comm import world
from hpcasr.comm.base import Comm, differing, told
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.world import check_size
from hpcasr.errors import AgreedBadInput, BadInput, Diverged


@pytest.mark.mpi
def test_bad_input_of_one_rank_is_raised_on_all():
    comm = MPIComm()

    def work():
        if comm.rank == comm.size - 1:
            raise BadInput('file: broken')
        return comm.rank
    with pytest.raises(AgreedBadInput) as caught:
        comm.together(work)
    assert str(caught.value) == ('file: broken' if comm.size == 1 else f'rank {comm.size - 1}: file: broken')
    assert comm.together(lambda: comm.rank) == comm.rank


@pytest.mark.mpi(min_size=2)
def test_differences_are_named_by_field_and_rank():
    comm = MPIComm()
    with pytest.raises(AgreedBadInput) as caught:
        comm.compare({'same': 1, 'data.batch': 32 if comm.rank else 64})
    assert 'data.batch: 64 (rank 0), 32 (rank' in str(caught.value)
    assert 'same' not in str(caught.value).split(';')[0].replace('the same', '')


def test_one_line_of_errors():
    assert told([None, 'x', 'x']) == 'rank 1: x'
    assert told(['x', 'x']) == 'x'
    assert differing('f', [1, 2, 1]) == 'f: 1 (ranks 0, 2), 2 (rank 1)'
    assert differing('f', [1, 1]) == ''


@pytest.mark.parametrize('environment', [{'PMI_SIZE': '2'}, {'SLURM_STEP_NUM_TASKS': '2', 'SLURM_NTASKS': '4'},
                                         {'OMPI_COMM_WORLD_SIZE': '2', 'SLURM_STEP_NUM_TASKS': '1'}, {}])
def test_a_world_of_the_right_size_is_accepted(environment):
    check_size(2, environment)


def test_a_world_that_srun_split_is_refused():
    with pytest.raises(BadInput, match='SLURM_STEP_NUM_TASKS=4, but MPI sees a world of 1'):
        check_size(1, {'SLURM_STEP_NUM_TASKS': '4'})


def test_one_learner_alone_sums_nothing():
    comm = Comm()
    comm.compare({'a': 1})
    assert comm.together(lambda: 5) == 5
    with pytest.raises(AgreedBadInput):
        comm.together(check_size, 1, {'PMI_SIZE': '2'})


def test_who_leaves_in_order_first_finishes_what_is_under_way(monkeypatch):
    comm, closed = Comm(), []
    monkeypatch.setattr(comm, 'close', lambda: closed.append(True))
    monkeypatch.setattr(world, 'start', lambda: comm)

    def work(comm):
        raise Diverged('the loss is not finite')
    with pytest.raises(Diverged):
        world.run(work)
    assert closed == [True]
