"""Asynchronous training on real ranks: what a library must do, what a machine must have, what serves the others."""

import pathlib
import re

import pytest

from tests.conftest import done_of
from tests.launch.few import few

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]
UNFIT = pathlib.Path(__file__).parent/'unfit.py'
ALGO = '--algo', 'async-decentralized'
PLAN = *ALGO, '--topology', 'random-ring', '--epochs', '2', '--batch', '3', '--lr', '0.3'


@pytest.mark.parametrize('how, args, message', [
    ('swaps', (), 'one-sided exchange does not work with (MPICH|Open MPI).*compare-and-swap is not atomic'),
    ('memory', ('--set', 'model.cells=256'), r'need [0-9.]+ MB in /dev/shm, 2.0 MB are free; enlarge it'),
    ('threads', ('--progress', 'thread'), '--progress thread: .* use --progress poll')])
def test_what_is_missing_is_one_line(hpcasr, small, tmp_path, how, args, message):
    done = hpcasr('train', small, '--model', 'tiny', *PLAN, '--out', 'exp/x', '--record', 'r.bin', *args, ranks=3,
                  script=[UNFIT, how], status=2)
    lines = [line for line in done.stderr.splitlines() if line.startswith('hpcasr: error')]  # Open MPI says more
    assert len(lines) == 1 and re.search(message, lines[0]) and not done.stdout and 'Traceback' not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ['small.h5']


def test_algorithms_without_windows_need_none(hpcasr, small, tmp_path):
    hpcasr('train', small, '--model', 'tiny', '--epochs', '1', '--out', 'exp/x', ranks=2, script=[UNFIT, 'swaps'])
    assert done_of(tmp_path/'exp/x')['epochs'] == 1


@pytest.mark.parametrize('ranks, first, then', [(2, 'thread', 'poll'), (3, 'poll', 'thread')])
def test_whatever_serves_the_others_changes_no_bit(train, tmp_path, ranks, first, then):
    train(ranks, '--out', 'exp/one', *PLAN, '--progress', first, '--record', 'r.bin')
    train(ranks, '--out', 'exp/other', *PLAN, '--progress', then, '--replay', 'r.bin')
    train(0, '--out', 'exp/virtual', *PLAN, '--progress', then, '--replay', 'r.bin', '--virtual', ranks)
    assert done_of(tmp_path/'exp/one') == done_of(tmp_path/'exp/other') == done_of(tmp_path/'exp/virtual')


def test_synchronous_ones_are_the_same_with_it(train, tmp_path):
    plan = '--algo', 'delay-by-one', '--epochs', '1', '--batch', '3'
    for how in 'poll', 'thread':
        done = train(2, '--out', f'exp/{how}', *plan, '--progress', how)
        assert 'means nothing' not in done.stderr
    assert done_of(tmp_path/'exp/poll') == done_of(tmp_path/'exp/thread')


@pytest.mark.parametrize('mishap, status', few([('exception', None), ('usr1', 75), ('kill', None), ('exit', None),
                                                ('sys-exit', None), ('interrupt', None)], 0, 1, 2))
def test_the_thread_ends_with_the_run(train, tmp_path, mishap, status):
    plan = *PLAN, '--assign', 'static'  # rank 1 has its third step, however busy the machine is
    done = train(2, '--out', 'exp/x', *plan, '--progress', 'thread', mishap=(mishap, 1, 3), status=status)
    assert done.returncode and not (tmp_path/'exp/x/DONE').exists()


def test_the_thread_ends_when_all_leave_in_order(train):
    done = train(3, '--out', 'exp/x', *PLAN, '--lr', '1e41', '--progress', 'thread', status=1)
    assert 'not finite' in done.stderr and done.stderr.count('hpcasr: error') == 1
