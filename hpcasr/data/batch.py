"""What one training step consumes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcasr.errors import BadInput


@dataclass
class Batch:
    """B chunks of up to T frames, time first.  B may be 0: a rank that got no data still takes part in the step.

    x        [T, B, D] features; frames at and beyond a chunk's length are zero
    targets  [T, B] int32; 0 where masked
    lengths  [B] frames of each chunk
    epoch, position   place of the first chunk in the order of the epoch: the key of everything random in this batch
    fault    the BadInput for which the batch could not be read, and is empty
    """

    x: np.ndarray
    targets: np.ndarray
    lengths: np.ndarray
    epoch: int = 0
    position: int = 0
    fault: BadInput | None = None

    @property
    def samples(self):
        return len(self.lengths)

    @property
    def frames(self):
        return int(self.lengths.sum())

    def check(self):
        """Raise the fault, if there is one."""
        if self.fault:
            raise self.fault

    @cached_property
    def mask(self):
        """[T, B] bool, True where there is a frame; None if every chunk is full."""
        T = len(self.x)
        if (self.lengths == T).all():
            return None
        return np.arange(T)[:, None] < self.lengths
