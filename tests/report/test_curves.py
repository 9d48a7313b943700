"""The report of experiments: last and best epoch, a picture, clear words where there is nothing to show."""

import json

import pytest

from hpcasr.cli import main
from hpcasr.errors import BadInput
from hpcasr.report import curves


@pytest.fixture
def experiment(tmp_path):
    lines = [{'kind': 'step', 'samples': k, 'epoch': k/10, 'ce': 3/k, 'fer': 0.5, 'frames_per_second': 10*k}
             for k in range(1, 30)]
    lines += [{'kind': 'epoch', 'samples': 10*e, 'epoch': e, 'ce': ce, 'fer': ce/10}
              for e, ce in enumerate([2.0, 1.0, 1.5], 1)]
    (tmp_path/'x').mkdir()
    (tmp_path/'x'/'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return tmp_path/'x'


def test_last_and_best(experiment):
    row, = curves.rows([experiment])
    assert (row['epochs'], row['ce'], row['best_ce'], row['best_epoch']) == (3, 1.5, 1.0, 2)
    assert row['frames_per_second'] == 150
    assert '1.500' in curves.table([row])


@pytest.mark.parametrize('ending, start', [('png', b'\x89PNG'), ('svg', b'<?xml'), ('pdf', b'%PDF')])
def test_a_picture_in_three_formats(experiment, tmp_path, ending, start):
    pytest.importorskip('matplotlib')
    out = tmp_path/f'curves.{ending}'
    assert main(['report', str(experiment), '--plot', str(out)]) == 0
    assert out.read_bytes().startswith(start)
    assert main(['report', str(experiment), '--plot', str(out)]) == 2


def test_json(experiment, capsys):
    assert main(['report', str(experiment), '--json']) == 0
    assert json.loads(capsys.readouterr().out)[0]['best_ce'] == 1.0


@pytest.mark.parametrize('content, words', [(None, 'not an experiment'), ('', 'no epoch is complete'),
                                            ('{"kind": "step"\n', 'line 1'), ('[1]\n', 'line 1'),
                                            ('{"kind": "other"}\n', 'line 1')])
def test_what_is_no_experiment_is_refused(tmp_path, content, words):
    if content is not None:
        (tmp_path/'metrics.jsonl').write_text(content)
    with pytest.raises(BadInput, match=words):
        curves.rows([tmp_path])
