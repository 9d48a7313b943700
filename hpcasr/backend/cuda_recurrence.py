"""How the recurrent layers of a GPU go through time: step by step, level 1, or all steps in one launch, level 2."""

import numpy as np

from hpcasr.kernels.cuda import persistent


class Recurrence:
    """Chooses, for every layer, and keeps what the blocks of a launch count one another with.

    Level 2 (kernels/cuda/persistent.py) is for products of bf16, and for a GPU that no other learner computes on: all
    blocks of a launch wait for one another, and must be on it at once.

    device     cuda_device.Gpu
    possible   whether there is a layer that can go in one launch
    """

    def __init__(self, device, half):
        self.device = device
        self.possible = half and not device.simulated and device.capability >= persistent.LEAST
        self.counting = {}

    def reach(self, comm):
        """Who else computes; called by all learners together."""
        where = comm.machines[comm.rank], self.device.bus
        if comm.allgather(where).count(where) > 1:
            self.possible = False

    def describe(self):
        return 'level 2 where it fits' if self.possible else 'level 1'

    def plan(self, T, B, H, K):
        """The persistent.Plan of a layer of K directions of H cells, for B sequences of T frames; None: level 1.

        For an H that is new it compiles: a shape may not be met first while a graph is recorded.
        """
        return persistent.plan(T, B, H, K, persistent.room(H)) if self.possible else None

    def counters(self, plan, K):
        """Zeros, which are zeros again after a launch: layers share them.

        They are never replaced, for there may be graphs that count there.
        """
        n = persistent.counters(plan, K)
        if n not in self.counting:
            self.counting[n] = self.device.zeros(n, np.uint32)
        return self.counting[n]
