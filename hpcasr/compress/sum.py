"""The sum of a vector over all learners, of which codes go over the network."""

from math import sqrt

import numpy as np

from hpcasr.compress import get_codec
from hpcasr.compress.factored import Factored
from hpcasr.compress.feedback import get_feedback
from hpcasr.compress.gathered import Gathered
from hpcasr.compress.parcel import rest, tensors
from hpcasr.compress.striped import Striped
from hpcasr.optim.clip import norm2

CARRIERS = {method: carrier for carrier in (Striped, Gathered, Factored) for method in carrier.takes}


class CompressedSum:
    """x ← Σ_l x_l, as a carrier has it in the large tensors; exactly in all else.

    start_sum   Comm's, for all else
    bad         whether, in the sum that ended last, a learner had something that was not finite: what it had of that
                tensor was left out, and the sum is not to be used
    steps       sums so far: with the place in the model they tell random numbers apart
    sent        bytes that this learner has sent for it since `told` was called last
    filled      for sums of gradients over samples: how many the step has, over those of a full step.  What is left of
                a full step and added to a small one, of which then the mean is taken, would count for many times what
                it is.  So it is x/filled that is encoded, and of which momentum is gathered
    """

    def __init__(self, comm, options, params, ops, start_sum, carrier=None, momentum=0.0):
        """options    a config.Compress
        carrier    carrier(comm, codec, tensors, feedback); None: the one that the method goes with
        momentum   of Corrected feedback; 0: Feedback
        params     float32
        """
        codec = get_codec(options, ops)
        large = [tensor for tensor in tensors(params, options.least) if codec.suits(tensor.shape)]
        self.comm, self.start_sum, self.large, self.rest = comm, start_sum, large, rest(large, params.size)
        self.carrier = (carrier or CARRIERS[options.method])(
            comm, codec, large,
            lambda momentum=momentum: get_feedback(codec, params.size, options.feedback, momentum))
        self.options, self.n, self.bad, self.steps, self.sent = options, params.size, False, 0, 0
        self.filled = 1.0

    def describe(self):
        """A line for the log."""
        n = sum(piece.size for piece in self.large)
        whole = sum(part.stop - part.start for part in self.rest)
        return (f'compress  {self.options.method}, {self.carrier.idea}; {n:,} parameters in {len(self.large)} tensors, '
                f'{whole:,} others uncompressed' + ', no error feedback'*(not self.options.feedback)
                + f', from sample {self.options.after:,} on'*(self.options.after > 0))

    def start(self, x, lo, hi):
        """Begin the sum in the large tensors, or pieces of them, that end in x[lo + 1:hi + 1]; return finish().

        Where hi is the end of x, with all that lies behind the model, it is begun in all else as well: to be called,
        and to be finished, behind all others.
        """
        before = self.comm.bytes_sent
        self.scale(x, lo, hi, 1/self.filled)
        ends = [self.carrier.start(x, lo, hi, self.steps)]
        if hi == x.size:
            ends.append(self.start_rest(x))
        self.sent += self.comm.bytes_sent - before

        def finish():
            before = self.comm.bytes_sent
            for end in ends:
                end()
            self.sent += self.comm.bytes_sent - before  # some begin only now
        return finish

    def start_rest(self, x):
        """Begin the sum in all else, in one vector; and end the step."""
        self.steps += 1
        for part in self.rest:
            self.carrier.first.carry(x, part)
        filled = self.filled
        parts = [*self.rest, slice(self.n, x.size)]
        small = np.concatenate([*(x[part] for part in parts), [self.unsound()]], dtype=x.dtype)
        end = self.start_sum(small)

        def finish():
            end()
            at = 0
            for part in parts:
                x[part], at = small[at:at + part.stop - part.start], at + part.stop - part.start
            self.scale(x, 0, x.size, filled)
            self.bad = bool(small[-1])
            self.release()
        return finish

    def unsound(self):
        """Whether something was not finite since the last call; of sums, it may be those of the step before."""
        found = False
        for feedback in self.feedbacks():
            found, feedback.unsound = found or feedback.unsound, False
        return found

    def release(self):
        """All has been finished, by this learner."""
        for feedback in self.feedbacks():
            feedback.release()

    def feedbacks(self):
        """The first and, where there is one, the second."""
        return [feedback for feedback in (self.carrier.first, self.carrier.second) if feedback]

    def scale(self, x, lo, hi, by):
        """x[lo:hi] ← by x, in all that is of the model."""
        if by != 1:
            x[lo:min(hi, self.n)] *= x.dtype.type(by)

    def correct(self, x, lo, hi):
        """x[lo:hi] ← what is sent of it where nothing is compressed."""
        self.scale(x, lo, hi, 1/self.filled)
        self.carrier.first.carry(x, slice(lo, min(hi, self.n)))
        self.scale(x, lo, hi, self.filled)

    def told(self):
        """{name: value} for the metrics of an epoch: of all learners the 2-norm of the residuals, and bytes sent here.

        Called by all learners together.
        """
        mine, self.sent = [self.sent, *(norm2(feedback.r)**2 for feedback in self.feedbacks())], 0
        sent, *squares = np.sum(self.comm.allgather(mine), axis=0).tolist()
        names = 'residual_norm', 'second_residual_norm'
        return dict(zip(names, map(sqrt, squares), strict=False)) | {'compressed_bytes': int(sent)}

    def apart(self):
        """{name: array}, not copies: what this learner alone has."""
        return self.carrier.first.state()

    def state(self):
        """{name: array} that is the same on all learners, who call it together."""
        second, warm = self.carrier.second, self.carrier.warm
        return {'compress_steps': np.array(self.steps)} | (
            {'second_residual': self.carrier.share(second.r)} if second else {}) | (
            {} if warm is None else {'warm': warm})

    def load(self, state):
        """Take up both, as far as they are there."""
        self.steps = int(state.get('compress_steps', 0))
        self.carrier.first.load(state)
        if self.carrier.second:
            self.carrier.second.r[:] = 0
        if 'second_residual' in state:
            self.take_up(state['second_residual'])
        self.warm_up(state.get('warm'))

    def warm_up(self, found):
        """Go on from what an earlier carrier has left warm; where it does not fit this one, from the beginning."""
        if self.carrier.warm is not None and found is not None and found.size == self.carrier.warm.size:
            self.carrier.warm[:] = found

    def take_up(self, left):
        """Add what was left over of sums: to what their owner has; where they have none, to what all have, evenly."""
        if self.carrier.second:
            for piece in self.carrier.owned:
                self.carrier.second.r[piece.part] += left[piece.part]
        else:
            self.carrier.first.r += left/np.float32(self.comm.size)

    def regroup(self, former):
        """Go on from what `former` learners (resume.Former) had: their sum, shared out to all; return it in words.

        What `load` has found in common stays.
        """
        told = share_out(former, self.apart(), self.comm.size)
        if former.has('residual'):
            self.regroup_common(former)
        return told

    def regroup_common(self, former):
        """Take up what is the same for all learners, where they have it in their own files."""
        if former.has('compress_steps'):
            steps = {'compress_steps': np.array(0)}
            former.average(steps)
            self.steps = int(steps['compress_steps'])
        if former.has('second_residual'):
            found = {'second_residual': np.empty(self.n, np.float32)}
            former.common(found)
            self.take_up(found['second_residual'])


def share_out(former, state, learners):
    """Add the sum of what `former` learners (resume.Former) had, {name: array} as `state`, to that of all, evenly.

    Return it in words.
    """
    if not former.has('residual'):
        return 'nothing was compressed before'
    found = {name: np.empty_like(vector) for name, vector in state.items() if former.has(name)}
    former.average(found)
    for name, theirs in found.items():
        state[name] += theirs*np.float32(former.count/learners)
    return f'what the messages of {former.count} ranks have not said yet is shared out evenly'
