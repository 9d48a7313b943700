"""`hpcasr jobs` where there is no scheduler, and with a stand-in for one."""

import json
import shutil

import pytest

from tests.conftest import launch
from tests.small import store

PLAN = '--', 'small.h5', '--model', 'tiny'
SBATCH = '#!/bin/bash\necho "$@" >> asked\necho $(( $(wc -l < asked) + 40 ))\n'


@pytest.fixture
def jobs(tmp_path):
    """jobs('status', ...) with nothing of SLURM on the PATH but what bin/ holds."""
    (tmp_path/'bin').mkdir()
    for name in 'bash', 'wc':
        (tmp_path/'bin'/name).symlink_to(shutil.which(name))
    env = {'PATH': str(tmp_path/'bin')}
    return lambda *args, **options: launch(tmp_path, 'jobs', *args, env=env, **options)


def scheduler(tmp_path, queue=''):
    """A stand-in: sbatch numbers jobs from 41, squeue prints `queue`."""
    for name, text in ('sbatch', SBATCH), ('squeue', f'#!/bin/bash\necho -n "{queue}"\n'):
        (tmp_path/'bin'/name).write_text(text)
        (tmp_path/'bin'/name).chmod(0o755)


def test_a_dry_run_prints_just_what_is_submitted(jobs, tmp_path):
    scheduler(tmp_path)
    options = 'chain', '--out', 'exp/a b', '--links', '3', *PLAN
    dry = jobs('submit', *options[:5], '--dry-run', *options[5:])
    assert not (tmp_path/'exp').exists() and dry.stdout == jobs('render', *options).stdout
    done = jobs('submit', *options)
    assert (tmp_path/'exp/a b/job.sbatch').read_text() == dry.stdout and done.stdout.startswith('job       41 42 43\n')
    asked = (tmp_path/'asked').read_text().splitlines()
    said = [line.replace("'", '').replace('sbatch ', '', 1) for line in dry.stderr.splitlines()]
    assert asked == [line.replace('JOBID', job) for line, job in zip(said, ('', '41', '42'), strict=True)]


def test_of_an_array_what_is_not_done_goes_on(jobs, tmp_path):
    scheduler(tmp_path)
    jobs('submit', 'array', '--out', 'exp', '--algos', 'sync-ps,bmuf,easgd', '--tasks', '2', *PLAN)
    (tmp_path/'exp/bmuf/DONE').write_text('{}')
    rows = json.loads(jobs('status', 'exp', '--json').stdout)
    assert [(r['experiment'], r['state']) for r in rows] == [
        ('exp/sync-ps', 'not started'), ('exp/bmuf', 'done'), ('exp/easgd', 'not started')]
    assert 'next       hpcasr jobs requeue exp\n' in jobs('status', 'exp').stdout
    dry = jobs('requeue', 'exp', '--dry-run').stdout
    assert dry == 'sbatch --parsable --array=0,2 exp/job.sbatch\n'
    jobs('requeue', tmp_path/'exp')
    assert (tmp_path/'asked').read_text().splitlines()[-1] == '--parsable --array=0,2 exp/job.sbatch'
    scheduler(tmp_path, '42_0|RUNNING|n1\n42_2|PENDING|(Resources)\n')
    assert 'job 42_0 is RUNNING' in jobs('requeue', 'exp', status=2).stderr
    assert [r['state'] for r in json.loads(jobs('status', 'exp', '--json').stdout)] == ['running', 'done', 'pending']


def test_status_without_slurm(jobs, hpcasr, tmp_path):
    store(tmp_path/'small.h5')
    hpcasr('train', 'small.h5', '--model', 'tiny', '--set', 'train.backend=reference', '--out', 'exp/x', '--epochs',
           '2', '--batch', '4')
    row, = json.loads(jobs('status', 'exp/x', '--json').stdout)
    assert row['state'] == 'done' and row['epoch'] == row['epochs'] == 2 and row['speed'] > 0 and row['left'] is None
    (tmp_path/'exp/x/DONE').unlink()
    config = tmp_path/'exp/x/config.toml'
    config.write_text(config.read_text().replace('epochs = 2', 'epochs = 8'))
    row, = json.loads(jobs('status', 'exp/x', '--json').stdout)
    lines = [json.loads(line) for line in (tmp_path/'exp/x/metrics.jsonl').read_text().splitlines()]
    spent = [line for line in lines if line['kind'] == 'step']
    frames = sum(line['seconds']*line['frames_per_second'] for line in spent)
    assert row['state'] == 'stopped' and row['left'] > 0 and row['checkpoint'] == f'{lines[-1]["samples"]:012d}'
    if len(spent) == 1:
        assert abs(row['speed'] - frames/spent[0]['seconds']) < 1 and abs(row['left'] - 3*spent[0]['seconds']) < 1e-9


def test_speed_and_remaining_time():
    """Ten lines of 0.1 epoch, 5 s and 700 frames each: 140 frames/s, 50 s an epoch."""
    from hpcasr.jobs.progress import rates
    lines = [{'epoch': 0.1*n, 'seconds': 5.0, 'frames_per_second': 140.0} for n in range(1, 11)]
    for some in lines, lines[3:], lines[:1]:
        assert rates(some) == pytest.approx((140, 50))
    assert rates([]) == (None, None)


@pytest.mark.parametrize('args, says', [
    (['status', 'none'], 'none: holds neither an experiment nor a job'),
    (['requeue', 'none'], 'none: holds no job.json'),
    (['submit', 'multi-node', '--out', 'x', '--', '--algo', 'sync-alreduce'], 'did you mean sync-allreduce'),
    (['submit', 'multi-node', '--out', 'x', '--', '--out', 'y'], '--out after --'),
    (['submit', 'multi-node', '--out', 'x', '--', '--resume', 'auto'], '--resume after --'),
    (['submit', 'multi-node', '--out', 'x', '--', '--set', 'optim.lrr=1'], 'optim.lr'),
    (['submit', 'array', '--out', 'x', '--seeds', '1', '--', '--seed', '1'], '--seed after --'),
    (['submit', 'array', '--out', 'x', '--seeds', '1,two'], 'data.seed'),
    (['submit', 'array', '--out', 'x', '--seeds', '1,'], 'empty'),
    (['submit', 'array', '--out', 'x', '--seeds', '1', '--algos', 'bmuf'], 'give one of them'),
    (['submit', 'multi-node', '--out', 'x'], 'sbatch: not found'),
    (['submit', 'gpu', '--out', 'x', '--time', '1'], '--grace 120'),
    (['render', 'gpu', '--out', 'x', '--site', 'nowhere.toml'], 'nowhere.toml: No such file')])
def test_bad_input_is_one_line(jobs, args, says):
    done = jobs(*args, status=2)
    assert done.stderr.count('\n') == 1 and done.stderr.startswith('hpcasr: error: ') and says in done.stderr


def test_a_damaged_record_is_one_line(jobs, tmp_path):
    for text in '', '[]', '{"x": 1}', '{"template": 1, "folder": 2, "out": 3, "experiments": 4}':
        (tmp_path/'job.json').write_text(text)
        for command in 'status', 'requeue':
            assert jobs(command, '.', status=2).stderr.count('\n') == 1


