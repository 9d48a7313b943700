"""Parts of a training step of ours beside PyTorch's: the layers of LSTM, and the softmax layer with its loss."""

import numpy as np

from hpcasr.bench.gpu.beside import Recorded, best, faster, host_params, load, milliseconds, of_block, race
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import fresh, uniform
from hpcasr.bench.gpu.exact import batches, learner
from hpcasr.bench.gpu.sections import PRECISIONS
from hpcasr.bench.gpu.steps import graph
from hpcasr.kernels.cuda import softmax_ce
from hpcasr.model.blstm import Blstm
from hpcasr.model.layer import Context

AIMS = {'softmax layer and loss, both ways': 2.0, 'loss alone, both ways': 2.0}


def measure(sizes):
    """Rows: milliseconds, all as graphs; of PyTorch the better one of eager and graph."""
    theirs = load()
    for name, case in sizes.cases.items():
        for precision in PRECISIONS:
            yield from compare(theirs, name, case, precision, sizes)
    yield from algorithm(theirs, next(iter(sizes.cases.values())))


def compare(theirs, name, case, precision, sizes):
    runner = learner(case, precision)
    network, batch = runner.network, next(batches(case, fresh()[1], 1))
    runner.batch = batch
    runner.run(network, 1)
    peer = theirs.GpuPeer(network, host_params(network), batch, precision)
    laps = Clock(network.ops.device).laps
    pairs = zip(ours(network, batch), others(theirs, peer), strict=True)
    for (what, mine), work in pairs:
        runs = {'ours': of_block(laps, Recorded(network.ops, mine), sizes.steps),
                'eager': of_block(theirs.laps, work, sizes.steps),
                'graph': of_block(theirs.laps, graph(theirs, work), sizes.steps)}
        seconds = race({key: run for key, run in runs.items() if run}, (sizes.blocks + 1)//2)
        yield {'case': name, 'precision': precision, 'part': what,
               **{f'{key}_ms': milliseconds(seconds, key) for key in runs}, 'best': best(seconds, ('eager', 'graph')),
               **faster(seconds, ('eager', 'graph')), 'aim': AIMS.get(what)}


def ours(network, batch):
    """(what, work) of every part, without the copying of the batch."""
    ops, p, inputs = network.ops, network.there, network.send(batch)
    layers, last = [layer for layer in network.layers if isinstance(layer, Blstm)], network.layers[-1]
    ops.hold(p)
    frames, dim = batch.frames, last.weights(p)[0].shape[0]
    dy = uniform(ops.device, (*batch.x.shape[:2], layers[-1].dim_out))
    x = uniform(ops.device, (*batch.x.shape[:2], dim))
    logits = uniform(ops.device, (frames, network.num_targets), ops.half)
    losses, errors = ops.device.empty(frames), ops.device.empty(frames)

    def up():
        y, tape = inputs.x, []
        for layer in layers:
            y, backward = layer.forward(ops, p, y, Context())
            tape.append(backward)
        return tape

    def both():
        tape, d = up(), dy
        while tape:
            d = tape.pop()(p.g, d, need_dx=bool(tape))
    yield 'LSTM, forward', up
    yield 'LSTM, both ways', both
    yield 'softmax layer and loss, both ways', lambda: ops.head(x, *last.weights(p), inputs.targets, None,
                                                                last.weights(p.g))
    yield 'loss alone, both ways', lambda: ops.device.do(softmax_ce.softmax_ce, logits, inputs.targets.reshape(-1),
                                                         None, losses, errors, last.weights(p)[1])


def others(theirs, peer):
    """The same work of PyTorch."""
    recurrence, head = theirs.Recurrence(peer), theirs.Head(peer)
    return recurrence.forward, recurrence.both, head.both, head.cross_entropy


def algorithm(theirs, case):
    """Rows: the kernels that cuDNN chose, of the layers of LSTM in bf16."""
    runner = learner(case, 'bf16')
    batch = next(batches(case, np.random.default_rng(), 1))
    both = theirs.Recurrence(theirs.GpuPeer(runner.network, host_params(runner.network), batch, 'bf16')).both
    both()
    for name, calls, ms in theirs.kernels(both):
        yield {'kernel of PyTorch, LSTM both ways, bf16': name, 'calls': calls, 'ms': ms}
