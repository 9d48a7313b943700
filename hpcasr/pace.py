"""The time that compute takes, where an experiment makes it longer, shorter or simulated.

A real rank can sleep in place of computing, so that exchanges are timed on fewer cores than ranks, or after each layer,
so that it is slow.  For a virtual learner compute takes the time it is given, on the simulated clock.
"""

import re

import numpy as np

from hpcasr.errors import BadInput
from hpcasr.model.params import ERRORS, FRAMES, LOSS, NONFINITE, SAMPLES, count

STEP = 0.1  # seconds of a virtual learner's step unless simulate.pace says otherwise


def pace(network, comm, config):
    """`network`, whose gradient takes as long as config.simulate says.  Raises BadInput."""
    slow = Slowness(config.simulate, comm.rank, comm.size)
    step = config.simulate.pace/1000
    if comm.simulated:
        return Simulated(network, comm, slow, (step or STEP)/config.data.batch)
    if step:
        return Asleep(network, comm, slow, step/config.data.batch)
    return Slowed(network, comm, slow) if slow.slows else network


def remarks(comm, config):
    """Lines for the log: what is not real about the times of this run, or about what it learns."""
    s = config.simulate
    slow = f'; slow ranks {s.slow_rank}'*bool(s.slow_rank)
    if comm.simulated:
        return [f'clock     simulated: a step computes for {s.pace or 1000*STEP:g} ms, messages {s.latency:g} µs at '
                f'{s.bandwidth:g} GB/s{slow}']
    if s.pace:
        return [f'pace      a step sleeps {s.pace:g} ms in place of computing: nothing is learnt{slow}']
    return [f'pace      {slow[2:]}'] if slow else []


class Slowness:
    """By what factor this learner is slower in a step: around its mean, 1 unless simulate.slow_rank names it."""

    def __init__(self, config, rank, size):
        self.mean, self.jitter = slow_ranks(config.slow_rank, size).get(rank, (1.0, 0.0))
        self.rng = np.random.default_rng([config.seed, rank])

    @property
    def slows(self):
        return (self.mean, self.jitter) != (1.0, 0.0)

    def draw(self):
        """The factor of the next step."""
        return max(0.0, self.mean + self.jitter*self.rng.standard_normal()) if self.jitter else self.mean


def slow_ranks(text, size):
    """{rank: (factor, jitter)} of `R=FACTOR[,JITTER] ...`; raises BadInput."""
    slow = {}
    for part in text.split():
        match = re.fullmatch(r'(\d+)=([0-9.]+)(?:,([0-9.]+))?', part)
        try:
            rank, factor, jitter = int(match[1]), float(match[2]), float(match[3] or 0)
        except (TypeError, ValueError):
            raise BadInput(f'--slow-rank {part}: give RANK=FACTOR or RANK=FACTOR,JITTER, such as 1=2.5,0.2') from None
        if rank >= size:
            raise BadInput(f'--slow-rank {part}: there are only ranks 0 to {size - 1}')
        if factor < 1:
            raise BadInput(f'--slow-rank {part}: the factor must be at least 1; make all the other ranks slower')
        slow[rank] = factor, jitter
    return slow


class Paced:
    """A Network in all but the time of its gradient."""

    def __init__(self, network, comm, slow):
        self.network, self.comm, self.slow = network, comm, slow

    def __getattr__(self, name):
        return getattr(self.network, name)


class Simulated(Paced):
    """`seconds` pass on the learner's clock for every sample, evenly over the calls of `ready`."""

    def __init__(self, network, comm, slow, seconds):
        super().__init__(network, comm, slow)
        self.seconds = seconds

    def loss_and_grad(self, batch, ready, seed=0):
        share = self.slow.draw()*self.seconds*batch.samples/calls(self.network)

        def later(lo, hi):
            self.comm.sleep(share)
            ready(lo, hi)
        return self.network.loss_and_grad(batch, later, seed)


class Asleep(Simulated):
    """Sleeps in place of computing: the gradient is zero, and nothing is learnt."""

    def loss_and_grad(self, batch, ready, seed=0):
        share = self.slow.draw()*self.seconds*batch.samples/calls(self.network)
        fill(self.network.params, batch)
        for lo, hi in spans(self.network):
            self.comm.sleep(share)
            ready(lo, hi)
        return 0.0


class Slowed(Paced):
    """Sleeps after each layer, as long as makes the layer slower by the factor of this step."""

    def loss_and_grad(self, batch, ready, seed=0):
        more, tic = self.slow.draw() - 1, self.comm.now()

        def later(lo, hi):
            nonlocal tic
            self.comm.sleep(max(0.0, more*(self.comm.now() - tic)))
            ready(lo, hi)
            tic = self.comm.now()
        return self.network.loss_and_grad(batch, later, seed)


def calls(network):
    """How often a Network calls `ready` in one step."""
    return 2*len(network.layers)


def spans(network):
    """(lo, hi) of these calls, in order."""
    yield from [(0, 0)]*len(network.layers)
    hi = 0
    for layer in reversed(network.layers):
        lo, hi = hi, hi + count(layer.shapes)
        yield lo, hi


def fill(params, batch):
    """The slots of a batch on which nothing was computed, and a gradient of zero."""
    params.grad[:] = 0
    params.slots[FRAMES], params.slots[SAMPLES] = batch.frames, batch.samples
    params.slots[[LOSS, ERRORS, NONFINITE]] = 0
