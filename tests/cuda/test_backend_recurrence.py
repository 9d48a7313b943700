"""Which recurrent layers go in one launch, and that they get and leave what those that go step by step do.

In the simulator, where the persistent kernels cannot run, reference/lstm.py is in their place.
"""

from types import SimpleNamespace

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.backend.cuda_recurrence import Recurrence
from hpcasr.backend.cuda_simulated import wide
from hpcasr.comm.base import Comm
from hpcasr.kernels.cuda import persistent
from hpcasr.kernels.cuda.launch import SIMULATED
from hpcasr.kernels.reference import lstm as reference
from hpcasr.kernels.reference.bf16 import rounded
from hpcasr.model.params import Params
from tests.cuda.memory import bf16, error
from tests.cuda.test_backend import compare, pair, random_batch

D, H = 5, 3 if SIMULATED else persistent.STEP
pytestmark = pytest.mark.usefixtures('few_blocks')


class Launches:
    """Takes the place of persistent.py: its contract, checked, in NumPy."""

    def __init__(self):
        self.calls, self.counting = [], set()

    def plan(self, T, B, H, K, room):
        assert room == H
        return persistent.Plan(min(B, 2), -(-B//2)) if T and B else None

    def forward(self, plan, weights, bias, mask, z, c, y, counters, reverse=False, threads=None):
        K, T, B, H = self.meet('forward', plan, weights, c, counters)
        agree(y, (T, B, K*H), 'u2')
        agree(z, (K, T, B, 4*H), 'f4')
        assert mask is None or (mask.shape == (T, B) and mask.dtype == bool)
        for k, flip, own in directions(K, H, reverse):
            gates = z[k][flip] + bias[k]
            h, cells, _ = reference.run(gates, wide(weights[k]), None if mask is None else mask[flip], rounded)
            z[k][flip], c[k][flip], y[flip][..., own] = gates, cells[1:], bf16(h[1:])

    def backward(self, plan, weights, z, c, dy, dc, dz, counters, reverse=False, threads=None):
        K, T, B, H = self.meet('backward', plan, weights, c, counters)
        agree(dy, (T, B, K*H), 'f4')
        agree(dc, (K, B, H), 'f4')
        agree(dz, (K, T, B, 4*H), 'u2')
        dc[...] = np.nan
        for k, flip, own in directions(K, H, reverse):
            gates, cells = z[k][flip].copy(), np.concatenate([np.zeros((1, B, H), 'f4'), c[k][flip]])
            squashed = np.tanh(cells[1:])
            dz[k][flip] = bf16(reference.back(dy[flip][..., own], reference.slopes(gates, cells, squashed), gates,
                                              squashed, wide(weights[k]), rounded))

    def meet(self, name, plan, weights, c, counters):
        K, T, B, H = c.shape
        agree(c, (K, T, B, H), 'f4')
        assert len(weights) == K and plan == self.plan(T, B, H, K, H)
        for Wh in weights:
            agree(Wh, (H, 4*H), 'u2')
        agree(counters, (persistent.counters(plan, K),), 'u4')
        assert not counters.any()
        self.calls.append(name)
        self.counting.add(counters.ctypes.data)
        return c.shape


def agree(x, shape, dtype):
    assert x.shape == shape and x.dtype == dtype and x.flags.c_contiguous


def directions(K, H, reverse):
    """(k, how its frames are turned, its columns of y)."""
    for k in range(K):
        yield k, slice(None, None, -1 if (k + reverse) % 2 else 1), slice(k*H, (k + 1)*H)


@pytest.fixture
def launches(monkeypatch):
    """Level 2, in the simulator too; what was launched there."""
    own = Launches()
    if SIMULATED:
        for name in 'plan', 'forward', 'backward':
            monkeypatch.setattr(persistent, name, getattr(own, name))
        monkeypatch.setattr(persistent, 'room', lambda H: H)
        init = Recurrence.__init__

        def made(self, device, half):
            init(self, device, half)
            self.possible = half
        monkeypatch.setattr(Recurrence, '__init__', made)
    return own


@pytest.mark.parametrize(('T', 'B', 'K', 'reverse', 'masked'), [
    (3, 3, 2, False, True), (5, 1, 2, False, False), (3, 5, 1, True, True), (1, 2, 1, False, False)])
def test_both_levels_compute_the_same(launches, T, B, K, reverse, masked):
    found, expected = (layer(level, T, B, K, reverse, masked) for level in (True, False))
    assert launches.calls == (['forward', 'backward'] if SIMULATED else [])
    for name, value in expected.items():
        assert error(found[name], value) < 3e-3, name


def layer(level, T, B, K, reverse, masked):
    """All that a layer gives, {name: array}, on the host."""
    ops, rng = get_backend('cuda', 'bf16'), np.random.default_rng([T, B, K])
    ops.reach(Comm(), True)
    assert ops.recurrence.possible
    ops.recurrence.possible = level
    p = ops.params({f'{k}.{name}': shape for k in range(K) for name, shape in (
        ('Wx', (D, 4*H)), ('Wh', (H, 4*H)), ('b', (4*H,)))}, 'float32', None, None)
    p.load({'params': rng.standard_normal(p.size, np.float32)/np.sqrt(H)})
    ops.hold(p)
    x, dy = (rng.standard_normal((T, B, n), np.float32) for n in (D, K*H))
    weights, gradients = ([tuple(views[f'{k}.{name}'] for name in ('Wx', 'Wh', 'b')) for k in range(K)]
                          for views in (p.views, p.g))
    y, backward = ops.recur(ops.asarray(x), weights, ops.asarray(rng.random((T, B)) < 0.7) if masked else None, reverse)
    states = wide(ops.host(y))  # before they are overwritten
    dx = backward(ops.asarray(dy), gradients, True)
    return {'y': states, 'dx': ops.host(dx)} | Params(p.shapes, buffer=ops.host(p.grad)).views


@pytest.mark.parametrize('model', [{'layers': 2, 'bottleneck': 3}, {'kind': 'lstm', 'layers': 2, 'resident': True}],
                         ids=['blstm', 'lstm'])
def test_a_network_in_graphs(launches, model):
    """The second and third steps are a graph; batches change under it, and layers share counters."""
    exact, there = pair('bf16', cells=H, **model)
    for seed, lengths in enumerate(([3, 2, 1], [1, 3, 3], [2, 3, 1])):
        compare(exact, there, random_batch(lengths, seed=seed), 1e-2)
    if SIMULATED:
        assert launches.calls == ['forward', 'forward', 'backward', 'backward']*3 and len(launches.counting) == 1
        inputs = sum(x.nbytes for batch in [random_batch([3, 2, 1])] for x in (batch.x, batch.targets, batch.mask))
        assert there.needs(3, 3) == inputs + sum(block.nbytes for block in there.ops.arena.blocks)
    there.loss_and_grad(random_batch([], T=3))
    assert not there.ops.host(there.params.grad).any()


# who may

def gpu(bus, capability=(9, 0), simulated=False):
    return SimpleNamespace(bus=bus, capability=capability, simulated=simulated)


@pytest.mark.parametrize(('machines', 'buses', 'expected'), [
    ((0,), 'a', [True]), ((0, 0), 'ab', [True, True]), ((0, 0, 0), 'aba', [False, True, False]),
    ((0, 0, 1), 'aaa', [False, False, True])])
def test_blocks_of_two_learners_never_wait_on_one_gpu(machines, buses, expected):
    """They might each have a part of it, and wait for the rest for ever."""
    everyone = [*zip(machines, buses, strict=True)]
    for rank, bus in enumerate(buses):
        own = Recurrence(gpu(bus), True)
        own.reach(SimpleNamespace(machines=machines, rank=rank, allgather=lambda value: everyone))
        assert own.possible == expected[rank]
        assert own.describe() == ('level 2 where it fits' if expected[rank] else 'level 1')


@pytest.mark.parametrize(('device', 'half'), [
    (gpu('a'), False), (gpu('a', (7, 5)), True), (gpu('a', simulated=True), True)])
def test_where_no_layer_can_go_in_one_launch(device, half):
    own = Recurrence(device, half)
    assert own.plan(21, 128, 512, 2) is None and own.describe() == 'level 1'


@pytest.mark.skipif(not SIMULATED, reason='of a GPU it is said what it can')
def test_the_simulator_goes_step_by_step():
    assert 'simulated GPU, products of bf16, level 1; on the host' in get_backend('cuda', 'bf16').describe()
