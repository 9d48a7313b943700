import pathlib

import pytest

from tests.small import store


@pytest.fixture
def small(tmp_path):
    """A store of 30 uneven utterances: about 60 chunks of 21 frames."""
    return store(tmp_path/'small.h5', utterances=30)


@pytest.fixture
def train(hpcasr, small):
    """train(ranks, '--out', ...) trains a tiny model on the small store; mishap=(name, rank, step) lets it fail."""
    def run(ranks, *args, mishap=None, **options):
        script = [pathlib.Path(__file__).parent/'failing.py', *mishap] if mishap else None
        return hpcasr('train', small, '--model', 'tiny', '--set', 'model.cells=8', '--set', 'report.every=1', '--set',
                      'report.tensorboard=false', *args, ranks=ranks, script=script, **options)
    return run
