"""What is common to all that is timed beside PyTorch: recorded work, blocks in turn, the floor."""

import numpy as np

from hpcasr.backend.cuda_graphs import Graphs
from hpcasr.bench.floor import operations
from hpcasr.bench.paired import order, ratio
from hpcasr.errors import BadInput
from hpcasr.model.network import step
from hpcasr.model.params import Params

WARMUP = 1  # blocks: compiled, recorded and launched before


def load():
    """The module that knows PyTorch on GPUs.  Raises BadInput where there is none."""
    try:
        from hpcasr.bench import torch_gpu
    except ImportError as e:
        raise BadInput(f'PyTorch cannot be loaded ({str(e).splitlines()[0]}); nothing to compare with') from None
    return torch_gpu


def host_params(network):
    """The Params of a network on the device, on the host."""
    p = network.params
    return Params(p.shapes, 'float32', network.ops.host(p.data))


class Recorded:
    """work() on a device: the first time it is done, then it is recorded as a graph, which is launched from then on."""

    def __init__(self, ops, work):
        self.ops, self.work = ops, work
        self.graphs = Graphs(ops.device, ops.arena, True)

    def __call__(self):
        self.graphs.run('work', self.perform, lambda: None)

    def perform(self, cut):
        with step(self.ops):
            self.work()
            cut()


def race(runs, blocks):
    """{name: seconds [blocks]} of {name: seconds of a block()}, in turn, in an order that is drawn for each turn."""
    names, found = list(runs), np.empty((WARMUP + blocks, len(runs)))
    for turn in range(WARMUP + blocks):
        for k in order(len(names), turn):
            found[turn, k] = runs[names[k]]()
    return dict(zip(names, found[WARMUP:].T, strict=True))


def of_block(laps, work, steps):
    """Seconds of a step, of so many at a time, as laps(work, n) times them; None where there is no such work."""
    def again():
        for _ in range(steps):
            work()
    return work and (lambda: laps(again, 1)[0]/steps)


def best(seconds, names):
    """That of the names which took least, median."""
    return min((name for name in names if name in seconds), key=lambda name: np.median(seconds[name]))


def milliseconds(seconds, name):
    return 1e3*float(np.median(seconds[name])) if name in seconds else None


def faster(seconds, names, ours='ours'):
    """{ratio, low, high} of the best of `names` over ours; None where there is none."""
    names = [name for name in names if name in seconds]
    return ratio(seconds[best(seconds, names)], seconds[ours]) if names else dict.fromkeys(('ratio', 'low', 'high'))


def floor(network, frames, precision, peak, bandwidth):
    """Seconds of a step if every operation took its arithmetic or its memory alone; each array is moved once.

    In bf16 as if all but the update moved half as many bytes, which is a little less than must be.
    """
    *work, update = operations(network, frames)
    share = 0.5 if precision == 'bf16' else 1
    return sum(max(flops/peak, share*nbytes/bandwidth) for flops, nbytes in work) + update[1]/bandwidth
