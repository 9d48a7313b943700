"""The least time of a step: for every operation its arithmetic or its memory, at the best speeds of this core."""

from time import perf_counter

import numpy as np

BYTES = 4  # of a float32
COPY = 1 << 24  # entries: 64 MB, beyond the L3 cache
SHAPES = (768, 512, 64), (384, 256, 256), (192, 512, 256)  # products, M, K, N, of half a millisecond in the caches


def operations(network, frames):
    """[(floating-point operations, bytes)] of a step: every array that is read or written moves once.

    A product x W = y is three: y, dW and dx, but no dx of the features.  What can be done to numbers that are in
    registers costs nothing: bias, gates.
    """
    first = network.layers[0].shapes
    for name, shape in network.params.shapes.items():
        if len(shape) == 2:  # a bias is no product
            K, N = shape
            product = 2*frames*K*N, BYTES*(frames*K + K*N + frames*N)
            yield from [product]*(2 if name in first and not name.endswith('.Wh') else 3)
    for layer in network.layers:
        if not layer.shapes:  # an activation: y of x, dx of dy and y
            yield 0, BYTES*5*frames*layer.dim_out
    yield 0, BYTES*2*frames*network.num_targets  # softmax: d logits over logits
    yield 0, BYTES*3*network.params.size  # update: x, gradient, x


def floor(network, frames, peak, bandwidth):
    """Seconds; peak [1/s] of operations, bandwidth [bytes/s]."""
    return sum(max(flops/peak, nbytes/bandwidth) for flops, nbytes in operations(network, frames))


class Machine:
    """The best speeds seen of one core: peak [operations/s] of `ops`' products, bandwidth [bytes/s] of a copy.

    Bytes of a copy are those read and those written.
    """

    def __init__(self, ops):
        rng = np.random.default_rng(0)
        self.ops, self.peak, self.bandwidth = ops, 0.0, 0.0
        self.copy = np.ones(COPY, np.float32), np.ones(COPY, np.float32)
        self.factors = [(rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32),
                         np.empty((M, N), np.float32)) for M, K, N in SHAPES]

    def look(self, repeats=10):
        """Measure again: a core that others slow down shows its speed only now and then."""
        for _ in range(repeats):
            for A, B, out in self.factors*4:
                self.peak = max(self.peak, 2*A.size*B.shape[1]/seconds(self.ops.gemm, A, B, out))
            self.bandwidth = max(self.bandwidth, 2*self.copy[0].nbytes/seconds(np.copyto, *self.copy))


def seconds(work, *args):
    tic = perf_counter()
    work(*args)
    return perf_counter() - tic
