import json
import tracemalloc

import numpy as np
import pytest

from hpcasr.config import Model
from hpcasr.model.network import build, parameters
from hpcasr.model.params import ERRORS, FRAMES, LOSS, NONFINITE, SAMPLES, SLOTS, STOP

DEEP = dict(kind='blstm', layers=3, bottleneck=4, dropout=0.2)
KINDS = [dict(kind='dnn', layers=2), dict(kind='lstm', layers=2), DEEP]


@pytest.fixture(params=KINDS, ids=lambda m: m['kind'])
def net(request, make_network):
    return make_network(**request.param)


def test_ready_covers_the_gradient_once_in_order_when_it_is_final(net, make_batch):
    batch, calls = make_batch([5, 3]), []

    def ready(lo, hi):
        calls.append((lo, hi, net.params.grad[lo:hi].copy()))

    net.params.grad[:] = np.nan
    net.loss_and_grad(batch, ready)
    assert all(lo == hi for lo, hi, _ in calls[:len(net.layers)])
    backward = calls[len(net.layers):]
    assert [lo for lo, _, _ in backward] == [0, *(hi for _, hi, _ in backward[:-1])]
    assert backward[-1][1] == net.params.size and len(backward) == len(net.layers)
    assert np.array_equal(np.concatenate([part for _, _, part in backward]), net.params.grad)
    assert not np.isnan(net.params.grad).any()


def test_ready_parts_are_layers_from_the_last_to_the_first(net, make_batch):
    spans = []
    net.loss_and_grad(make_batch([2]), lambda lo, hi: spans.append((lo, hi)) if hi > lo else None)
    assert spans == [net.params.span(layer.shapes) for layer in reversed(net.layers) if layer.shapes]


def test_slots(net, make_batch):
    batch = make_batch([5, 3, 4])
    net.params.slots[:] = -1
    loss = net.loss_and_grad(batch)
    slots = net.params.slots
    assert slots[FRAMES] == 12 and slots[SAMPLES] == 3 and slots[NONFINITE] == 0
    assert slots[LOSS] == loss and 0 <= slots[ERRORS] <= 12
    assert slots[STOP] == slots[SLOTS - 1] == -1


def test_slots_are_final_before_the_first_part_of_the_gradient(net, make_batch):
    seen = []
    net.params.slots[:] = -1
    net.loss_and_grad(make_batch([5, 3]), lambda lo, hi: hi > lo and seen.append(net.params.slots.copy()))
    assert np.array_equal(seen[0], net.params.slots) and seen[0][FRAMES] == 8


@pytest.mark.parametrize('poison', [np.nan, np.inf, 1e30])
def test_a_diverged_model_is_counted_without_warnings(poison, make_network, make_batch, recwarn):
    net = make_network(kind='dnn', activation='relu', layers=3, dtype='float32')
    net.params.data[:] *= np.float32(poison)
    net.loss_and_grad(make_batch([4, 2], dtype='float32'))
    assert net.params.slots[NONFINITE] == 1 and not recwarn


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('model', KINDS, ids=lambda m: m['kind'])
def test_empty_batch(model, dtype, make_network, make_batch):
    """A rank without data takes part with a zero gradient."""
    net = make_network(**model, dtype=dtype)
    net.params.grad[:], net.params.slots[:] = np.nan, np.nan
    assert net.loss_and_grad(make_batch([], T=4)) == 0
    assert not net.params.grad.any() and not net.params.slots[[FRAMES, LOSS, ERRORS, NONFINITE, SAMPLES]].any()
    assert net.evaluate(make_batch([], T=4)) == (0, 0, 0)


@pytest.mark.parametrize('model', KINDS, ids=lambda m: m['kind'])
def test_what_came_before_changes_no_bit(model, make_network, make_batch):
    """A step is the same after steps on larger and smaller batches, and posteriors outlive it."""
    net, batches = make_network(**model, dtype='float32'), [make_batch(n) for n in ([9, 4], [30]*8, [2])]
    first = net.loss_and_grad(batches[0]), net.params.grad.copy()
    kept = net.log_posteriors(batches[0].x, batches[0].mask)
    same = kept.copy()
    for batch in batches:
        net.loss_and_grad(batch)
        net.evaluate(batch)
    again = net.loss_and_grad(batches[0]), net.params.grad.copy()
    assert first[0] == again[0] and np.array_equal(first[1], again[1]) and np.array_equal(kept, same)


@pytest.mark.parametrize('model', KINDS, ids=lambda m: m['kind'])
def test_posteriors_outlive_also_a_step_that_was_broken_off(model, make_network, make_batch):
    net, batch = make_network(**model, dtype='float32'), make_batch([9, 4], dtype='float32')

    def broken_off(lo, hi):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        net.loss_and_grad(batch, broken_off)
    kept = net.log_posteriors(batch.x, batch.mask)
    same = kept.copy()
    net.loss_and_grad(batch)
    assert np.array_equal(kept, same)


@pytest.mark.parametrize('cells', [64, 70])
@pytest.mark.parametrize('kind', ['dnn', 'lstm', 'blstm'])
def test_a_step_allocates_next_to_nothing(kind, cells, ops, make_network, make_batch):
    """From the second step on; of what a layer computes, 21 x 32 x 4 bytes are a single column."""
    if ops.name == 'reference':
        pytest.skip('NumPy allocates')
    net = make_network(40, 72, kind=kind, layers=2, cells=cells, bottleneck=8, dtype='float32')
    batches = [make_batch(n, 40, 72, T=21, dtype='float32') for n in ([21]*32, list(range(21))*2)]
    for batch in batches:
        net.loss_and_grad(batch)
    tracemalloc.start()
    try:
        for batch in batches*2:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            net.loss_and_grad(batch)
            assert tracemalloc.get_traced_memory()[1] - before < 10*21*32*4
    finally:
        tracemalloc.stop()


