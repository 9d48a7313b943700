"""A training step of ours beside PyTorch's, on the same weights and data, in turn in the same process."""

from contextlib import contextmanager

from hpcasr.bench.gpu.beside import best, faster, floor, host_params, load, milliseconds, of_block, race
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import away, fresh, judged
from hpcasr.bench.gpu.exact import batches, learner
from hpcasr.bench.gpu.machine import copy_speed, product_speed
from hpcasr.bench.gpu.sections import BOUNDS, PRECISIONS
from hpcasr.model.params import FRAMES, LOSS

AIMS = {('bf16', 128): 1.3, ('bf16', 256): 1.2, ('tf32', 128): 1.1, ('tf32', 256): 1.1}  # of swb2000
SAME, HALVES = ('eager', 'graph'), ('halves eager', 'halves graph')
NEAR = 5  # times the bound: PyTorch rounds elsewhere than we do, and as much


def measure(sizes):
    """Rows: the loss of both, then milliseconds of a step.

    ours: with the batch on the GPU, as PyTorch's is; whole: as training does it, which copies the batch there.  Both
    bring the loss back.  halves: a PyTorch module all in bf16, which learns less well; ratio is without it.
    """
    theirs = load()
    yield theirs.describe()
    peaks = {precision: product_speed(precision, sizes) for precision in PRECISIONS}
    for precision in PRECISIONS:
        for name, case in sizes.cases.items():
            yield from duel(theirs, name, case, precision, peaks[precision], sizes)


def duel(theirs, name, case, precision, peak, sizes):
    ours, laps = learner(case, precision), theirs.laps
    ours.batch = next(batches(case, fresh()[1], 1))
    kinds = {'': precision} | ({'halves ': 'bf16 weights'} if precision == 'bf16' else {})
    peers = {prefix: theirs.GpuPeer(ours.network, host_params(ours.network), ours.batch, kind)
             for prefix, kind in kinds.items()}
    yield from same(f'{name}, {precision}', ours, peers, precision)
    runs = {f'{prefix}eager': of_block(laps, peer.step, sizes.steps) for prefix, peer in peers.items()}
    runs |= {f'{prefix}graph': of_block(laps, graph(theirs, peer.step), sizes.steps) for prefix, peer in peers.items()}
    runs |= {'whole': whole(ours, sizes.steps), 'ours': there(ours, sizes.steps)}
    seconds = race({key: run for key, run in runs.items() if run}, sizes.blocks)
    yield row(name, case, precision, ours.network, seconds, peak, copy_speed(ours.network.ops.device, sizes))


def same(what, ours, peers, precision):
    """Rows: how far the loss of every peer is from ours, after a step of each."""
    ours.run(ours.network, 1)
    slots = ours.network.params.slots
    loss = slots[LOSS]/slots[FRAMES]
    for prefix, peer in peers.items():
        peer.step()
        yield judged(f'{what}, loss of PyTorch {prefix}'.strip(), away(peer.loss(), loss), NEAR*BOUNDS[precision])


def graph(theirs, work):
    """As torch_gpu.graph; what cannot be captured is timed without."""
    try:
        return theirs.graph(work)
    except RuntimeError:
        return None


def whole(ours, steps):
    """Seconds of a step of ours, as training takes it."""
    clock = Clock(ours.network.ops.device)
    return lambda: clock.laps(lambda: ours.run(ours.network, steps), 1)[0]/steps


def there(ours, steps):
    """The same with the batch on the GPU already."""
    work = whole(ours, steps)

    def block():
        with loaded(ours.network, ours.batch):
            return work()
    return block


@contextmanager
def loaded(network, batch):
    """Meanwhile this batch is not copied again."""
    inputs = network.send(batch)
    inputs.load = lambda batch: None
    try:
        yield
    finally:
        del inputs.load


def row(name, case, precision, network, seconds, peak, bandwidth):
    least = floor(network, case.shape.frames, precision, peak, bandwidth)
    ms = milliseconds(seconds, 'ours')
    return {'case': name, 'precision': precision, 'ours_ms': ms, 'whole_ms': milliseconds(seconds, 'whole'),
            **{f'{key.replace(" ", "_")}_ms': milliseconds(seconds, key) for key in (*SAME, *HALVES)},
            'best': best(seconds, SAME), **faster(seconds, SAME), 'whole': faster(seconds, SAME, 'whole')['ratio'],
            'to_halves': faster(seconds, HALVES)['ratio'], 'aim': aim(name, precision),
            'floor_ms': 1e3*least, 'over_floor': ms/least/1e3, 'samples_per_second': 1e3*case.batch/ms}


def aim(name, precision):
    return next((value for (of, batch), value in AIMS.items() if (of, f'swb2000 x {batch}') == (precision, name)), None)
