"""`hpcasr train --virtual L`: the same bits as L ranks, on a clock of its own."""

import json

import pytest

from tests.conftest import done_of

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240)]
PLAN = '--epochs', '2', '--batch', '3', '--checkpoint-every', '12'


@pytest.mark.parametrize('ranks', [1, 3])
def test_virtual_learners_are_ranks_bit_for_bit(train, tmp_path, ranks):
    train(ranks, '--out', 'exp/real', *PLAN)
    done = train(0, '--out', 'exp/virtual', *PLAN, '--virtual', str(ranks))
    assert f'{ranks} virtual learner' in done.stderr and 'clock     simulated: ' in done.stderr
    assert done_of(tmp_path/'exp/virtual') == done_of(tmp_path/'exp/real')


def test_they_stop_and_go_on(train, tmp_path):
    train(0, '--out', 'exp/whole', *PLAN, '--virtual', '3')
    train(0, '--out', 'exp/cut', *PLAN, '--virtual', '3', mishap=('usr1', 0, 8), status=75)
    train(0, '--out', 'exp/cut', *PLAN, '--virtual', '3', '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_ranks_go_on_where_virtual_learners_stopped(train, tmp_path):
    train(2, '--out', 'exp/whole', *PLAN)
    train(0, '--out', 'exp/cut', *PLAN, '--virtual', '2', mishap=('usr1', 0, 8), status=75)
    train(2, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut')['checksum'] == done_of(tmp_path/'exp/whole')['checksum']


def test_time_is_simulated(train, tmp_path):
    """100 ms a step of 3 samples, and one learner that takes twice as long: waiting is half of the others' time."""
    train(0, '--out', 'exp/v', *PLAN, '--virtual', '3', '--slow-rank', '2=2', '--set', 'simulate.latency=0')
    lines = [json.loads(line) for line in (tmp_path/'exp/v/metrics.jsonl').read_text().splitlines()]
    steps = [line for line in lines if line['kind'] == 'step' and line['waiting_share']]
    assert steps and all(abs(line['waiting_share'] - 0.5) < 0.01 for line in steps[:4])


@pytest.mark.parametrize('options, says', [(('--virtual', '0'), 'x>=1'), (('--slow-rank', '9=2'), 'only ranks 0 to 1'),
                                           (('--node-size', '3'), 'does not divide 2'),
                                           (('--topology', 'star'), 'ring')])
def test_what_cannot_be(train, options, says):
    options = ('--virtual', '2', '--algo', 'sync-decentralized', *options)
    done = train(0, '--out', 'exp/v', *options, status=2)
    assert says in done.stderr and 'Traceback' not in done.stderr


def test_not_under_mpirun(train):
    done = train(2, '--out', 'exp/v', '--virtual', '2', status=None)
    assert done.returncode and done.stderr.count('virtual learners live in one process') == 1
