"""What is said of bytes and messages is what the busiest learner is counted to have sent."""

import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.model.params import SLOTS
from tests.algorithms.problems import IDS, VARIANTS, Player, Quadratic

STEPS, N = 6, 3000


@pytest.mark.parametrize('size', [1, 2, 5, 6])
@pytest.mark.parametrize(('name', 'options'), VARIANTS, ids=IDS)
def test_bytes_and_messages(name, options, size):
    """In one bucket; sums of the slots count as messages, their bytes are left out.  Meetings that lag are too rare."""
    options = options | {'exchange.sample': 0, 'exchange.meet': 1000, 'train.bucket': 10**6}

    def work(comm):
        player = Player(comm, name, Quadratic(n=N), options=options)
        before = comm.bytes_sent, comm.messages_sent
        for t in range(STEPS):
            player.step(t)
        return comm.bytes_sent - before[0], comm.messages_sent - before[1]
    sent, messages = (max(learners)/STEPS for learners in zip(*World(size).run(work), strict=True))
    config = Config().with_values({'exchange.period': 3, **options}, 'test')
    about = ALGORITHMS[name].about
    assert 0 <= sent - about.bytes(8*N, size, config) <= 2*8*(SLOTS + 1)
    assert messages == pytest.approx(about.messages(size, config))
