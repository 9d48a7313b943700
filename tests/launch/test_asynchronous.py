"""Ranks that do not wait for each other, as jobs: record and replay, signals, deaths, what cannot be."""

import json

import pytest

from hpcasr.journal import read
from tests.conftest import done_of
from tests.launch.few import few

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240)]
ALGO = '--algo', 'async-decentralized'
PLAN = *ALGO, '--epochs', '2', '--batch', '2', '--checkpoint-every', '20'
STATIC = *PLAN, '--assign', 'static'  # every rank takes its share of the steps, however busy the machine is


def lines(experiment, kind):
    found = [json.loads(line) for line in (experiment/'metrics.jsonl').read_text().splitlines()]
    return [line for line in found if line['kind'] == kind]


def virtual(number, *how):
    return '--virtual', str(number), *how


@pytest.mark.parametrize('first, then', [((1, ()), (0, virtual(1))), ((3, ()), (3, ())), ((5, ()), (0, virtual(5))),
                                         ((0, virtual(3)), (3, ()))])
def test_a_record_is_replayed_by_ranks_and_by_virtual_learners(train, tmp_path, first, then):
    random, slow = ('--topology', 'random-ring'), ('--slow-rank', '0=3')
    (ranks, how), (others, otherwise) = first, then
    train(ranks, '--out', 'exp/one', *PLAN, *random, *slow, *how, '--record', 'r.bin')
    done = train(others, '--out', 'exp/other', *PLAN, *random, *otherwise, '--replay', 'r.bin')
    assert 'replay    r.bin' in done.stderr and 'not bit-identical' not in done.stderr
    assert done_of(tmp_path/'exp/one') == done_of(tmp_path/'exp/other')


@pytest.mark.parametrize('push, pull', few([(1, 4), (3, 3)], 0))
@pytest.mark.parametrize('ranks, how', [(3, ()), (0, virtual(3))])
def test_who_has_no_more_work_keeps_nobody_waiting_for_its_pushes(train, tmp_path, ranks, how, push, pull):
    """Where staleness is bounded, and an epoch ends between a pull and the pushes that belong to it."""
    plan = '--algo', 'async-ps', '--max-staleness', '3', '--epochs', '2', '--batch', '2', *how, '--set', \
        f'exchange.push_every={push}', '--set', f'exchange.pull_every={pull}'
    train(ranks, '--out', 'exp/x', *plan, '--slow-rank', '1=2', '--record', 'r.bin')
    assert all(line['staleness_max'] <= 3 for line in lines(tmp_path/'exp/x', 'epoch'))
    train(ranks, '--out', 'exp/y', *plan, '--replay', 'r.bin')
    assert done_of(tmp_path/'exp/x') == done_of(tmp_path/'exp/y')


@pytest.mark.parametrize('assign', few(['counter', 'static'], 0))
@pytest.mark.parametrize('ranks, how', [(3, ()), (0, virtual(3))])
def test_a_signal_stops_all_and_the_record_of_both_parts_is_replayed(train, tmp_path, ranks, how, assign):
    plan = *ALGO, '--epochs', '3', '--batch', '1', '--assign', assign, *how
    done = train(ranks, '--out', 'exp/cut', *plan, '--record', 'r.bin', '--slow-rank', '0=2', mishap=('usr1', 1, 3),
                 status=75)
    assert done.stderr.count('stopped   by') == 1 and list((tmp_path/'exp/cut/checkpoints').iterdir())
    done = train(ranks, '--out', 'exp/cut', *plan, '--record', 'r.bin', '--resume', 'auto')
    assert 'resume    exp/cut' in done.stderr
    _, blocks, left = read(tmp_path/'r.bin')
    assert 3 <= len(blocks) <= 4 and not left  # the signal may come at the end of an epoch
    train(ranks, '--out', 'exp/again', *plan, '--replay', 'r.bin')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/again')


def test_a_replay_stops_at_a_meeting_point_and_goes_on(train, tmp_path):
    train(3, '--out', 'exp/whole', *PLAN, '--record', 'r.bin')
    train(3, '--out', 'exp/cut', *PLAN, '--replay', 'r.bin', mishap=('usr1', 0, 3), status=75)
    train(3, '--out', 'exp/cut', *PLAN, '--replay', 'r.bin', '--resume', 'auto')
    assert done_of(tmp_path/'exp/whole') == done_of(tmp_path/'exp/cut')


def test_a_replay_that_stopped_at_the_end_of_an_epoch_goes_on(train, tmp_path):
    """Its meeting point has been: what the record tells next is of the next epoch."""
    plan = *ALGO, '--epochs', '3', '--batch', '20', *virtual(3)
    train(0, '--out', 'exp/whole', *plan, '--record', 'r.bin')
    train(0, '--out', 'exp/cut', *plan, '--replay', 'r.bin', mishap=('usr1', 0, 2), status=75)
    train(0, '--out', 'exp/cut', *plan, '--replay', 'r.bin', '--resume', 'auto')
    assert done_of(tmp_path/'exp/whole') == done_of(tmp_path/'exp/cut')
    assert [line['epoch'] for line in lines(tmp_path/'exp/cut', 'epoch')] == [1, 2, 3]


