"""Every algorithm from the command line: ranks are virtual learners bit for bit, kills and signals change nothing."""

import json

import pytest

from hpcasr.algorithms import SYNCHRONOUS
from tests.conftest import done_of
from tests.launch.few import few, few_groups

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240)]
PLAN = '--epochs', '2', '--batch', '3', '--lr', '0.3', '--set', 'exchange.meet=2', '--period', '3'
VARIANTS = [(name,) for name in SYNCHRONOUS] + [
    ('sync-decentralized', '--topology', 'random-ring'), ('sync-decentralized', '--topology', 'exponential'),
    ('push-sum', '--push-delay', '2'), ('sync-ps', '--servers', '0'),
    ('bmuf', '--set', 'exchange.block_update=classic'),
    ('sync-allreduce', '--node-size', '1'), ('sync-allreduce', '--optimizer', 'adam', '--lr', '0.01')]


def lines(folder):
    """What the metrics say of learning: no times, nor when a checkpoint was found to be whole."""
    kept = 'kind', 'samples', 'ce', 'fer', 'consensus_distance'
    found = map(json.loads, (folder/'metrics.jsonl').read_text().splitlines())
    return [[line.get(k) for k in kept] for line in found if line['kind'] != 'checkpoint']


@pytest.mark.parametrize('variant', few_groups(VARIANTS, 0, 3, 5, 10), ids=' '.join)
def test_ranks_are_virtual_learners(train, tmp_path, variant):
    algo = '--algo', *variant
    train(3, '--out', 'exp/real', *PLAN, *algo)
    train(0, '--out', 'exp/virtual', *PLAN, *algo, '--virtual', '3')
    assert done_of(tmp_path/'exp/virtual') == done_of(tmp_path/'exp/real')
    assert lines(tmp_path/'exp/virtual') == lines(tmp_path/'exp/real')


@pytest.mark.parametrize('variant', few_groups(VARIANTS, 0, 3, 5, 10), ids=' '.join)
def test_a_line_of_metrics_tells_all_of_the_same_steps(train, tmp_path, variant):
    """By the simulated clock a step takes 0.1 s, and the last one less; nothing is missing or counted twice."""
    train(0, '--out', 'exp/v', *PLAN, '--algo', *variant, '--virtual', '3', '--set', 'report.every=3',
          '--checkpoint-every', '20')
    told = [json.loads(line) for line in (tmp_path/'exp/v/metrics.jsonl').read_text().splitlines()]
    steps, last = [line for line in told if line['kind'] == 'step'], told[-1]
    total = last['samples']//2
    assert sum(line['steps'] for line in steps) == 2*-(-total//9)
    ends, speeds = [line['samples'] for line in steps], [line['frames_per_second'] for line in steps]
    assert ends == sorted(set(ends)) and ends[-1] == 2*total
    assert max(speeds) < 1.5*min(speeds)
    assert all(abs(sum(line[f'{part}_share'] for part in ('compute', 'exchange', 'waiting', 'data')) - 1) < 1e-9
               for line in steps)


KILLED = [('push-sum', '--push-delay', '2'), *VARIANTS[1:len(SYNCHRONOUS)]]


@pytest.mark.parametrize('variant', few_groups(KILLED, 0, 3), ids=' '.join)
def test_killed_and_resumed(train, tmp_path, variant):
    """Checkpoints every 20 of about 57 samples, steps of 9: one in the midst of a block, with messages under way."""
    plan = *PLAN, '--algo', *variant, '--checkpoint-every', '20'
    train(3, '--out', 'exp/whole', *plan)
    for step in 6, 5:
        train(3, '--out', 'exp/cut', *plan, '--resume', 'auto', mishap=('kill', 1, step), status=None)
        assert not (tmp_path/'exp/cut/DONE').exists()
    last = train(3, '--out', 'exp/cut', *plan, '--resume', 'auto')
    assert 'resume    exp/cut/checkpoints/' in last.stderr and 'not bit-identical' not in last.stderr
    assert done_of(tmp_path/'exp/cut') == done_of(tmp_path/'exp/whole')


@pytest.mark.parametrize('name', few(SYNCHRONOUS[1:], 0, 3))
def test_a_signal_to_one_rank_stops_all(train, tmp_path, name):
    plan = *PLAN, '--algo', name
    train(2, '--out', 'exp/cut', *plan, mishap=('usr1', 1, 2), status=75)
    assert not (tmp_path/'exp/cut/DONE').exists()
    train(2, '--out', 'exp/cut', *plan, '--resume', 'auto')
    assert done_of(tmp_path/'exp/cut')['epochs'] == 2


@pytest.mark.parametrize('name', SYNCHRONOUS)
@pytest.mark.parametrize('ranks', few([5, 1, 7], 0))
def test_ranks_without_data(train, tmp_path, name, ranks):
    """More learners than samples in some steps: all of them end, and at the same place."""
    done = train(0, '--out', 'exp/few', *PLAN, '--batch', '9', '--algo', name, '--virtual', str(ranks))
    assert 'Traceback' not in done.stderr and done_of(tmp_path/'exp/few')['epochs'] == 2


@pytest.mark.parametrize('name', few(SYNCHRONOUS, 0, 3, 5))
def test_a_diverged_learner_ends_all_with_one_line(train, tmp_path, name):
    done = train(0, '--out', 'exp/high', *PLAN, '--lr', '1e41', '--algo', name, '--virtual', '3', status=1)
    assert 'not finite' in done.stderr and 'Traceback' not in done.stderr
