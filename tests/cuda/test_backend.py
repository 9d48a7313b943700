"""Networks on a device, simulated, against those of the reference backend."""

import numpy as np
import pytest

from hpcasr.backend import cuda, get_backend
from hpcasr.backend.base import Ops
from hpcasr.backend.cuda import CudaOps
from hpcasr.backend.cuda_simulated import Simulated
from hpcasr.comm.base import Comm
from hpcasr.config import Model
from hpcasr.data.batch import Batch
from hpcasr.errors import BadInput
from hpcasr.kernels.cuda.launch import SIMULATED
from hpcasr.model.network import build
from hpcasr.model.params import NONFINITE

DIM, TARGETS = 5, 7
pytestmark = pytest.mark.usefixtures('few_blocks')


def random_batch(lengths, T=None, seed=0):
    rng, lengths = np.random.default_rng(seed), np.array(lengths, int)
    T = T or lengths.max()
    x = rng.standard_normal((T, len(lengths), DIM)).astype('f4')
    targets = rng.integers(0, TARGETS, (T, len(lengths)), np.int32)
    past = np.arange(T)[:, None] >= lengths
    x[past], targets[past] = 0, 0
    return Batch(x, targets, lengths, epoch=3, position=11)


def pair(precision='fp32', resident=False, **model):
    """The same network in float64 by NumPy, and on a device."""
    model = Model(**{'preset': 'tiny', 'cells': 3} | model)
    exact = build(model, DIM, TARGETS, 'float64', Ops())
    exact.init(1)
    ops = get_backend('cuda', precision)
    ops.reach(Comm(), resident)
    there = build(model, DIM, TARGETS, 'float32', ops)
    rng = np.random.default_rng(2)
    exact.params.data[:] = (exact.params.data + 0.1*rng.standard_normal(exact.params.size)).astype('f4')
    there.params.load({'params': exact.params.data})
    return exact, there


def off(found, expected):
    found = np.asarray(found, float)
    return np.linalg.norm(found - expected)/np.linalg.norm(expected)


def compare(exact, there, batch, bound):
    loss = exact.loss_and_grad(batch, seed=4)
    assert there.loss_and_grad(batch, seed=4) == pytest.approx(loss, rel=bound)
    assert off(there.ops.host(there.params.grad), exact.params.grad) < bound
    assert np.allclose(there.params.slots, exact.params.slots, rtol=bound)


MODELS = [{'kind': 'blstm', 'layers': 2, 'bottleneck': 3}, {'kind': 'lstm', 'resident': True},
          {'kind': 'dnn', 'layers': 1, 'activation': 'relu', 'dropout': 0.4},
          {'kind': 'dnn', 'layers': 1, 'activation': 'tanh', 'resident': True}]


@pytest.mark.parametrize('model', MODELS, ids=lambda m: ' '.join(map(str, m.values())))
def test_losses_and_gradients_are_those_of_the_reference(model):
    """The second time, a graph is recorded; the mask changes under it."""
    exact, there = pair(**model)
    for seed, lengths in enumerate(([3, 2], [1, 3])):
        compare(exact, there, random_batch(lengths, seed=seed), 1e-5)


def test_bf16():
    exact, there = pair('bf16', layers=2, bottleneck=3)
    compare(exact, there, random_batch([3, 2]), 1e-2)


def test_scores():
    exact, there = pair(kind='dnn', layers=1)
    for seed in range(3):
        batch = random_batch([3, 1], seed=seed)
        assert there.evaluate(batch) == pytest.approx(exact.evaluate(batch))


def test_log_posteriors():
    exact, there = pair(kind='dnn', layers=1, bottleneck=3)
    batch = random_batch([3, 2])
    assert off(there.log_posteriors(batch.x, batch.mask)[batch.mask],
               exact.log_posteriors(batch.x, batch.mask)[batch.mask]) < 1e-6


