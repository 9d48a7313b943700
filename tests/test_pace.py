"""Compute that takes the time an experiment asks for, and computes the same all the same."""

import numpy as np
import pytest

from hpcasr import config
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm
from hpcasr.comm.virtual import Link, World
from hpcasr.data.batch import Batch
from hpcasr.errors import BadInput
from hpcasr.model.network import build
from hpcasr.model.params import FRAMES, LOSS, SAMPLES
from hpcasr.pace import calls, pace, slow_ranks, spans


class Counting(Comm):
    """A learner whose clock only sleeping moves."""

    def __init__(self, rank=0, size=1):
        super().__init__()
        self.rank, self.size, self.clock = rank, size, 0.0

    def now(self):
        self.clock += 0.001  # what a layer takes
        return self.clock

    def sleep(self, seconds):
        self.clock += seconds


def network(**values):
    c = config.Config().with_values({'model.preset': 'tiny', 'model.cells': 4, 'data.batch': 2} | values, 'test')
    net = build(c.model, 3, 5, 'float64', get_backend('reference'))
    net.init(0)
    return net, c


def batch(samples=2, frames=4):
    rng = np.random.default_rng(0)
    return Batch(rng.normal(size=(frames, samples, 3)), rng.integers(0, 5, (frames, samples)).astype(np.int32),
                 np.full(samples, frames))


def test_nothing_asked_nothing_between():
    net, c = network()
    assert pace(net, Comm(), c) is net


def gradient(net, b, seen=None):
    net.loss_and_grad(b, ready=lambda lo, hi: seen is None or seen.append((lo, hi)))
    return net.params.grad.copy()


@pytest.mark.parametrize('values', [{'simulate.slow_rank': '0=3'}, {'simulate.slow_rank': '0=2,0.5'}])
def test_a_slow_rank_computes_the_same(values):
    net, c = network(**values)
    expected = gradient(net, batch())
    comm, seen = Counting(), []
    slow = pace(net, comm, c)
    assert (gradient(slow, batch(), seen) == expected).all()
    assert seen == list(spans(net)) and len(seen) == calls(net)
    assert slow.params is net.params and slow.describe() == net.describe()


def test_a_rank_three_times_as_slow_takes_three_times_as_long():
    net, c = network(**{'simulate.slow_rank': '1=3'})
    comm = Counting(1, 2)
    pace(net, comm, c).loss_and_grad(batch(), ready=lambda lo, hi: None)
    layers = calls(net)
    # a layer takes two looks at the clock (0.002 s) less the last one, and sleeps twice the first of them
    assert abs(comm.clock - (0.002*layers + 2*0.001*layers + 0.001)) < 1e-9


def test_a_pace_sleeps_in_place_of_computing():
    net, c = network(**{'simulate.pace': 80, 'simulate.slow_rank': '0=2'})
    comm, seen = Counting(), []
    asleep = pace(net, comm, c)
    assert not gradient(asleep, batch(samples=1), seen).any()  # half a batch, twice as slow: 80 ms
    assert abs(comm.clock - 0.08) < 1e-9
    assert seen == list(spans(net)) and seen[-1][1] == net.params.size
    assert [net.params.slots[k] for k in (FRAMES, SAMPLES, LOSS)] == [4, 1, 0]


def test_virtual_learners_take_the_time_they_are_given():
    expected = gradient(network()[0], batch())

    def work(comm):
        net, c = network(**{'simulate.pace': 50, 'simulate.slow_rank': '2=4'})
        grad = gradient(pace(net, comm, c), batch())
        assert (grad == expected).all()
        return round(comm.now(), 9)
    assert World(3, Link(0.0, float('inf'))).run(work) == [0.05, 0.05, 0.2]


@pytest.mark.parametrize('text, says', [('1', 'RANK=FACTOR'), ('1=x', 'RANK=FACTOR'), ('a=2', 'RANK=FACTOR'),
                                        ('1=2,', 'RANK=FACTOR'), ('4=2', 'only ranks 0 to 3'), ('1=0.5', 'at least 1')])
def test_what_cannot_be_a_slow_rank(text, says):
    with pytest.raises(BadInput, match=says):
        slow_ranks(text, 4)


def test_several_slow_ranks():
    assert slow_ranks('0=2 3=1.5,0.2', 4) == {0: (2.0, 0.0), 3: (1.5, 0.2)}
