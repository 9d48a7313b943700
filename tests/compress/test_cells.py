"""The table algorithm x compressor: whatever is allowed learns as what is not compressed does.

What is refused, and what would work instead: test_sum.py.
"""

from functools import cache

import numpy as np
import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.comm.virtual import World
from tests.algorithms.problems import Quadratic, live

CELLS = [(name, method) for name, cls in ALGORITHMS.items() for method in cls.compression.methods]
BOWL = Quadratic(n=1307, even=True, empty=0, stride=301, columns=26)  # its minimum is at 0; gradients are noisy
STEPS, RATE = 200, 0.03
OPTIONS = {'compress.ratio': 0.1, 'compress.least': 100, 'compress.rank': 8, 'optim.momentum': 0.5}
THRESHOLDS = {'local-sgd': 0.02, 'bmuf': 0.02}  # of differences of models; 2.0 of gradients


@cache
def distances(name, method):
    """From the minimum: of (the consensus, the farthest of all models) after the last step."""
    options = {'compress.method': method, 'compress.threshold': THRESHOLDS.get(name, 2.0), **OPTIONS}
    lives = World(2).run(lambda comm: live(comm, name, BOWL, STEPS, dtype='float32', options=options, lr=RATE))
    return np.linalg.norm(lives[0].consensus), max(np.linalg.norm(life.models[-1]) for life in lives)


@pytest.mark.parametrize(('name', 'method'), CELLS, ids=[' '.join(cell) for cell in CELLS])
def test_whatever_is_allowed_converges(name, method):
    start = np.linalg.norm(BOWL.learner(0, 2, 'float32').params.data)
    for found, plain in zip(distances(name, method), distances(name, 'none'), strict=True):
        assert plain < 0.2*start
        assert found < 1.3*plain
