"""A rank that fails, in whatever way, ends the job, is named, and never looks like success."""

import re

import pytest

from tests.conftest import done_of
from tests.launch.few import few

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]


@pytest.mark.parametrize('ranks', few([3, 2], 0))
@pytest.mark.parametrize('mishap, said', [
    ('exception', 'ArithmeticError: made by the test'), ('broken-handler', 'made by the test'),
    ('exit', 'ended without finishing its work, with status 0'),
    ('exit-75', 'ended without finishing its work, with status 75'), ('sys-exit', 'SystemExit'),
    ('kill', 'was ended by SIGKILL'), ('kill-supervisor', '')])
def test_a_rank_that_fails_ends_the_job(train, tmp_path, mishap, said, ranks):
    done = train(ranks, '--out', 'exp/x', mishap=(mishap, ranks - 1, 3), status=None)
    assert done.returncode != 0
    assert said in done.stderr
    if said:
        assert f'rank {ranks - 1} ' in done.stderr
    assert not (tmp_path/'exp/x/DONE').exists()


@pytest.mark.parametrize('algo, mishap, said', [
    ('sync-allreduce', 'stop', r'is stopped \(SIGSTOP\), in step 3; ranks 0, 2 wait in a sum'),
    ('async-ps', 'stop-with-a-lock', r'is stopped .*, and holds the lock of rank')])
def test_a_job_that_hangs_names_the_rank_that_all_wait_for(train, tmp_path, algo, mishap, said):
    done = train(3, '--out', 'exp/x', '--algo', algo, '--hang-timeout', '4', mishap=(mishap, 1, 3), status=None)
    assert done.returncode not in (0, 2, 75) and done.stderr.count('hpcasr: hang: ') == 1
    assert re.search(rf'hpcasr: hang: no rank has got on for \d+ s: rank 1 on .*{said}', done.stderr)
    assert {path.name for path in (tmp_path/'exp/x').glob('hang-*')} == {f'hang-rank{r:03d}.txt' for r in range(3)}
    assert 'in train\n' in (tmp_path/'exp/x/hang-rank000.txt').read_text()


def test_a_drill_happens_once_and_changes_no_bit(train, tmp_path):
    plan = '--batch', '3', '--epochs', '2', '--checkpoint-every', '18', '--set', 'checkpoint.background=false'
    drill = {'HPCASR_FAULT': 'torn-checkpoint:step=5;exc:rank=2:step=6;slow:rank=1:step=2:seconds=0.01'}
    train(3, '--out', 'exp/whole', *plan)
    done = train(3, '--out', 'exp/x', *plan, status=None, env=drill)
    assert done.returncode not in (0, 2, 75)  # launchers join it with that of the ranks they kill
    assert 'RuntimeError: HPCASR_FAULT=exc:rank=2:step=6' in done.stderr
    done = train(3, '--out', 'exp/x', *plan, '--resume', 'auto', env=drill)
    assert 'falling back to the checkpoint before it' in done.stderr
    assert done_of(tmp_path/'exp/x') == done_of(tmp_path/'exp/whole')


@pytest.mark.parametrize('fault, said', [
    ('corrupt-record:rank=1:step=3', 'learner 1: .*checksum of the frames differs|checksum of the frames differs'),
    ('enospc:step=4', 'No space left on device'), ('kil', "there is no 'kil'; did you mean kill"),
    ('exc:rank=2', 'there is no rank 2 among 2')])
def test_a_drill_of_virtual_learners_is_one_line(train, tmp_path, fault, said):
    done = train(0, '--out', 'exp/x', '--virtual', '2', '--batch', '3', '--checkpoint-every', '12', status=2,
                 env={'HPCASR_FAULT': fault})
    assert re.search(said, done.stderr) and done.stderr.count('hpcasr: error:') == 1
    assert (tmp_path/'exp').exists() == (':step' in fault)


@pytest.mark.parametrize('ranks', [0, 2])
def test_ctrl_c_is_one_line(train, tmp_path, ranks):
    done = train(ranks, '--out', 'exp/x', mishap=('interrupt', 0, 3), status=None)
    assert done.returncode not in (0, 75) and 'Traceback' not in done.stderr
    assert done.stderr.count('hpcasr: interrupted') == 1
    assert not (tmp_path/'exp/x/DONE').exists()


def test_a_rank_alone_that_exits_does_not_look_like_success(train, tmp_path):
    done = train(0, '--out', 'exp/x', mishap=('exit', 0, 3), status=1)
    assert 'ended without finishing its work' in done.stderr
    assert not (tmp_path/'exp/x/DONE').exists()
