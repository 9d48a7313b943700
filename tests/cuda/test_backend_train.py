"""Training runs on a simulated device, against the same runs by the reference backend, and resumed ones."""

import json

import pytest

from hpcasr.kernels.cuda.launch import SIMULATED
from tests.conftest import done_of, launch
from tests.small import store

pytestmark = pytest.mark.skipif(not SIMULATED, reason='compares runs of the simulator')
SMALL = ['--model', 'tiny', '--chunk', 3, '--batch', 2, '--set', 'model.cells=3', '--set', 'model.kind=dnn',
         '--set', 'model.layers=1', '--virtual', 2, '--set', 'exchange.meet=1']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('train')
    store(folder/'train.h5', utterances=4, longest=5)
    return folder


def train(folder, out, *args):
    launch(folder, 'train', 'train.h5', '--out', out, *SMALL, *args, timeout=300)
    return done_of(folder/out)


# push-sum: vectors on the device; async-ps: on the host
@pytest.mark.parametrize('algo', ['push-sum', 'async-ps'])
def test_a_run_is_that_of_the_reference_and_can_be_resumed(folder, algo):
    how = ['--algo', algo, '--epochs', 2, '--optimizer', 'adam', '--lr', 0.01, '--assign', 'static']
    there = train(folder, algo, *how, '--backend', 'cuda', '--set', 'checkpoint.keep=2')
    here = train(folder, f'{algo}-reference', *how, '--backend', 'reference')
    assert there['ce'] == pytest.approx(here['ce'], rel=1e-4)
    first = sorted((folder/algo/'checkpoints').iterdir())[0]
    again = train(folder, f'{algo}-again', *how, '--backend', 'cuda', '--resume', first)
    assert again['checksum'] == there['checksum']
    assert 'simulated GPU' in json.loads((first/'manifest.json').read_text())['versions']['backend']
