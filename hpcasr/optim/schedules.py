"""The learning rate as a function of the global samples: asynchronous ranks disagree about steps, never about them."""

import math

import numpy as np


class Schedule:
    """lr_peak = lr M/lr_batch: the rate is linear in the global batch M (arXiv 2002.10502; Goyal et al. 2017)."""

    def __init__(self, config, global_batch, epoch_samples):
        self.config, self.epoch_samples = config, epoch_samples
        self.peak = config.lr*(global_batch/config.lr_batch if config.lr_batch else 1)

    def rate(self, samples):
        """The rate after `samples` samples on all ranks together."""
        raise NotImplementedError

    def observe(self, heldout_ce):
        """Called with the held-out cross-entropy at the end of every epoch."""

    def state(self):
        return {}

    def load(self, state):
        """Take up `state()`."""

    def warm(self, samples):
        """Linear from lr, or from lr_peak/10 if lr >= lr_peak, to lr_peak in `warmup` epochs; then lr_peak."""
        start = self.config.lr if self.config.lr < self.peak else self.peak/10
        epochs = samples/self.epoch_samples
        done = epochs/self.config.warmup if epochs < self.config.warmup else 1
        return start + (self.peak - start)*done


class Constant(Schedule):
    """lr_peak, from the first sample on."""

    name = 'constant'

    def rate(self, samples):
        return self.peak


class Paper(Schedule):
    """Linear warm-up, lr_peak until `hold` epochs are over, then x `decay` at that epoch's end and each one after it.

    arXiv 2002.10502: 16 epochs, of which warm-up takes 10 (warmup = hold = 10), then x 1/√2 an epoch (decay = 1/√2).
    """

    name = 'paper'

    def rate(self, samples):
        hold = math.ceil(max(self.config.hold, self.config.warmup))
        decays = max(0, samples//self.epoch_samples - hold + 1)
        return self.warm(samples)*self.config.decay**decays


class Newbob(Schedule):
    """Warm-up and lr_peak as in `paper`; halved at the end of every epoch once one gained too little (ICSI QuickNet).

    Too little: held-out cross-entropy fell by less than `newbob_threshold` of itself, or is not finite.  An epoch of
    warm-up never counts: its rate is not yet the one that could stall.
    """

    name = 'newbob'

    def __init__(self, config, global_batch, epoch_samples):
        super().__init__(config, global_batch, epoch_samples)
        self.factor, self.halving, self.last, self.epochs = 1.0, False, math.inf, 0

    def rate(self, samples):
        return self.warm(samples)*self.factor

    def observe(self, heldout_ce):
        self.epochs += 1
        enough = heldout_ce <= self.last*(1 - self.config.newbob_threshold) and math.isfinite(heldout_ce)
        self.halving = self.halving or (self.epochs > self.config.warmup and not enough)
        self.factor *= 0.5 if self.halving else 1
        self.last = heldout_ce

    def state(self):
        return {name: np.array(getattr(self, name)) for name in ('factor', 'halving', 'last', 'epochs')}

    def load(self, state):
        self.factor, self.halving = float(state['factor']), bool(state['halving'])
        self.last, self.epochs = float(state['last']), int(state['epochs'])


SCHEDULES = {c.name: c for c in (Paper, Newbob, Constant)}


def get_schedule(config, global_batch, epoch_samples):
    """The Schedule of a config.Optim; `global_batch` and `epoch_samples` count samples of all ranks."""
    return SCHEDULES[config.schedule](config, global_batch, epoch_samples)
