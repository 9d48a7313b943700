"""On a real scheduler: what starts ranks, what ends them, and jobs that stop and go on."""

import json
import stat
import time

import pytest

from tests.slurm.conftest import PLAN

pytestmark = pytest.mark.timeout(280)
FOUR = '--nodes', '2', '--tasks', '2'
SLOW = {'HPCASR_FAULT': 'slow:seconds=2'}  # the first run takes most of a minute; the next, which it spares, seconds


@pytest.fixture(scope='module')
def limited(cluster):
    """The number of a job that reaches its time limit, which is submitted before everything else."""
    return cluster.submit('preemptible', 'limited', *FOUR, '--time', '1', '--grace', '15',
                          env={'HPCASR_FAULT': 'slow:seconds=4'})


def test_templates_train_the_same_model(limited, cluster, undisturbed):
    """srun over two nodes has made `undisturbed`; every template of that shape makes the same bits."""
    box = cluster.folder/'apptainer'  # stands in for the program: it shows what it was asked for, and runs the command
    box.write_text('#!/bin/bash\necho "$@" >> boxes\nwhile [ "$1" != hpcasr ]; do shift; done\nexec "$@"\n')
    box.chmod(box.stat().st_mode | stat.S_IXUSR)
    site = cluster.folder/'site.toml'
    site.write_text(f"[slurm]\nmpi = 'none'\n[environment]\nIT = \"isn't $HOME\"\n[container]\ncommand = '{box}'\n"
                    "image = 'an image.sif'\nbind = ['/data']\n")
    two = [cluster.submit('multi-node', 'multi-node', *FOUR), cluster.submit('chain', 'chain', *FOUR, '--links', '2'),
           cluster.submit('apptainer', 'apptainer-run', *FOUR, '--site', site)]
    one = cluster.submit('single-node', 'single node $(x)', '--tasks', '2')
    cluster.wait_for_end(*two, one)
    for out in 'multi-node', 'chain', 'apptainer-run':
        assert cluster.done(out) == undisturbed
    assert cluster.done('single node $(x)')['epochs'] == 5
    assert (cluster.folder/'boxes').read_text().startswith('exec --bind /data an image.sif hpcasr train small.h5 ')
    second = cluster.log('chain')[-1].split()[0]
    cluster.wait_for_end(second)
    assert cluster.log('chain')[-1] == f'{int(two[1]) + 1} had nothing to do: it is done'


def test_wire_is_measured_between_two_nodes(cluster):
    job = cluster.submit('bench-wire', 'wire', plan=('-m', '8:2K', '--cap', '0.02', '--target', 'idle'))
    cluster.wait_for_end(job)
    log, = cluster.folder.glob('wire-*.log')
    assert sorted(p.name for p in (cluster.folder/'wire').glob('[mw]*')) == [
        'machine.json', 'wire.csv', 'wire.json'], log.read_text()


def test_of_an_array_one_job_is_stopped_and_goes_on(cluster):
    job = cluster.submit('array', 'seeds', '--tasks', '2', '--seeds', '3,4', env=SLOW)
    whole = cluster.submit('single-node', 'seed-4', '--tasks', '2', plan=(*PLAN, '--seed', '4'))
    for seed in 3, 4:
        cluster.wait_for_training(f'seeds/seed-{seed}')
    rows = json.loads(cluster.jobs('status', 'seeds', '--json').stdout)
    assert [(r['state'], r['jobs'][0]['job']) for r in rows] == [('running', f'{job}_0'), ('running', f'{job}_1')]
    cluster.run('scancel', '--signal=USR1', f'{job}_1')
    cluster.wait_for_done('seeds/seed-4')
    cluster.wait_for_end(whole)
    said = [line.split(' on ')[0] for line in cluster.log('seeds/seed-4')]
    assert said[:5] == [f'{job}_1 {what}' for what in (
        'submitted', 'started', 'ended with status 75', 'requeued', 'started')]
    assert cluster.done('seeds/seed-4') == cluster.done('seed-4')
    assert not any('requeued' in line for line in cluster.log('seeds/seed-3'))
    cluster.run('scancel', job)


def test_preempted_by_a_job_of_higher_priority(cluster, undisturbed):
    """SLURM requeues it by itself; the script does not, too."""
    job = cluster.submit('preemptible', 'low', *FOUR, '--partition', 'low', env=SLOW)
    cluster.wait_for_training('low')
    cluster.run('srun', '--partition=main', '--nodes=4', '--exclusive', '--time=1', 'true')
    cluster.wait_for_done('low')
    assert cluster.done('low') == undisturbed
    said = [line.split(' on ')[0] for line in cluster.log('low')]
    assert said[:4] == [f'{job} {what}' for what in ('submitted', 'started', 'ended with status 75',
                                                    'left to SLURM: it has requeued or cancelled this job by itself')]
    assert said.count(f'{job} started') == 2