def test_batches_of_one_frame_and_of_none():
    exact, there = pair()
    compare(exact, there, random_batch([1, 1]), 1e-5)
    there.loss_and_grad(random_batch([], T=3))
    assert not there.params.grad.any() and not there.params.slots.any()


def test_a_softmax_in_chunks_is_the_same(monkeypatch):
    grads, batch = [], random_batch([3, 1, 3])
    for bytes_at_once in 1 << 20, 4*4*TARGETS:
        monkeypatch.setattr(cuda, 'NEAR', bytes_at_once)
        _, there = pair(kind='dnn', layers=1)
        grads.append((there.loss_and_grad(batch), there.params.grad.copy()))
    assert grads[0][0] == grads[1][0] and off(grads[1][1], grads[0][1]) < 1e-6


def test_a_graph_is_void_once_its_memory_was_replaced():
    exact, there = pair(kind='dnn', layers=1)
    for lengths in [2], [2], [2, 2], [2]:
        compare(exact, there, random_batch(lengths), 1e-5)


def test_a_graph_follows_the_parameters_and_the_batch():
    exact, there = pair(kind='dnn', layers=1, resident=True)
    for seed in range(3):
        compare(exact, there, random_batch([2, 2], seed=seed), 1e-5)
        exact.params.data *= 1.25
        there.params.data *= 1.25


def test_what_is_not_finite_on_the_device_is_counted():
    _, there = pair(kind='dnn', layers=1)
    there.params['softmax.b'][2] = np.nan
    there.loss_and_grad(random_batch([2, 3]))
    assert there.params.slots[NONFINITE] == 1


@pytest.mark.parametrize('resident', [False, True])
def test_ready_tells_of_parts_that_are_final(resident):
    exact, there = pair(kind='dnn', layers=1, resident=resident)
    host = there.ops.host
    told, batch, final = [], random_batch([2, 1]), exact.params.grad
    exact.loss_and_grad(batch)
    for _ in range(2):
        there.params.grad[:] = 0
        told.clear()
        there.loss_and_grad(batch, lambda lo, hi: told.append((lo, hi, np.array(host(there.params.grad[lo:hi])))))
        assert [t[:2] for t in told[:len(there.layers)]] == [(0, 0)]*len(there.layers)
        parts = told[len(there.layers):]
        assert [lo for lo, *_ in parts] + [there.params.size] == [0] + [hi for _, hi, _ in parts]
        assert all(np.allclose(part, final[lo:hi], 1e-4, 1e-5) for lo, hi, part in parts)


# memory

def simulated(nbytes, resident=False):
    ops = CudaOps(Simulated('fp32', nbytes), 'fp32', Ops())
    ops.reach(Comm(), resident)
    return ops


@pytest.mark.skipif(not SIMULATED, reason='counts what the simulated device has given')
@pytest.mark.parametrize('kind', ['blstm', 'dnn'])
def test_what_a_step_needs_is_known_before(kind):
    ops = simulated(1 << 30)
    net = build(Model('tiny', kind, 2, 6, 3), DIM, TARGETS, 'float32', ops)
    batch = random_batch([3, 2])
    net.loss_and_grad(batch)
    inputs = batch.x.nbytes + batch.targets.nbytes + batch.mask.nbytes
    assert net.needs(3, 2) == inputs + sum(block.nbytes for block in ops.arena.blocks)


@pytest.mark.skipif(not SIMULATED, reason='needs a small device')
def test_a_model_that_does_not_fit_says_which_batch_would():
    net = build(Model('tiny'), DIM, TARGETS, 'float32', simulated(1 << 30))
    net.device.room = net.needs(21, 45)
    net.reserve(21, 45)
    with pytest.raises(BadInput, match=r'data.batch = 64 needs .* GB .*data.batch = 45 would fit'):
        net.reserve(21, 64)
    net.device.room = 10
    with pytest.raises(BadInput, match='choose fewer model'):
        net.reserve(21, 64)
    with pytest.raises(BadInput, match='parameters need'):
        build(Model('tiny'), DIM, TARGETS, 'float32', simulated(1000))
