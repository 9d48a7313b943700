"""`hpcasr doctor` in one process and under mpirun, well and unwell."""

import json
import pathlib

import pytest

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]
UNWELL = pathlib.Path(__file__).parent/'unwell.py'


def told(done):
    """{check: [what was found of it]}."""
    found = json.loads(done.stdout)
    assert found['version'] == 1
    checks = {}
    for check in found['checks']:
        assert check['found'] and bool(check['advice']) == (check['level'] != 'ok')
        checks.setdefault(check['name'], []).append(check)
    return checks


@pytest.mark.parametrize('ranks', [0, 2, 3])
def test_every_check_is_told_once(hpcasr, ranks, tmp_path):
    from hpcasr.doctor.run import ORDER
    done = hpcasr('doctor', '--json', ranks=ranks, status=None)
    checks = told(done)
    assert list(checks) == list(ORDER) and done.stdout.count('\n') == 1
    errors = json.loads(done.stdout)['counts']['error']
    assert done.returncode == (errors > 0) and json.loads(done.stdout)['ranks'] == max(1, ranks)
    assert not list(tmp_path.iterdir())
    assert checks['world'][0]['level'] == checks['one-sided exchange'][0]['level'] == 'ok'


def test_text(hpcasr):
    lines = hpcasr('doctor', status=None).stdout.splitlines()
    assert lines[0].startswith('hpcasr ') and lines[-1].endswith(' ok')
    assert all(line.split()[0] in ('ok', 'warning', 'error') for line in lines[1:-1])


FAULTS = {'four worlds of one under srun': ({'SLURM_STEP_NUM_TASKS': '4', 'SLURM_PROCID': '0', 'SLURM_JOB_ID': '1'},
                                            'world', 'error', 'MPI sees a world of 1', 'srun --mpi=pmi2'),
          'an unwritable cache': ({'NUMBA_CACHE_DIR': '/proc/none'}, 'kernel cache', 'warning', '/proc/none', 'unset'),
          'many BLAS threads': ({'OPENBLAS_NUM_THREADS': '4096'}, 'BLAS threads', 'warning',
                                'OPENBLAS_NUM_THREADS=4096', 'OPENBLAS_NUM_THREADS=1')}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_fault_of_the_environment_is_named(hpcasr, fault):
    env, name, level, found, advice = FAULTS[fault]
    check = told(hpcasr('doctor', '--json', env=env, status=int(level == 'error')))[name][0]
    assert check['level'] == level and found in check['found'] and advice in check['advice']


def test_of_many_worlds_of_one_the_first_speaks(hpcasr):
    env = {'SLURM_STEP_NUM_TASKS': '4', 'SLURM_PROCID': '2', 'SLURM_JOB_ID': '1'}
    assert hpcasr('doctor', env=env).stdout == ''


def test_ranks_that_differ_are_named(tmp_path, hpcasr):
    script = tmp_path/'differ.py'
    script.write_text('import os, sys\nfrom hpcasr import cli, launcher\n'
                      'os.environ["NUMBA_CACHE_DIR"] = f"/proc/none{launcher.rank()}"\nsys.exit(cli.main())\n')
    caches = told(hpcasr('doctor', '--json', ranks=3, script=[script], status=None))['kernel cache']
    assert [(c['ranks'], c['found'][:27]) for c in caches] == [
        ([r], f'NUMBA_CACHE_DIR=/proc/none{r}') for r in range(3)]


@pytest.mark.parametrize('how, rank, name, found', [
    ('crashes', 0, 'one-sided exchange', 'was ended by SIGSEGV'), ('crashes', 1, 'one-sided exchange', 'did not end'),
    ('raises', 1, 'one-sided exchange', 'did not end'),
    ('absent', 'all', 'MPI library', 'none can be loaded'),
    ('swaps', 'all', 'one-sided exchange', 'compare-and-swap is not atomic')])
def test_what_breaks_in_a_rank_is_a_finding(hpcasr, how, rank, name, found):
    done = hpcasr('doctor', '--json', '--limit', '3', ranks=2, script=[UNWELL, how, rank], status=None)
    check, = (c for c in told(done)[name] if c['level'] == 'error')
    assert found in check['found'] and done.returncode != 0
    if rank == 1:
        assert f'hpcasr: rank 1 on {json.loads(done.stdout)["hosts"][0]}: error  {name}' in done.stderr


def test_a_library_that_ends_the_process_when_it_is_loaded(hpcasr):
    checks = told(hpcasr('doctor', '--json', script=[UNWELL, 'aborts', 'all'], status=1))
    assert 'was ended by SIGABRT' in checks['MPI library'][0]['found'] and 'versions' in checks


def test_a_file_system_that_hangs_and_crashes(hpcasr):
    script = [UNWELL, 'disk', 'all']
    checks = told(hpcasr('doctor', '--json', '--limit', '4', ranks=2, script=script, status=None))
    assert 'did not end' in checks['file system'][0]['found'] and 'SIGBUS' in checks['file locks'][0]['found']
    assert 'ZeroDivisionError' in checks['free space'][0]['found'] and checks['world'][0]['level'] == 'ok'


def test_one_sided_exchange_that_waits(hpcasr):
    done = hpcasr('doctor', '--json', ranks=2, script=[UNWELL, 'waits', 'all'], status=None)
    assert '--progress thread' in told(done)['one-sided progress'][0]['advice'] or 'cores' in done.stdout


def test_without_mpi_in_one_process(hpcasr):
    done = hpcasr('doctor', '--json', script=[UNWELL, 'absent', 'all'], status=None)
    checks = told(done)
    assert checks['MPI library'][0]['level'] == 'warning' and 'world' not in checks and 'BLAS threads' in checks
