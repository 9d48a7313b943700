"""What the metrics say: sums over steps as means, nothing twice after a resume."""

import json

import pytest

from hpcasr.comm.base import Comm
from hpcasr.config import Report
from hpcasr.recorder import Recorder, Silent, get_recorder


def step(recorder, samples, loss=10.0):
    recorder.step(samples=samples, epoch=samples/100, lr=0.1, frames=5, loss=loss, errors=1, seconds=0.5,
                  exchange_share=0.1, data_share=0.05, bytes_sent=8)


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
    line, = lines(tmp_path)
    assert line == {'kind': 'step', 'samples': 2, 'epoch': 0.02, 'lr': 0.1, 'steps': 2, 'ce': 3.0, 'fer': 0.2,
                    'frames_per_second': 10.0, 'exchange_share': 0.2, 'data_share': 0.1, 'seconds': 1.0,
                    'bytes_sent': 16}


def test_rewind_forgets_what_will_be_recorded_again(recorder, tmp_path):
    for samples in range(1, 9):
        step(recorder, samples)
    recorder.epoch(samples=8, epoch=1, ce=1.0, fer=0.5, text='')
    recorder.rewind(4)
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


def test_other_ranks_keep_silent(tmp_path):
    comm = Comm()
    comm.rank = 1
    recorder = get_recorder(comm, tmp_path, Report(), 100)
    assert isinstance(recorder, Silent)
    step(recorder, 1)
    recorder.note('x')
    recorder.close()
    assert not list(tmp_path.iterdir())
