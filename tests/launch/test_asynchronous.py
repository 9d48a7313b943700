"""Ranks that do not wait for each other, as jobs: record and replay, signals, deaths, what cannot be."""

import json

import pytest

from hpcasr.journal import read
from tests.conftest import done_of

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240)]
ALGO = '--algo', 'async-decentralized'
PLAN = *ALGO, '--epochs', '2', '--batch', '2', '--checkpoint-every', '20'


def lines(experiment, kind):
    found = [json.loads(line) for line in (experiment/'metrics.jsonl').read_text().splitlines()]
    return [line for line in found if line['kind'] == kind]


def virtual(number, *how):
    return '--virtual', str(number), *how


@pytest.mark.parametrize('ranks', [1, 3, 5])
def test_a_record_is_replayed_by_ranks_and_by_virtual_learners(train, tmp_path, ranks):
    slow = '--topology', 'random-ring', '--slow-rank', f'{ranks - 1}=3'
    train(ranks, '--out', 'exp/real', *PLAN, *slow, '--record', 'real.bin')
    done = train(ranks, '--out', 'exp/again', *PLAN, '--topology', 'random-ring', '--replay', 'real.bin')
    assert 'replay    real.bin' in done.stderr and 'not bit-identical' not in done.stderr
    train(0, '--out', 'exp/virtual', *PLAN, *virtual(ranks, '--topology', 'random-ring', '--replay', 'real.bin'))
    assert done_of(tmp_path/'exp/real') == done_of(tmp_path/'exp/again') == done_of(tmp_path/'exp/virtual')
    train(0, '--out', 'exp/v', *PLAN, *virtual(ranks, *slow, '--record', 'virtual.bin'))
    train(ranks, '--out', 'exp/w', *PLAN, '--topology', 'random-ring', '--replay', 'virtual.bin')
    assert done_of(tmp_path/'exp/v') == done_of(tmp_path/'exp/w')


@pytest.mark.parametrize('assign', ['counter', 'static'])
@pytest.mark.parametrize('ranks, how', [(3, ()), (0, virtual(3))])
def test_a_signal_stops_all_and_the_record_of_both_parts_is_replayed(train, tmp_path, ranks, how, assign):
    plan = *ALGO, '--epochs', '3', '--batch', '1', '--assign', assign, *how
    done = train(ranks, '--out', 'exp/cut', *plan, '--record', 'r.bin', '--slow-rank', '0=2', mishap=('usr1', 1, 3),
                 status=75)
    assert done.stderr.count('stopped   by') == 1 and len(list((tmp_path/'exp/cut/checkpoints').iterdir())) == 1
    done = train(ranks, '--out', 'exp/cut', *plan, '--record', 'r.bin', '--resume', 'auto')
    assert 'resume    exp/cut' in done.stderr
    _, blocks, left = read(tmp_path/'r.bin')
    assert len(blocks) == 4 and not left
    train(ranks, '--out', 'exp/again', *plan, '--replay', 'r.bin')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/again')


def test_a_replay_stops_at_a_meeting_point_and_goes_on(train, tmp_path):
    train(3, '--out', 'exp/whole', *PLAN, '--record', 'r.bin')
    train(3, '--out', 'exp/cut', *PLAN, '--replay', 'r.bin', mishap=('usr1', 0, 3), status=75)
    train(3, '--out', 'exp/cut', *PLAN, '--replay', 'r.bin', '--resume', 'auto')
    assert done_of(tmp_path/'exp/whole') == done_of(tmp_path/'exp/cut')


def test_killed_and_gone_on_with_the_record_is_whole(train, tmp_path):
    train(3, '--out', 'exp/cut', *PLAN, '--record', 'r.bin', mishap=('kill', 2, 9), status=None)
    assert not (tmp_path/'exp/cut/DONE').exists()
    with open(tmp_path/'r.bin', 'ab') as file:
        file.write(b'half a block')
    train(3, '--out', 'exp/cut', *PLAN, '--record', 'r.bin', '--resume', 'auto')
    train(3, '--out', 'exp/again', *PLAN, '--replay', 'r.bin')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/again')


@pytest.mark.parametrize('mishap', ['kill', 'kill-with-a-lock', 'exception'])
def test_a_rank_that_dies_ends_the_job(train, tmp_path, mishap):
    done = train(3, '--out', 'exp/x', *PLAN, mishap=(mishap, 1, 3), status=None, timeout=50)
    assert done.returncode not in (0, 75) and 'rank 1 ' in done.stderr
    assert not (tmp_path/'exp/x/DONE').exists()


