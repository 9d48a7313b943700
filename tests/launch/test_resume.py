"""N steps = k steps + a kill + resume + the rest, bit for bit."""

import json

import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.kernels.cpu import processor
from tests.conftest import done_of
from tests.launch.few import few

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240)]
# checkpoints are written at once, not in the background: kills come a step of 2 ms later
PLAN = '--epochs', '2', '--batch', '3', '--checkpoint-every', '12', '--set', 'checkpoint.background=false'
BACKGROUND = *PLAN, '--set', 'checkpoint.background=true'


@pytest.mark.parametrize('ranks', few([3, 1, 2], 0))
def test_killed_twice_in_one_epoch(train, tmp_path, ranks):
    """Checkpoints every 12 samples of about 57; kills after 13 and, counted from the resume, 5 more samples."""
    train(ranks, '--out', 'exp/whole', *PLAN)
    per_step = 3*ranks
    for steps in 13//per_step + 2, 12//per_step + 2:
        train(ranks, '--out', 'exp/cut', *PLAN, '--resume', 'auto', mishap=('kill', ranks - 1, steps), status=None)
        assert not (tmp_path/'exp/cut/DONE').exists()
    last = train(ranks, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert 'resume    exp/cut/checkpoints/' in last.stderr and 'not bit-identical' not in last.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')
    assert samples(tmp_path/'exp/cut') == samples(tmp_path/'exp/whole')


def samples(experiment):
    lines = [json.loads(line) for line in (experiment/'metrics.jsonl').read_text().splitlines()]
    return [(line['kind'], line['samples'], line['ce']) for line in lines if line['kind'] != 'checkpoint']


@pytest.mark.parametrize('options', [('--optimizer', 'adam', '--lr', '0.01', '--schedule', 'newbob'),
                                     ('--set', 'model.dropout=0.3', '--set', 'train.dtype=float64')])
def test_state_of_optimizer_schedule_and_dropout_is_resumed(train, tmp_path, options):
    train(2, '--out', 'exp/whole', *PLAN, *options)
    train(2, '--out', 'exp/cut', *PLAN, *options, mishap=('kill', 0, 9), status=None)
    train(2, '--out', 'exp/cut', *PLAN, *options, '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


@pytest.mark.parametrize('mishap', ['usr1', 'term-supervisor'])
@pytest.mark.parametrize('ranks', [1, 3])
def test_a_signal_to_one_rank_stops_all_at_the_same_step(train, tmp_path, mishap, ranks):
    train(ranks, '--out', 'exp/whole', *PLAN)
    train(ranks, '--out', 'exp/cut', *BACKGROUND, mishap=(mishap, ranks - 1, 3), status=75)
    assert not (tmp_path/'exp/cut/DONE').exists()
    assert len(list((tmp_path/'exp/cut/checkpoints').iterdir())) >= 1
    train(ranks, '--out', 'exp/cut', *BACKGROUND, '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_a_signal_to_mpirun_reaches_the_ranks(train, tmp_path):
    train(2, '--out', 'exp/whole', *PLAN)
    train(2, '--out', 'exp/cut', *PLAN, mishap=('usr1-to-mpirun', 0, 2), status=None)
    last = train(2, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert 'resume    exp/cut' in last.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_a_full_disk_under_tensorboard_does_not_hang(train, tmp_path):
    events = '--set', 'report.tensorboard=true', '--set', 'report.every=1'
    done = train(2, '--out', 'exp/cut', '--batch', '1', '--epochs', '2', *events, mishap=('full-disk', 0, 4), status=2)
    assert 'metrics are lost' in done.stderr and done.stderr.count('hpcasr: error:') == 1


def test_a_damaged_checkpoint_is_passed_over(train, tmp_path):
    train(2, '--out', 'exp/whole', *PLAN)
    train(2, '--out', 'exp/cut', *PLAN, mishap=('kill', 0, 8), status=None)
    newest = max((tmp_path/'exp/cut/checkpoints').iterdir())/'shared.h5'
    content = bytearray(newest.read_bytes())
    content[len(content)//2] ^= 1
    newest.write_bytes(content)
    done = train(2, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert 'does not match its checksum; falling back' in done.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_a_full_disk_leaves_the_last_good_checkpoint(train, tmp_path):
    train(2, '--out', 'exp/whole', *PLAN)
    done = train(2, '--out', 'exp/cut', *PLAN, mishap=('full-disk', 0, 4), status=2)
    assert done.stderr.count('hpcasr: error:') == 1 and 'File too large' in done.stderr
    assert [p.name for p in (tmp_path/'exp/cut/checkpoints').iterdir()] == ['000000000012']
    train(2, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_another_number_of_ranks_goes_on_and_says_so(train, tmp_path):
    train(2, '--out', 'exp/cut', *PLAN, mishap=('kill', 0, 5), status=None)
    done = train(3, '--out', 'exp/cut', *PLAN, '--resume', 'auto')
    assert 'not bit-identical from here: ranks 2 then, 3 now' in done.stderr
    assert done_of(tmp_path/'exp/cut')['epochs'] == 2


@pytest.mark.parametrize('name', few(ALGORITHMS, 1, 3, 6, 9))
def test_any_algorithm_goes_on_with_another_number_of_learners(train, tmp_path, name):
    plan = *PLAN, '--algo', name, '--lr', '0.3', '--epochs'
    train(0, '--out', 'exp/x', *plan, '1', '--virtual', '2')
    for then, now in (2, 3), (3, 1):
        done = train(0, '--out', 'exp/x', *plan, str(now % 3 + 2), '--resume', 'auto', '--virtual', str(now))
        assert f'not bit-identical from here: ranks {then} then, {now} now' in done.stderr
        told = [line for line in done.stderr.splitlines() if line.startswith('regroup ')]
        assert len(told) == ALGORITHMS[name].own_state
        assert all('the consensus of ' in line and 'optimizer states' in line for line in told)
    assert done_of(tmp_path/'exp/x')['epochs'] == 3


def test_real_ranks_go_on_in_another_number_where_each_has_a_model_of_its_own(train, tmp_path):
    plan = *PLAN, '--algo', 'push-sum', '--push-delay', '2'
    train(2, '--out', 'exp/x', *plan, mishap=('usr1', 0, 3), status=75)
    done = train(3, '--out', 'exp/x', *plan, '--resume', 'auto')
    assert 'regroup   every rank begins with the consensus of 2 saved models' in done.stderr
    assert done_of(tmp_path/'exp/x')['epochs'] == 2


def test_the_same_number_on_other_nodes(train, tmp_path):
    """Only where a model belongs to a node."""
    plan, again = (*PLAN, '--virtual', '4', '--epochs'), ('--node-size', '1', '--resume', 'auto')
    for name, regrouped in ('async-decentralized', False), ('hierarchical', True):
        train(0, '--out', name, *plan, '1', '--algo', name, '--node-size', '2')
        done = train(0, '--out', name, *plan, '2', '--algo', name, *again)
        assert 'nodes 2 x 2 then, 4 x 1 now' in done.stderr
        assert ('the consensus of 2 saved models' in done.stderr) == regrouped
    done = train(0, '--out', name, *plan, '3', '--algo', name, *again)
    assert 'not bit-identical' not in done.stderr and 'regroup' not in done.stderr


def test_a_checkpoint_that_lacks_the_file_of_a_rank(train, tmp_path):
    plan = *PLAN, '--algo', 'local-sgd', '--virtual'
    train(0, '--out', 'exp/x', *plan, '2', '--epochs', '1')
    newest = max((tmp_path/'exp/x/checkpoints').iterdir())
    (newest/'rank0001.h5').unlink()
    done = train(0, '--out', 'exp/y', *plan, '3', '--resume', newest, status=2)
    assert done.stderr.count('\n') == 1 and 'not a whole checkpoint (No such file or directory)' in done.stderr


def test_another_precision_goes_on_and_says_so(train, tmp_path):
    bf16 = *PLAN, '--precision', 'bf16'
    train(1, '--out', 'exp/whole', *bf16)
    train(1, '--out', 'exp/cut', *bf16, '--epochs', '1')
    train(1, '--out', 'exp/other', *bf16, '--epochs', '1')
    done = train(1, '--out', 'exp/other', *PLAN, '--resume', 'auto')
    assert 'not bit-identical from here: ' in done.stderr and 'train.precision = bf16 then, fp32 now' in done.stderr
    done = train(1, '--out', 'exp/cut', *bf16, '--resume', 'auto')
    assert 'not bit-identical' not in done.stderr and 'products of bf16' in done.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


@pytest.mark.skipif(not processor.SUPPORTED, reason='no other backend here')
def test_another_processor_goes_on_and_says_so(train, tmp_path):
    """auto means another backend there."""
    train(1, '--out', 'exp/x', *PLAN, '--epochs', '1')
    done = train(1, '--out', 'exp/x', *PLAN, '--resume', 'auto', env={'NUMBA_CPU_NAME': 'generic'})
    assert 'backend   NumPy\n' in done.stderr
    told = f'backend Numba, vectors of {processor.LANES} float32 then, NumPy now'
    assert f'not bit-identical from here: {told}' in done.stderr


def test_more_epochs_go_on_from_the_end(train, tmp_path):
    train(1, '--out', 'exp/whole', *PLAN)
    train(1, '--out', 'exp/cut', *PLAN, '--epochs', '1')
    done = train(1, '--out', 'exp/cut', *PLAN, '--resume', 'auto', '--progress', 'thread', '--set', 'exchange.meet=3')
    assert 'resume    exp/cut' in done.stderr and 'not bit-identical' not in done.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


def test_resuming_what_is_done_changes_nothing(train, tmp_path):
    train(1, '--out', 'exp/x', *PLAN)
    before = done_of(tmp_path/'exp/x')
    train(1, '--out', 'exp/x', *PLAN, '--resume', 'auto')
    assert done_of(tmp_path/'exp/x') == before


def test_a_checkpoint_can_start_another_experiment(train, tmp_path):
    train(1, '--out', 'exp/whole', *PLAN)
    train(1, '--out', 'exp/first', *PLAN, '--epochs', '1')
    newest = max((tmp_path/'exp/first/checkpoints').iterdir())
    train(1, '--out', 'exp/second', *PLAN, '--resume', newest)
    assert done_of(tmp_path/'exp/second') == done_of(tmp_path/'exp/whole')
