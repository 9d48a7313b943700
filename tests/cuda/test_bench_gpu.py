"""`bench gpu`: what is right is found right, what is wrong is found wrong; at tiny sizes."""

from types import SimpleNamespace

import numpy as np
import pytest

from hpcasr.backend.cuda import CudaOps
from hpcasr.bench.gpu import features, latency, layers, machine, training, vectors
from hpcasr.bench.gpu.sections import QUICK
from hpcasr.kernels.cuda import launch, meeting, mix, update
from tests.cuda.memory import device, host

pytestmark = pytest.mark.usefixtures('few_blocks')


def wrong(rows):
    return [row['what'] for row in rows if row.get('right') is False]


def test_vectors_are_right_and_timed():
    rows = list(vectors.measure(QUICK))
    assert not wrong(rows) and sum('right' in row for row in rows) >= 17
    assert sum(row.get('gb_per_s', 0) > 0 for row in rows) == 7


@pytest.mark.parametrize('module, name, said', [
    (mix, 'pair', 'mean of a pair'), (mix, 'mix', 'mix of three'), (update, 'sgd', 'sgd: copy in bf16'),
    (update, 'not_finite', 'what is not finite is found')])
def test_a_kernel_that_does_nothing_is_found(monkeypatch, module, name, said):
    monkeypatch.setattr(module, name, lambda *args, **options: None)
    assert said in wrong(vectors.measure(QUICK))


def test_training_goes_the_way_of_float64():
    rows = list(training.measure(QUICK))
    assert not wrong(rows) and len(rows) == 3*(2*training.STEPS + 1)


def test_a_gradient_that_is_not_written_is_found(monkeypatch):
    """Not NaN when it was allocated, but what was poisoned."""
    monkeypatch.setattr(CudaOps, 'sum_rows', lambda self, x, out: None)
    monkeypatch.setattr(layers, 'BOUNDS', {'fp32': 1e-5})
    case = layers.narrowed(next(iter(QUICK.cases.values())), ('activation', 'relu'))
    found = list(layers.compare('relu', case))
    assert wrong(found)[-3:] == [f'relu, fp32, step {k}' for k in (1, 2, 3)]
    assert found[1]['off'] == np.inf and found[1]['of'].endswith('.b')


def test_a_layer_is_right(monkeypatch):
    monkeypatch.setattr(layers, 'BOUNDS', {'fp32': 1e-5})
    case = layers.narrowed(next(iter(QUICK.cases.values())), ('kind', 'lstm'))
    rows = list(layers.compare('lstm', case))
    assert len(rows) == 4 and not wrong(rows)


def test_features_are_those_of_the_host():
    assert next(features.measure(QUICK))['right']


def test_the_machine_and_its_latencies():
    assert next(machine.measure(QUICK))['gpu']
    assert all(row['us'] > 0 for row in latency.measure(QUICK) if 'us' in row)


@pytest.mark.parametrize('times', [1, 5])
def test_blocks_meet_as_often_as_they_should(monkeypatch, times):
    members = 1 if launch.SIMULATED else 16
    if launch.SIMULATED:  # which has no barrier between blocks
        monkeypatch.setattr(meeting, 'barrier', SimpleNamespace(arrive=arrive, wait=wait))
    counters, met = device(np.zeros(meeting.counters(2)), 'u4'), device(np.full((2, members), -1), 'i4')
    for _ in range(2):
        meeting.meet(times, counters, met, threads=1 if launch.SIMULATED else 64)
    assert (host(met) == times).all() and not np.any(counters if launch.SIMULATED else counters.get())


def arrive(counters, at, last):
    counters[at] = 0 if counters[at] >= last else counters[at] + 1


def wait(counters, at, arrivals):
    assert counters[at] == arrivals
