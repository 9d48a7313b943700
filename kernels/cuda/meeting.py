"""Blocks that do nothing but meet, again and again: what a barrier between blocks costs (barrier.py)."""

import numpy as np
from numba import cuda, int32

from hpcasr.kernels.cuda import barrier
from hpcasr.kernels.cuda.barrier import APART
from hpcasr.kernels.cuda.launch import kernel

THREADS = 256


def counters(groups):
    """How many uint32, zero before the first launch, `meet` needs; it leaves them zero."""
    return groups*APART


def meet(times, counters, met, stream=None, threads=THREADS):
    """met [groups, members] int32 ← how often each block has met those of its group: `times`.

    All blocks must be on the GPU at once, or they wait for ever.
    """
    groups, members = met.shape
    meetings((members, groups), threads, stream, np.int32(times), counters, met)


@kernel('void(i4, u4[::1], i4[:,::1])', registers=64)
def meetings(times, counters, met):
    member, group, members = cuda.blockIdx.x, cuda.blockIdx.y, cuda.gridDim.x
    seen = int32(0)
    for s in range(times):
        if s > 0:
            barrier.wait(counters, group*APART, s*members)
            seen += int32(1)
        barrier.arrive(counters, group*APART, times*members - 1)
    if cuda.threadIdx.x == 0:
        met[group, member] = seen + int32(1)