def test_data_that_one_rank_cannot_read_is_one_line(train, tmp_path, small):
    with open(small, 'r+b') as file:  # the frames lie at the end
        file.seek(-3000, 2)
        file.write(b'\xff'*1000)
    done = train(3, '--out', 'exp/x', *PLAN, status=2)
    assert done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr


@pytest.mark.parametrize('ranks, how', [(2, ()), (0, virtual(2))])
@pytest.mark.parametrize('options, says', [
    (('--record', 'a', '--replay', 'b'), '--record and --replay: give one of them'),
    (('--replay', 'none.bin'), 'none.bin: No such file or directory'),
    (('--replay', '.'), 'Is a directory'), (('--record', '.'), 'is not a file'),
    (('--record', 'none/r.bin'), 'No such file or directory'),
    (('--assign', 'dynamic'), 'choose one of counter, static'),
    (('--algo', 'sync-allreduce', '--record', 'r.bin'), 'sync-allreduce takes the same steps in every run')])
def test_what_cannot_be(train, tmp_path, ranks, how, options, says):
    done = train(ranks, '--out', 'exp/x', *PLAN, *options, *how, status=2)
    assert says in done.stderr and done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr
    assert not (tmp_path/'exp/x/config.toml').exists()


@pytest.mark.parametrize('ranks, how', [(2, ()), (0, virtual(2))])
def test_records_that_do_not_fit(train, tmp_path, ranks, how):
    train(0, '--out', 'exp/v', *PLAN, *virtual(3), '--record', 'three.bin')
    train(ranks, '--out', 'exp/x', *PLAN, *how, '--record', 'two.bin')

    def refuses(says, *options):
        before = (tmp_path/'two.bin').read_bytes()
        done = train(ranks, '--out', 'exp/y', *PLAN, *how, *options, status=2)
        assert says in done.stderr and done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr
        assert (tmp_path/'two.bin').read_bytes() == before
    refuses('two.bin: exists', '--record', 'two.bin')
    refuses('is the record of 3 ranks, and there are 2', '--replay', 'three.bin')
    refuses('is the record of another run: optim.lr', '--replay', 'two.bin', '--lr', '0.3')
    refuses('ends before this run does', '--replay', 'two.bin', '--epochs', '3')


@pytest.mark.parametrize('ranks, how', [(2, ()), (0, virtual(2))])
def test_what_diverges_is_said_as_of_any_algorithm(train, tmp_path, ranks, how):
    done = train(ranks, '--out', 'exp/x', *PLAN, *how, '--lr', '1e38', '--set', 'optim.lr_batch=0', '--schedule',
                 'constant', '--set', 'optim.warmup=0', status=1)
    assert done.stderr.count('hpcasr: error:') == 1 and 'not finite at sample' in done.stderr


@pytest.mark.parametrize('every, meet', [(1, 1), (3, 10), (10, 1000)])
@pytest.mark.parametrize('ranks, how', [(3, ()), (0, virtual(5))])
def test_nothing_is_lost_between_the_learners_and_the_metrics(train, tmp_path, ranks, how, every, meet):
    slow = '--slow-rank', '0=9' if how else '0=2'
    often = '--set', f'report.every={every}', '--set', f'exchange.meet={meet}'
    train(ranks, '--out', 'exp/x', *PLAN, *how, *slow, *often)
    steps, epochs = lines(tmp_path/'exp/x', 'step'), lines(tmp_path/'exp/x', 'epoch')
    assert [line['samples'] for line in steps] == sorted(line['samples'] for line in steps)
    for line in steps:
        assert line['ce'] > 0 and line['fer'] >= 0
        assert all(line[share] > -1e-9 for share in line if share.endswith(('_share', '_seconds')))
    frames = [0, 0]
    for line in steps:
        frames[line['epoch'] > 1] += line['frames_per_second']*line['seconds']
    train(1, '--out', 'exp/sync', '--epochs', '1', '--batch', '2')
    due = sum(line['frames_per_second']*line['seconds'] for line in lines(tmp_path/'exp/sync', 'step'))
    assert frames == pytest.approx([due, due])
    told = [sum(sum(one['counts']) for one in line['staleness'].values()) for line in epochs]
    least = -(-epochs[0]['samples']//2)
    assert len(told) == 2 and all(least <= number <= least + 9 for number in told)