def test_restarts_are_limited_and_a_user_may_go_on(cluster, undisturbed):
    job = cluster.submit('preemptible', 'once', *FOUR, '--restarts', '0', env=SLOW)
    cluster.wait_for_training('once')
    busy = cluster.jobs('requeue', 'once', status=2)
    assert f'once: job {job} is RUNNING; wait for it, or: scancel {job}' in busy.stderr
    cluster.run('scancel', '--signal=USR1', job)
    cluster.wait_for_end(job)
    assert cluster.log('once')[-1] == f'{job} not requeued: it has been restarted 0 times'
    told = cluster.jobs('status', 'once').stdout
    assert '  state      paused' in told and '  next       hpcasr jobs requeue once' in told
    again = cluster.jobs('requeue', 'once').stdout.split()[1]
    cluster.wait_for_end(again)
    assert cluster.done('once') == undisturbed
    assert 'once: is done' in cluster.jobs('requeue', 'once', status=2).stderr


def test_cancelled_by_its_user_is_not_requeued(cluster):
    job = cluster.submit('preemptible', 'cancelled', *FOUR, env=SLOW)
    cluster.wait_for_training('cancelled')
    cluster.run('scancel', job)
    cluster.wait_for_end(job)
    assert 'left to SLURM' in cluster.log('cancelled')[-1] and (cluster.folder/'cancelled/PAUSED').exists()


@pytest.mark.parametrize('fault', ['kill', 'exit0'])
@pytest.mark.parametrize('tasks', [1, 2])
def test_a_rank_that_vanishes_ends_the_step(cluster, fault, tasks, capsys):
    out, env = f'{fault}-{tasks}', {'HPCASR_FAULT': f'{fault}:rank={2*tasks - 1}:step=5'}
    done = cluster.srun('hpcasr', 'train', *PLAN, '--out', out, tasks=tasks, status=None, env=env)
    seconds = time.time() - (cluster.folder/out/'.drill').stat().st_mtime
    with capsys.disabled():
        print(f'\n{2*tasks} ranks, {fault}: srun ended {seconds:.1f} s later with status {done.returncode}')
    assert done.returncode not in (0, 75) and not (cluster.folder/out/'DONE').exists()
    assert f'rank {2*tasks - 1} o' in done.stderr


def test_exit_0_of_all_ranks_is_not_taken_for_success(cluster):
    env = {'HPCASR_FAULT': 'exit0:rank=0:step=5;exit0:rank=1:step=5', 'HPCASR_SUPERVISE': '0'}
    job = cluster.submit('single-node', 'silent', '--tasks', '2', env=env)
    cluster.wait_for_end(job)
    assert cluster.log('silent')[-1].startswith(f'{job} ended with status ')
    assert cluster.log('silent')[-1] not in (f'{job} ended with status 0', f'{job} ended with status 75')


def test_the_wrong_mpi_is_refused_with_an_explanation(cluster):
    done = cluster.srun('hpcasr', 'train', *PLAN, '--out', 'none', mpi='none', status=2)
    assert done.stderr.count('hpcasr: error:') == 1 and 'but MPI sees a world of 1' in done.stderr
    assert 'srun --mpi=pmi2' in done.stderr and not (cluster.folder/'none').exists()


def test_a_serial_run_in_a_job_of_four_tasks(cluster):
    cluster.run('salloc', '--ntasks=4', 'hpcasr', 'train', *PLAN, '--out', 'serial')
    assert cluster.done('serial')['epochs'] == 5


def test_mpirun_in_an_allocation(cluster, undisturbed):
    cluster.run('salloc', '--nodes=2', '--ntasks-per-node=2', 'mpirun', '-n', '4', 'hpcasr', 'train', *PLAN, '--out',
                'mpirun')
    assert cluster.done('mpirun')['epochs'] == 5


def test_at_its_time_limit_a_job_is_requeued_and_ends_as_if_undisturbed(limited, cluster, undisturbed):
    cluster.wait_for_done('limited')
    assert cluster.done('limited') == undisturbed
    said = [line.split(' on ')[0] for line in cluster.log('limited')]
    assert said[:5] == [f'{limited} {what}' for what in (
        'submitted', 'started', 'ended with status 75', 'requeued', 'started')]
