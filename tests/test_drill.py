"""HPCASR_FAULT is understood, or refused in one line; what it orders happens once."""

import errno

import numpy as np
import pytest

from hpcasr import drill
from hpcasr.data.batch import Batch
from hpcasr.data.store import Store
from hpcasr.drill import Drill, get_drill, parse
from hpcasr.errors import BadInput
from tests.small import store


class Run:
    """As much of a run as a drill sees."""

    def __init__(self, out, rank=0, size=3):
        self.out, self.comm, self.slept = out, self, 0
        self.rank, self.size, self.task = rank, size, self
        self.corpus = None

    def sleep(self, seconds):
        self.slept += seconds


def batch(n=2):
    return Batch(np.zeros((4, n, 3), np.float32), np.zeros((4, n), np.int32), np.full(n, 4))


def test_faults_are_understood():
    faults = parse(' kill:rank=2:step=40 ;; slow:every:seconds=0.5;torn-checkpoint;')
    assert [(f.name, f.rank, f.step, f.seconds, f.every) for f in faults] == [
        ('kill', 2, 40, 0.1, False), ('slow', 0, 1, 0.5, True), ('torn-checkpoint', 0, 1, 0.1, False)]
    assert sorted(drill.KINDS) == ['corrupt-record', 'enospc', 'exc', 'exit0', 'hang', 'kill', 'nan', 'sigterm', 'slow',
                                   'stop', 'torn-checkpoint']


@pytest.mark.parametrize('text, said', [
    ('kil', "no 'kil'; did you mean kill"), ('kill:rnk=1', 'did you mean rank'), ('kill:rank', "'' is no number"),
    ('kill:rank=x', "'x' is no number"), ('kill:step=-1', 'no number'), ('slow:seconds=inf', 'no number'),
    ('slow:seconds=nan', 'no number'), ('kill:step=1.5', 'no number'), ('exc:rank=3', 'no rank 3 among 3'),
    ('torn-checkpoint:rank=1', 'rank 0'), ('corrupt-record', 'needs a store'), (':', "no ''"),
    ('exc;every', "no 'every'")])
def test_what_makes_no_sense_is_refused_on_every_rank(tmp_path, text, said):
    for rank in range(3):
        with pytest.raises(BadInput, match=said) as e:
            get_drill({'HPCASR_FAULT': text}, Run(tmp_path, rank))
        assert '\n' not in str(e.value)


def test_only_the_rank_that_is_meant_drills(tmp_path):
    environment = {'HPCASR_FAULT': 'exc:rank=1:step=2'}
    assert get_drill(environment, Run(tmp_path)) is drill.NO_DRILL is get_drill({}, Run(tmp_path, 1))
    one = get_drill(environment, Run(tmp_path, 1))
    one.step(None, batch())
    with pytest.raises(RuntimeError, match='HPCASR_FAULT=exc:rank=1:step=2'):
        one.step(None, batch())
    one.step(None, batch())


@pytest.mark.parametrize('every', ['', ':every'])
def test_a_fault_happens_once_in_an_experiment_unless_every_time_is_meant(tmp_path, every):
    """Every Drill is a start of the same job."""
    happened = 0
    for _ in range(3):
        one = Drill(parse(f'enospc:step=2{every}'), tmp_path, 0)
        for _ in range(4):
            one.step(None, batch())
            try:
                one.write()
            except OSError as e:
                assert e.errno == errno.ENOSPC and one.steps == 2
                happened += 1
    assert happened == (3 if every else 1)


def test_a_poisoned_batch_and_one_that_is_empty(tmp_path):
    one, x = Drill(parse('nan:step=1'), tmp_path, 0), batch()
    one.step(None, batch(0))
    one.step(None, x)
    assert np.isnan(x.x).all()


def test_slow_from_its_step_on(tmp_path):
    one, run = Drill(parse('slow:step=3:seconds=2'), tmp_path, 0), Run(tmp_path)
    slept = []
    for _ in range(5):
        one.step(run, batch())
        slept.append(run.slept)
    assert slept == [0, 0, 2, 4, 6]


def test_a_bit_of_the_next_utterance_is_another_here_and_not_on_the_disk(tmp_path):
    path = store(tmp_path/'s.h5', utterances=5, shortest=3)
    before, run = path.read_bytes(), Run(tmp_path)
    run.corpus = Store(str(path))
    run.corpus.utterance(3)
    one = get_drill({'HPCASR_FAULT': 'corrupt-record'}, run)
    one.step(run, batch())
    with pytest.raises(BadInput, match='utt3: checksum of the frames differs'):
        run.corpus.utterance(3)
    run.corpus.utterance(4)
    assert path.read_bytes() == before


def test_a_torn_checkpoint_has_lost_its_end(tmp_path):
    (tmp_path/'c').mkdir()
    (tmp_path/'c/shared.h5').write_bytes(bytes(range(100)))
    one = Drill(parse('torn-checkpoint:step=1'), tmp_path, 0)
    one.committed(tmp_path/'c')
    assert (tmp_path/'c/shared.h5').stat().st_size == 100  # not before the step
    one.step(None, batch())
    one.committed(tmp_path/'c')
    assert (tmp_path/'c/shared.h5').read_bytes() == bytes(range(50))
