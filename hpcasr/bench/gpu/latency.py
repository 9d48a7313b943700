"""What a launch costs, from the host and in a graph, what a small product, and a barrier between blocks."""

from time import perf_counter

import numpy as np

from hpcasr.backend import get_backend
from hpcasr.bench.gpu.beside import Recorded
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import judged, uniform
from hpcasr.kernels.cuda import meeting, mix

NODES = 252  # as many as a step of six layers has, one after the other
GROUPS, MEMBERS, MEETINGS = 8, 16, 1000  # of blocks, as those of a layer of 512 cells
H, BATCHES = 512, (128, 256)


def measure(sizes):
    ops = get_backend('cuda', 'bf16')
    few = sizes.square < H
    x, y = (uniform(ops.device, 64) for _ in range(2))
    nodes = 3 if few else NODES
    yield {'what': 'launch from the host', 'us': 1e6*host_time(ops.device, lambda: pair(ops.device, x, y), nodes)}
    yield node(ops, 'small kernel', lambda: pair(ops.device, x, y), nodes)
    for B in BATCHES:
        yield node(ops, f'recurrent product, both directions, batch {B}', recurrent(ops.device, 3 if few else B,
                                                                                  4 if few else H), nodes)
    if not ops.device.simulated:  # which has no barriers between blocks
        yield from barrier(ops)


def pair(device, x, y):
    device.do(mix.pair, x, y)


def host_time(device, work, n):
    """Seconds that the host needs for a launch, with the device not far behind."""
    work()
    device.synchronize()
    tic = perf_counter()
    for _ in range(n):
        work()
    took = perf_counter() - tic
    device.synchronize()
    return took/n


def node(ops, what, work, nodes):
    """A row: microseconds of one of many in a graph, each after the one before."""
    def many():
        for _ in range(nodes):
            work()
    return {'what': f'{what}, in a graph', 'us': 1e6*Clock(ops.device).median(Recorded(ops, many), 10)/nodes}


def recurrent(device, B, H):
    h, W = (uniform(device, shape, half=True) for shape in ((2, B, H), (2, H, 4*H)))
    out = device.empty((2, B, 4*H))
    return lambda: device.gemm(h, W, out)


def barrier(ops):
    """Rows: whether all blocks have met as often as they should; microseconds of a meeting."""
    device = ops.device
    counters, met = device.zeros(meeting.counters(GROUPS), np.uint32), device.zeros((GROUPS, MEMBERS), np.int32)

    def meet():
        device.do(meeting.meet, MEETINGS, counters, met)
    seconds = Clock(device).median(meet, 5)
    wrong = np.abs(device.host(met) - MEETINGS).max() + device.host(counters).max()
    yield judged('barrier: all blocks have met', float(wrong), 0)
    yield {'what': f'barrier of {MEMBERS} blocks, {GROUPS} groups at once', 'us': 1e6*seconds/MEETINGS}
