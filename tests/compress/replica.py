"""Compressed sync-allreduce as one process would do it, in plain NumPy: every message of every learner, one by one."""

from itertools import pairwise

import numpy as np

from hpcasr.backend import get_backend
from hpcasr.compress import get_codec
from hpcasr.config import Config
from hpcasr.model.params import FRAMES
from hpcasr.optim import get_optimizer

GATHERED = 'topk', 'threshold'


class Replica:
    """L learners of `problem`; first [L, n], second [n] the residuals."""

    def __init__(self, problem, L, options):
        self.config = Config().with_values(options, 'test')
        self.learners = [problem.learner(rank, L, 'float32') for rank in range(L)]
        p, self.L = self.learners[0].params, L
        self.w, self.n, self.t = p.data.copy(), p.size, 0
        ops = get_backend('reference')
        self.codec = get_codec(self.config.compress, ops)
        self.optimizer = get_optimizer(self.config.optim, p.size, 'float32', ops)
        self.first, self.second = np.zeros((L, p.size), np.float32), np.zeros(p.size, np.float32)
        least = self.config.compress.least
        self.tensors = [span for name, span in p.spans.items()
                        if not least or (len(p.shapes[name]) == 2 and span[1] - span[0] >= least)]

    def step(self, lr):
        G = self.gradients()
        total = in_order(G)
        for lo, hi in self.tensors:
            if self.config.compress.method in GATHERED:
                total[lo:hi] = self.gathered(G, lo, hi)
            else:
                for a, b in self.slices(lo, hi):
                    total[a:b] = self.striped(G, a, b)
        self.optimizer(self.w, total[:self.n]/max(total[self.n + FRAMES], np.float32(1)), lr)
        self.t += 1
        return self.w.copy()

    def gradients(self):
        for learner in self.learners:
            learner.params.data[:] = self.w
            learner.compute(self.t)
        return [learner.params.gradient.copy() for learner in self.learners]

    def slices(self, lo, hi):
        """Of every owner: whole blocks, as even as they can be."""
        blocks = -(-(hi - lo)//self.codec.every)
        ends = [min(lo + blocks*k//self.L*self.codec.every, hi) for k in range(self.L + 1)]
        return [(a, b) for a, b in pairwise(ends) if b > a]

    def said(self, v, residual, who, at):
        """What the message of v says, and what it leaves in `residual`."""
        message, out = np.zeros(self.codec.size(len(v)), np.uint8), np.empty_like(v)
        self.codec.encode(v, residual, message, (who, self.t, at))
        self.codec.decode(message, out)
        return out

    def gathered(self, G, lo, hi):
        return in_order([self.said(g[lo:hi], self.first[k, lo:hi], k, lo) for k, g in enumerate(G)])

    def striped(self, G, lo, hi):
        return self.said(self.gathered(G, lo, hi), self.second[lo:hi], -1, lo)


def in_order(vectors):
    total = vectors[0].copy()
    for v in vectors[1:]:
        total += v
    return total
