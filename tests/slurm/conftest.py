"""A cluster that `make test-slurm` has started (cluster.sh), and one small training run in a shared folder."""

import os
import pathlib
import subprocess
import time

import pytest

from tests.conftest import done_of, environment, launch
from tests.small import store

PLAN = ('small.h5', '--model', 'tiny', '--set', 'model.cells=8', '--set', 'report.tensorboard=false', '--set',
        'train.backend=reference', '--batch', '3', '--epochs', '5')
# with UCX, MPICH gives PMI a buffer of 4 KiB, most of it never written; where its code has over 1024 bytes, SLURM
# misreads it, and MPI_Init hangs (pmodels/mpich#6924)
NETWORK = {'MPIR_CVAR_CH4_NETMOD': 'ofi'}
PATIENCE = 120  # seconds for one job; the machine may be busy


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents and 'HPCASR_TEST_SLURM' not in os.environ:
            item.add_marker(pytest.mark.skip(reason='needs a cluster: make test-slurm'))


class Cluster:
    """Runs commands in `folder` with the environment of a login node."""

    def __init__(self, folder):
        self.folder = folder
        self.environment = environment() | NETWORK | {'SLURM_CONF': os.environ['SLURM_CONF']}

    def run(self, *argv, status=0, env=None, timeout=PATIENCE):
        """One command; its CompletedProcess.  status None: any."""
        done = subprocess.run([str(a) for a in argv], cwd=self.folder, env=self.environment | (env or {}),
                              timeout=timeout, capture_output=True, text=True)
        assert status in (None, done.returncode), f'{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}'
        return done

    def srun(self, *argv, nodes=2, tasks=2, mpi='pmi2', **options):
        """srun over `nodes` nodes with `tasks` tasks on each."""
        shape = f'--nodes={nodes}', f'--ntasks-per-node={tasks}'
        return self.run('srun', *shape, f'--mpi={mpi}', '--kill-on-bad-exit=1', *argv, **options)

    def jobs(self, *argv, status=0, env=None):
        """hpcasr jobs ..."""
        return launch(self.folder, 'jobs', *argv, status=status, env=self.environment | (env or {}))

    def submit(self, template, out, *options, plan=PLAN, env=None):
        """The number of the (first) job that hpcasr jobs submit makes of a template."""
        done = self.jobs('submit', template, '--out', out, '--mpi', 'pmi2', '--time', '10', *options, '--', *plan,
                         env=env)
        return done.stdout.split()[1]

    def done(self, out):
        return done_of(self.folder/out)

    def log(self, out):
        """What jobs.log of the experiment says, without times."""
        path = self.folder/out/'jobs.log'
        return [line.split(' ', 1)[1] for line in path.read_text().splitlines()] if path.exists() else []

    def wait(self, condition, what):
        """Wait until `condition()` holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > end:
                logs = [f'{p}:\n{p.read_text()[-3000:]}' for p in sorted(self.folder.glob('*.log'))]
                raise AssertionError(f'{what}: not after {PATIENCE} s\n{self.run("squeue").stdout}\n' + '\n'.join(logs))
            time.sleep(0.2)

    def wait_for_done(self, out):
        self.wait((self.folder/out/'DONE').exists, f'{out} is done')

    def wait_for_training(self, out):
        self.wait(lambda: (self.folder/out/'metrics.jsonl').exists() and (self.folder/out/'.drill').exists(),
                  f'{out} is being trained')

    def wait_for_end(self, *jobs):
        def over():
            return not set(jobs) & set(self.run('squeue', '--noheader', '--format=%A').stdout.split())
        self.wait(over, f'{jobs} have ended')


@pytest.fixture(scope='session')
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp('slurm')
    store(folder/'small.h5', utterances=30)
    return Cluster(folder)


@pytest.fixture(scope='session')
def undisturbed(cluster):
    """What four ranks on two nodes have learnt when nothing happens to them, started by srun."""
    cluster.srun('hpcasr', 'train', *PLAN, '--algo=sync-allreduce', '--out', 'undisturbed')
    return cluster.done('undisturbed')
