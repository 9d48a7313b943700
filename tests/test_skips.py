"""Steps that are not finite: left out by all alike, counted, named, and too many of them are the end."""

import numpy as np
import pytest

from hpcasr.algorithms import ALGORITHMS, SYNCHRONOUS
from hpcasr.algorithms.base import Algorithm
from hpcasr.checkpoint import Checkpoints
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.data.loader import Loader
from hpcasr.errors import Diverged
from tests.algorithms.problems import Quadratic, live
from tests.conftest import done_of
from tests.short_runs import metrics, short_run
from tests.small import store

SPOILT = {'loss': np.nan, 'gradient': 1e21}  # the latter's logits are finite, the squares of its gradient are not
RELU = {'model.kind': 'dnn', 'model.activation': 'relu'}
names = pytest.mark.parametrize('name', ALGORITHMS)


@pytest.fixture
def run(tmp_path):
    """run(folder, options) trains; -> the lines of its metrics."""
    data = store(tmp_path/'small.h5', utterances=30)
    return lambda folder, **options: short_run(data, tmp_path/folder, **options)


def spoil(monkeypatch, value, first, last=None, epoch=0):
    """Make samples first..last of an epoch what no model can learn from."""
    read = Loader.read

    def spoilt(self, claim, chunks):
        batch = read(self, claim, chunks)
        if self.seed is not None and claim.epoch == epoch:
            for b in range(len(chunks)):
                batch.x[:, b] = value if first <= claim.lo + b <= (first if last is None else last) else batch.x[:, b]
        return batch
    monkeypatch.setattr(Loader, 'read', spoilt)


def leave_out(monkeypatch, step):
    """No learner takes this step (from 1)."""
    descend = Algorithm.descend

    def lacking(self, *args, **options):
        self.taken = getattr(self, 'taken', 0) + 1
        if self.taken != step:
            descend(self, *args, **options)
    monkeypatch.setattr(Algorithm, 'descend', lacking)


@pytest.mark.parametrize('what', SPOILT)
@pytest.mark.parametrize('name', ['sync-allreduce', 'sync-ps'])
def test_a_skipped_step_is_the_run_without_that_step(run, tmp_path, name, what):
    with pytest.MonkeyPatch.context() as monkeypatch:
        spoil(monkeypatch, SPOILT[what], 22)  # the third step takes samples 18..26, learner 1 the middle three
        told = run('spoilt', **RELU | {'train.algo': name})
    with pytest.MonkeyPatch.context() as monkeypatch:
        leave_out(monkeypatch, 3)
        run('lacking', **RELU | {'train.algo': name})
    assert done_of(tmp_path/'spoilt')['checksum'] == done_of(tmp_path/'lacking')['checksum']
    skip, = (line for line in told if line['kind'] == 'skip')
    batch, = skip['batches']
    assert skip['skipped'] == 1 and skip['samples'] == 27
    assert (batch['rank'], batch['at'], batch['what']) == (1, 18, what) and 1 <= len(batch['utterances']) <= 3
    assert all(np.isfinite(line['ce']) for line in told if line['kind'] == 'step')


@names
def test_any_algorithm_goes_on_and_names_the_utterances(run, tmp_path, monkeypatch, capfd, name):
    spoil(monkeypatch, np.nan, 22)
    told = run('x', **{'train.algo': name})
    skips = [line for line in told if line['kind'] == 'skip']
    batches = [batch for skip in skips for batch in skip['batches']]
    assert [skip['skipped'] for skip in skips] == [1] and len(batches) == 1 and batches[0]['utterances']
    assert capfd.readouterr().err.count(f'is not finite: {batches[0]["utterances"][0]}') == 1
    assert done_of(tmp_path/'x')['epochs'] == 2 and np.isfinite(done_of(tmp_path/'x')['ce'])


@pytest.mark.mpi
@pytest.mark.parametrize('name', SYNCHRONOUS)
def test_ranks_leave_out_what_virtual_learners_do(name):
    comm = MPIComm()
    problem = Quadratic(n=61, bad={(0, 2), (1, 4), (comm.size - 1, 4), (0, 5)})
    here = lambda comm: live(comm, name, problem, 9, dtype='float32', options={'optim.momentum': 0.9})
    real, lives = here(comm), World(comm.size).run(here)
    assert real.bits() == lives[comm.rank].bits() and np.array_equal(real.slots, lives[comm.rank].slots)
    assert np.isfinite(real.models).all()


@pytest.mark.parametrize('most', [0, 2])
@names
def test_too_many_in_a_row_are_the_end_and_every_checkpoint_is_good(run, tmp_path, monkeypatch, name, most):
    """All is well in the first epoch; from the second on nothing is."""
    spoil(monkeypatch, np.nan, 0, 10**9, epoch=1)
    with pytest.raises(Diverged, match=r'not finite at sample .*every checkpoint in .* is good'):
        run('x', **{'train.algo': name, 'train.max_skipped': most})
    checkpoints = Checkpoints(tmp_path/'x', Comm())
    path, manifest, complaints = checkpoints.newest()
    epoch = manifest['total']
    assert not complaints and manifest['samples'] >= epoch
    assert np.isfinite(checkpoints.load(path)[0]['params/params']).all()
    if name in SYNCHRONOUS:
        told = metrics(tmp_path/'x')
        assert max(line['skipped'] for line in told if line['kind'] == 'skip') >= 1 + most
    if name in ('sync-allreduce', 'sync-ps'):
        assert sum(line['kind'] == 'skip' for line in told) == 1 + most
