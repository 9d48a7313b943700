"""A rank that fails, in whatever way, ends the job, is named, and never looks like success."""

import pytest

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]


@pytest.mark.parametrize('ranks', [2, 3])
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