def test_evaluate_leaves_the_gradient_alone(net, make_batch):
    net.params.gradient[:] = 5
    net.evaluate(make_batch([4, 2]))
    assert (net.params.gradient == 5).all()


def test_posteriors_sum_to_one_and_give_the_loss(net, make_batch):
    batch = make_batch([6, 2, 5])
    log_p = net.log_posteriors(batch.x, batch.mask)
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-12)
    t, b = np.nonzero(batch.mask)
    loss, errors, frames = net.evaluate(batch)
    assert -log_p[t, b, batch.targets[t, b]].sum() == pytest.approx(loss, rel=1e-12)
    assert (log_p.argmax(-1) != batch.targets)[batch.mask].sum() == errors and frames == 13


def test_the_batch_is_not_changed(net, make_batch):
    batch, same = make_batch([6, 2]), make_batch([6, 2])
    net.loss_and_grad(batch)
    net.log_posteriors(batch.x, batch.mask)
    assert np.array_equal(batch.x, same.x) and np.array_equal(batch.targets, same.targets)


@pytest.mark.parametrize('model', KINDS, ids=lambda m: m['kind'])
def test_init_is_a_function_of_the_seed_and_float32_is_float64_rounded(model, ops):
    nets = [build(Model(cells=9, **model), 5, 7, dtype, ops) for dtype in ('float64', 'float64', 'float32', 'float64')]
    for net, seed in zip(nets, (3, 3, 3, 4), strict=True):
        net.init(seed)
    first, again, single, other = (net.params.data for net in nets)
    assert np.array_equal(first, again) and np.array_equal(single, first.astype('float32'))
    assert not np.array_equal(first, other)


def test_init_does_not_depend_on_dropout(make_network):
    assert np.array_equal(make_network(dropout=0.5).params.data, make_network(dropout=0.0).params.data)


@pytest.mark.parametrize('function, gain', [('sigmoid', 4.0), ('tanh', 1.0), ('relu', np.sqrt(2))])
def test_weights_below_an_activation_have_its_gain(function, gain, ops):
    net = build(Model('dnn', layers=2, cells=60, activation=function), 40, 7, 'float64', ops)
    net.init(0)
    for name, shape in ('affine1.W', (40, 60)), ('affine2.W', (60, 60)):
        assert net.params[name].shape == shape
        assert np.abs(net.params[name]).max() == pytest.approx(gain*np.sqrt(6/sum(shape)), rel=0.01)
    assert np.abs(net.params['softmax.W']).max() == pytest.approx(np.sqrt(6/67), rel=0.02)


def test_the_first_loss_is_that_of_a_guess(ops, make_batch):
    net = build(Model('small'), 20, 72, 'float32', ops)
    net.init(0)
    batch = make_batch([21]*4, 20, 72, dtype='float32')
    assert net.evaluate(batch)[0]/batch.frames == pytest.approx(np.log(72), rel=0.05)


@pytest.mark.parametrize('cells', [6, 33, 64])
@pytest.mark.parametrize('lengths', [[21, 8, 13], [1], [5]*9], ids=str)
@pytest.mark.parametrize('model', KINDS, ids=lambda m: m['kind'])
def test_float32_agrees_with_float64(model, lengths, cells, make_network, make_batch):
    double, single = (make_network(**model, cells=cells, dtype=dtype) for dtype in ('float64', 'float32'))
    batch = make_batch(lengths)
    loss = double.loss_and_grad(batch)
    assert single.loss_and_grad(batch) == pytest.approx(loss, rel=1e-6)
    error = np.abs(single.params.grad - double.params.grad).max()
    assert single.params.grad.dtype == np.float32 and error < 1e-5*np.abs(double.params.grad).max()


def test_parameters_lie_in_given_memory(make_network):
    memory = np.zeros(10000)
    given, asked = make_network(buffer=memory), make_network(buffer=lambda n, dtype: np.ones(n, dtype))
    assert np.shares_memory(given.params.data, memory)
    assert np.array_equal(given.params.data, asked.params.data) and np.array_equal(memory[:5], given.params.data[:5])


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_descent_learns_a_batch_by_heart(dtype, make_network, make_batch):
    net, batch = make_network(kind='blstm', cells=16, dtype=dtype), make_batch([8, 5])
    for _ in range(400):
        net.loss_and_grad(batch)
        net.params.data -= 0.2*net.params.grad
    assert net.evaluate(batch)[1] == 0


def test_describe_and_shape(make_network, ops):
    assert build(Model('small'), 40, 72, 'float32', ops).describe() == 'blstm 2x128, 40 -> 72 targets, 0.6 M parameters'
    net = make_network(bottleneck=3)
    assert net.describe() == 'blstm 1x6, bottleneck 3, 5 -> 7 targets, 0.0 M parameters'
    assert net.shape() == json.loads(json.dumps(net.shape()))
    assert net.shape() == {
        'dim': 5, 'targets': 7, 'softmax.W': [3, 7], 'softmax.b': [7], 'bottleneck.W': [12, 3], 'bottleneck.b': [3],
        'blstm1.forward.Wx': [5, 24], 'blstm1.forward.Wh': [6, 24], 'blstm1.forward.b': [24],
        'blstm1.reverse.Wx': [5, 24], 'blstm1.reverse.Wh': [6, 24], 'blstm1.reverse.b': [24]}
    assert (net.dim, net.num_targets) == (5, 7)


def test_the_last_layer_comes_first():
    names = list(parameters(Model('tiny', layers=2, bottleneck=3), 5, 7))
    assert [n.split('.')[0] for n in names[::2]] == ['softmax', 'bottleneck', *['blstm2']*3, *['blstm1']*3]
