"""What the metrics say: sums over steps as means, nothing twice after a resume."""

import json

import pytest

from hpcasr.comm.base import Comm
from hpcasr.config import Report
from hpcasr.errors import BadInput
from hpcasr.recorder import Recorder, Silent, get_recorder


def step(recorder, samples, loss=10.0, **told):
    recorder.step(samples=samples, epoch=samples/100, lr=0.1, seconds=0.5, exchange_seconds=0.125,
                  waiting_seconds=0.0625, data_seconds=0.0625, bytes_sent=8,
                  told={'frames': 5, 'loss': loss, 'errors': 1} | told)


def lines(path):
    return [json.loads(line) for line in (path/'metrics.jsonl').read_text().splitlines()]


@pytest.fixture
def recorder(tmp_path):
    return Recorder(tmp_path, Report(every=2, tensorboard=False), 100)


def test_an_interval_is_the_mean_over_its_frames(recorder, tmp_path):
    step(recorder, 1, loss=10)
    step(recorder, 2, loss=20)
    step(recorder, 3)
    recorder.close()
    line, rest = lines(tmp_path)
    assert rest['samples'] == 3 and rest['steps'] == 1 and rest['ce'] == 2.0
    assert line == {'kind': 'step', 'samples': 2, 'epoch': 0.02, 'lr': 0.1, 'steps': 2, 'ce': 3.0, 'fer': 0.2,
                    'frames_per_second': 10.0, 'exchange_share': 0.25, 'waiting_share': 0.125, 'data_share': 0.125,
                    'compute_share': 0.5, 'exchange_seconds': 0.125, 'waiting_seconds': 0.0625, 'data_seconds': 0.0625,
                    'compute_seconds': 0.25, 'seconds': 1.0, 'bytes_sent': 16}


def test_a_line_tells_of_no_step_whose_frames_are_not_known(recorder, tmp_path):
    """Sums come two steps late; what they are sums over, and the time it took, are in the same line."""
    for samples, behind in (1, 1), (2, 2), (3, 3):
        step(recorder, samples, loss=0.0, frames=0, errors=0, behind=behind)
    step(recorder, 4, frames=10, errors=2, behind=2)
    assert [line['samples'] for line in lines(tmp_path)] == [2]
    recorder.hear(frames=10, loss=10.0, errors=2)
    recorder.close()
    assert [(line['samples'], line['steps'], line['seconds'], line['frames_per_second'], line['ce'])
            for line in lines(tmp_path)] == [(2, 2, 1.0, 10.0, 1.0), (4, 2, 1.0, 10.0, 1.0)]


def test_rewind_forgets_what_will_be_recorded_again(recorder, tmp_path):
    for samples in range(1, 9):
        step(recorder, samples)
    recorder.epoch(samples=8, epoch=1, ce=1.0, fer=0.5, text='')
    recorder.rewind(4)
    assert not recorder.lost
    step(recorder, 5)
    step(recorder, 6)
    recorder.close()
    assert [(line['kind'], line['samples']) for line in lines(tmp_path)] == [('step', 2), ('step', 4), ('step', 6)]


def test_a_line_cut_off_by_a_kill_is_dropped(recorder, tmp_path):
    step(recorder, 1)
    step(recorder, 2)
    recorder.close()
    with open(tmp_path/'metrics.jsonl', 'a') as file:
        file.write('{"kind": "step", "sam')
    again = Recorder(tmp_path, Report(every=2, tensorboard=False), 100)
    again.rewind(10)
    again.close()
    assert [line['samples'] for line in lines(tmp_path)] == [2]


def test_events_are_written_for_tensorboard(tmp_path):
    recorder = Recorder(tmp_path, Report(every=1), 100)
    step(recorder, 1)
    recorder.close()
    event, = (tmp_path/'tensorboard').iterdir()
    content = event.read_bytes()
    assert b'step/ce' in content and b'step/data_share' in content


def test_metrics_that_cannot_be_written_cost_one_warning_not_the_run(recorder, tmp_path, capsys):
    recorder.metrics.close()
    recorder.metrics = open('/dev/full', 'ab', buffering=0)
    for samples in range(1, 50):
        step(recorder, samples)
    recorder.close()
    assert capsys.readouterr().err.count('No space left on device') == 1


@pytest.mark.parametrize('name', ['metrics.jsonl', 'tensorboard'])
def test_files_that_cannot_be_made_are_bad_input(tmp_path, name):
    (tmp_path/name).mkdir() if name == 'metrics.jsonl' else (tmp_path/name).write_text('')
    with pytest.raises(BadInput, match=name):
        get_recorder(Comm(), tmp_path, Report(), 100)


def test_other_ranks_keep_silent(tmp_path):
    comm = Comm()
    comm.rank = 1
    recorder = get_recorder(comm, tmp_path, Report(), 100)
    assert isinstance(recorder, Silent)
    step(recorder, 1)
    recorder.note('x')
    recorder.close()
    assert not list(tmp_path.iterdir())