def test_killed_and_gone_on_with_the_record_is_whole(train, tmp_path):
    train(3, '--out', 'exp/cut', *STATIC, '--record', 'r.bin', mishap=('kill', 2, 9), status=None)
    assert not (tmp_path/'exp/cut/DONE').exists()
    with open(tmp_path/'r.bin', 'ab') as file:
        file.write(b'half a block')
    train(3, '--out', 'exp/cut', *STATIC, '--record', 'r.bin', '--resume', 'auto')
    train(3, '--out', 'exp/again', *STATIC, '--replay', 'r.bin')
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/again')


@pytest.mark.parametrize('mishap', ['kill', 'kill-with-a-lock', 'exception'])
def test_a_rank_that_dies_ends_the_job(train, tmp_path, mishap):
    done = train(3, '--out', 'exp/x', *STATIC, mishap=(mishap, 1, 3), status=None, timeout=50)
    assert done.returncode not in (0, 75) and 'rank 1 ' in done.stderr
    assert not (tmp_path/'exp/x/DONE').exists()


def test_data_that_one_rank_cannot_read_is_one_line(train, tmp_path, small):
    with open(small, 'r+b') as file:  # the frames lie at the end
        file.seek(-3000, 2)
        file.write(b'\xff'*1000)
    done = train(3, '--out', 'exp/x', *PLAN, status=2)
    assert done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr


@pytest.mark.parametrize('options, says', [
    (('--record', 'a', '--replay', 'b'), '--record and --replay: give one of them'),
    (('--replay', 'none.bin'), 'none.bin: No such file or directory'),
    (('--replay', '.'), 'Is a directory'), (('--record', '.'), 'is not a file'),
    (('--record', 'none/r.bin'), 'No such file or directory'),
    (('--assign', 'dynamic'), 'choose one of counter, static'),
    (('--algo', 'sync-allreduce', '--record', 'r.bin'), 'sync-allreduce takes the same steps in every run')])
def test_what_cannot_be(train, tmp_path, options, says):
    done = train(2, '--out', 'exp/x', *PLAN, *options, status=2)
    assert says in done.stderr and done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr
    assert not (tmp_path/'exp/x/config.toml').exists()


def test_records_that_do_not_fit(train, tmp_path):
    train(0, '--out', 'exp/v', *PLAN, *virtual(3), '--record', 'three.bin')
    train(0, '--out', 'exp/x', *PLAN, *virtual(2), '--record', 'two.bin')

    def refuses(says, *options):
        before = (tmp_path/'two.bin').read_bytes()
        done = train(2, '--out', 'exp/y', *PLAN, *options, status=2)
        assert says in done.stderr and done.stderr.count('hpcasr: error:') == 1 and 'Traceback' not in done.stderr
        assert (tmp_path/'two.bin').read_bytes() == before
    refuses('two.bin: exists', '--record', 'two.bin')
    refuses('is the record of 3 ranks, and there are 2', '--replay', 'three.bin')
    refuses('is the record of another run: optim.lr', '--replay', 'two.bin', '--lr', '0.3')
    refuses('is the record of another run: data.chunk', '--replay', 'two.bin', '--chunk', '20')
    refuses('ends before this run does', '--replay', 'two.bin', '--epochs', '3')


@pytest.mark.parametrize('ranks, how', [(2, ()), (0, virtual(2))])
def test_what_diverges_is_said_as_of_any_algorithm(train, tmp_path, ranks, how):
    done = train(ranks, '--out', 'exp/x', *PLAN, *how, '--lr', '1e38', '--set', 'optim.lr_batch=0', '--schedule',
                 'constant', '--set', 'optim.warmup=0', status=1)
    assert done.stderr.count('hpcasr: error:') == 1 and 'not finite at sample' in done.stderr


@pytest.mark.parametrize('ranks, how, every, meet', few([(3, (), 1, 1), (3, (), 10, 1000), (0, virtual(5), 1, 1),
                                                         (0, virtual(5), 3, 10)], 0, 3))
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
    train(0, '--out', 'exp/sync', '--epochs', '1', '--batch', '2')
    due = sum(line['frames_per_second']*line['seconds'] for line in lines(tmp_path/'exp/sync', 'step'))
    assert frames == pytest.approx([due, due])
    told = [sum(sum(one['counts']) for one in line['staleness'].values()) for line in epochs]
    least = -(-epochs[0]['samples']//2)
    assert len(told) == 2 and all(least <= number <= least + 9 for number in told)
