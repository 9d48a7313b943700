"""What every distributed-SGD algorithm is: an exchange and an update, in the order that distinguishes it."""

import numpy as np

from hpcasr.compress.sum import CompressedSum
from hpcasr.compress.takes import Takes
from hpcasr.model.params import ERRORS, FRAMES, LOSS, NONFINITE
from hpcasr.optim.clip import clip


def nothing(part):
    """What happens to a part of the model beside its update."""


class Algorithm:
    """How the replicas of the model agree.  `step` reads like the update rule of the paper.

    x  the parameters, a flat vector;  g  their gradient, summed over the frames of this learner's batch, and behind it
    the trailing slots (model/params.py), which ride on the same reduction;  lr  the learning rate a.
    """

    name = None
    asynchronous = False  # True: learners step at their own pace between meeting points
    resident = False  # True: x and g may be vectors on a GPU, and all of the algorithm's own are where they are
    own_state = False  # True: every learner's state differs, and each writes its own into a checkpoint
    placed_by = ('ranks',)  # the versions (run.Run) that say which learner has which of these states
    behind = 0  # steps, the last ones, of which the sums have not been told yet
    hopeless = False  # True: no later update would count, as all learners have just heard
    compression = Takes()  # what it does with --compress
    compressed = None  # compress.sum.CompressedSum, where something is
    samples = 0  # global ones that were handed out before this step
    filled = 1.0  # samples of this step, over those of any step but the last of an epoch
    distance = None  # √(mean_l ‖w_l − w̄‖²) as it was last seen; None where all learners hold the same w

    def __init__(self, comm, config):
        self.comm, self.config = comm, config
        self.in_a_row = 0  # updates that this learner has left out since the last one that was finite
        self.compression.require(self.name, config)
        self.keeper = comm.rank  # the learner whose state this one shares, and who writes it
        sums = {'ordered': comm.start_sum, 'mpi': comm.start_library_sum}
        self.start_sum = sums[config.exchange.reduce]  # of vectors as long as the model

    def describe(self):
        """Lines for the log: what the user should know of the exchange."""
        return []

    def allocate(self, n, dtype):
        """Memory for the n parameters; None: any will do."""

    def allocate_gradient(self, n, dtype):
        """Memory for the gradient and its slots, n entries; None: any will do."""

    def bind(self, params, optimizer):
        """Take the model's Params and the `optimizer` before the first step."""
        self.params, self.optimizer = params, optimizer

    def compress(self, carrier=None):
        """Make `compressed`, if the configuration says so; for `bind`."""
        options, momentum = self.config.compress, 0.0
        if options.correction:  # then it lives with who sends
            momentum, self.optimizer.momentum = self.optimizer.momentum, 0.0
        if options.method != 'none':
            self.compressed = CompressedSum(self.comm, options, self.params, self.optimizer.ops, self.start_sum,
                                            carrier, momentum)

    @property
    def compressing(self):
        """Whether this step's exchange is compressed."""
        return self.compressed is not None and self.samples >= self.config.compress.after

    def begin(self, x):
        """Called before the forward pass: start whatever overlaps with compute."""

    def ready(self, lo, hi):
        """Called between layers; g[lo:hi] is final (lo == hi in the forward pass)."""
        self.comm.progress()

    def step(self, x, g, lr):
        """One exchange and one update, in place.

        Afterwards the slots of g hold sums over all learners, the same bits on each: of this step, or, where learners
        do not meet in every step, of several earlier ones, and zeros in between.
        """
        raise NotImplementedError

    def arrive(self, x):
        """This learner has taken its last step before a meeting point: from here on nobody may wait for more of it.

        Learners that step at their own pace call it each in its own time, and at the latest in `settle`.
        """

    def skipped(self, slots):
        """How many updates were left out, as they were not finite, of the steps that `slots`, as after `step` or
        `settle`, tell of; the same on all learners."""
        return int(slots[NONFINITE] > 0)

    def settle(self, x, slots):
        """slots ← the sums over all learners that no step has told yet.  All of them call it after the same step."""
        slots[:] = 0

    def consensus(self, x):
        """The parameters to evaluate and save."""
        return x

    def close(self, x):
        """Finish every exchange under way."""

    def told(self):
        """{name: value} for the metrics of an epoch, on all learners alike; called by all together."""
        return self.compressed.told() if self.compressed else {}

    def state(self):
        """{name: array} that, with the parameters and what is `apart`, makes the next steps the same bits.

        All learners call it after the same step, and after `settle`.
        """
        return self.optimizer.state() | (self.compressed.state() if self.compressed else {})

    def apart(self):
        """{name: array}, not copies: what this learner alone has, also where the state is the same for all of them."""
        return self.compressed.apart() if self.compressed else {}

    def load(self, state):
        """Take up a state, with what is apart if it is there."""
        self.optimizer.load(state)
        if self.compressed:
            self.compressed.load(state)

    def regroup(self, former):
        """Go on from the checkpoint of `former` learners (resume.Former), of another number or on other nodes.

        The parameters hold their consensus already, and what all learners share has been loaded.  Return what has
        become of their states, in words.  All learners call it together.
        """
        state = self.optimizer.state()
        former.average(state)
        self.optimizer.load(state)
        return (f'every rank begins with the consensus of {former.count} saved models and the mean of their optimizer '
                'states')

    def update(self, x, g, lr, before=nothing, after=nothing):
        """x ← optimizer(x, mean gradient, lr), in place.  A gradient that is not finite changes nothing, and its
        frames are not counted: they have taught nobody anything, and their loss may be any.

        before(part), after(part)   called for each part of x, a slice, just before and after its update, while it is in
                                    the cache; they may change x in it
        """
        self.descend(x, g[:x.size], g[x.size:], lr, 0, before, after)

    @np.errstate(over='ignore', invalid='ignore')  # a model that diverged is seen by its loss
    def descend(self, x, g, slots, lr, at, before=nothing, after=nothing):
        """As update, for x and g that begin at entry `at` of the model."""
        sound, frames = not slots[NONFINITE], max(slots[FRAMES], 1)
        if sound and self.config.optim.clip:
            np.divide(g, frames, out=g)
            self.clip(g)
            frames = 1
        if sound:
            self.optimizer.begin()
        for part in parts(x.size, self.optimizer.ops.block):
            before(part)
            if sound:
                np.divide(g[part], frames, out=g[part])
                self.optimizer.part(x[part], g[part], lr, at + part.start)
            after(part)
        self.in_a_row = 0 if sound else self.in_a_row + 1
        if not sound:
            slots[[FRAMES, LOSS, ERRORS]] = 0

    def clip(self, g):
        """g ← g, no longer than the configuration says."""
        clip(g, self.config.optim.clip)


def parts(n, block):
    """Slices of `block` entries that cover n."""
    return (slice(lo, min(lo + block, n)) for lo in range(0, n, block))
