"""Fixtures, and what makes a failing rank end the job of a test run."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from _pytest._io import TerminalWriter
from hypothesis import settings

ROOT = pathlib.Path(__file__).parent.parent
# the same examples in every run; others, to look for more: pytest --hypothesis-profile=default
settings.register_profile('same', derandomize=True)
settings.load_profile('same')
LAUNCHER = ('PMI', 'PMIX', 'OMPI', 'PRTE', 'HYDRA', 'MPIR', 'SLURM')


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    config.addinivalue_line('markers', 'launch: starts mpirun itself; run under both MPI libraries')
    config.addinivalue_line('markers', 'slow: like others that are not; run by make test-all')
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter and under_mpi(config) and world().rank:  # one report, that of rank 0; failures are printed by end_job
        reporter._tw = TerminalWriter(open(os.devnull, 'w'))


def under_mpi(config):
    return config.getoption('--with-mpi', False)


def world():
    from mpi4py import MPI
    return MPI.COMM_WORLD


@pytest.fixture(scope='session', autouse=True)
def one_blas_thread():
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')


@pytest.fixture(scope='session', params=['reference', 'cpu'])
def ops(request):
    """Every backend that this machine has."""
    from hpcasr.backend import get_backend
    from hpcasr.errors import BadInput
    try:
        return get_backend(request.param)
    except BadInput as e:
        pytest.skip(str(e))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A test that fails on one rank leaves the others waiting in a collective: print why, end the job."""
    report = yield
    if report.failed and under_mpi(item.config) and world().size > 1:
        end_job(f'rank {world().rank} of {world().size}: {item.nodeid} failed in {report.when}\n{report.longreprtext}')
    return report


def pytest_collectreport(report):
    if report.failed and 'mpi4py' in sys.modules and world().size > 1:
        end_job(f'rank {world().rank}: {report.longreprtext}')


def end_job(text):
    os.write(2, f'\n{text}\n'.encode())
    world().Abort(1)


@pytest.fixture
def hpcasr(tmp_path):
    """hpcasr('data', 'info', ...) runs the command in tmp_path; hpcasr(..., ranks=2) under mpirun."""
    return lambda *args, **options: launch(tmp_path, *args, **options)


def launch(folder, *args, ranks=0, timeout=60, status=0, script=None, env=None):
    """Run one command; check its exit status (None: any); return the CompletedProcess with text output.

    script   [path, arguments ...] of a script to run in place of `python -m hpcasr`
    """
    done = subprocess.run(command(ranks, script, *args), cwd=folder, env=environment() | (env or {}), timeout=timeout,
                          capture_output=True, text=True)
    assert status is None or done.returncode == status, f'{args}: {done.returncode}\n{done.stdout}\n{done.stderr}'
    return done


def command(ranks, script, *args):
    mpirun = [str(pathlib.Path(sys.executable).parent/'mpirun'), '-n', str(ranks)] if ranks else []
    return [*mpirun, sys.executable, *map(str, script or ['-m', 'hpcasr']), *map(str, args)]


def environment():
    """Ours, without what a launcher left in it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(LAUNCHER) or k.startswith('PRTE_') or 'ROOT' in k}
    return kept | {'OPENBLAS_NUM_THREADS': '1', 'PYTHONPATH': str(ROOT)}


def done_of(folder):
    """What the experiment in `folder` says of its end."""
    return json.loads((pathlib.Path(folder)/'DONE').read_text())
