"""Error feedback, the only one there is: what one message does not say is added to what the next one is to say."""

import math

import numpy as np

from hpcasr.comm.pool import Pool
from hpcasr.compress.parcel import padded


class Feedback:
    """v = g + r;  m = code of v;  r ← v − decode(m)  (Seide et al. 2014; Karimireddy et al. 2019, arXiv 1901.09847).

    r        [n] the residual, of all entries of the model; only those that were encoded here are ever other than zero
    on       False: r is what the last message did not say, and is forgotten
    unsound  a vector was not finite: its message says zero, and its residual stays; cleared by whoever has told others
    """

    def __init__(self, codec, n, on=True):
        self.codec, self.on, self.r, self.unsound = codec, on, np.zeros(n, np.float32), False
        self.pool, self.lent = Pool(), []

    def parcel(self, vectors, pieces, who, step):
        """[bytes] messages of `vectors`, one after the other, each beginning at a multiple of 8 bytes; until `release`.

        pieces   where in the model each of them lies;  who, step: see Codec.encode
        """
        sizes = [self.codec.size(len(v)) for v in vectors]
        parcel, at = self.pool.take(sum(map(padded, sizes)), np.uint8), 0
        self.lent.append(parcel)
        for v, piece, size in zip(vectors, pieces, sizes, strict=True):
            message, place = parcel[at:at + size], (who, step, piece.lo)
            if finite(v):
                self.encode(v, piece.part, message, place)
            else:
                self.silence(len(v), message, place)
            end = at + self.codec.length(message)
            at += padded(end - at)
            parcel[end:at] = 0
        return parcel[:at]

    def release(self):
        """All parcels have been sent: their memory is used again."""
        for parcel in self.lent:
            self.pool.give(parcel)
        self.lent = []

    def encode(self, g, part, message, place):
        r = self.r[part]
        if not self.on:
            r[:] = 0
        self.codec.encode(g, r, message, place)

    def silence(self, n, message, place):
        """message ← zeros."""
        self.unsound, zeros = True, np.zeros((2, n), np.float32)
        self.codec.encode(*zeros, message, place)

    def carry(self, x, part):
        """x[part] ← what is sent of it where it goes uncompressed: itself."""

    def state(self):
        """{name: array}, not copies; to be carried over to other learners by their sum."""
        return {'residual': self.r}

    def load(self, state):
        """Take up what is there of a state."""
        for name, vector in self.state().items():
            vector[:] = state.get(name, 0)


class Corrected(Feedback):
    """u ← μ u + g;  v = u + r;  m = code of v;  r ← v − decode(m).

    Momentum correction of sparse codes (Lin et al. 2018, arXiv 1712.01887, section 3.1): the sum of all that is sent of
    an entry is what momentum would have made of it, however late it is sent.  The optimizer has no momentum then.
    Their factor masking, u ← 0 where v is sent, is left out: whoever sends everything would have no momentum.

    u   [n] the momentum of this learner's gradients
    """

    def __init__(self, codec, n, on, momentum):
        super().__init__(codec, n, on)
        self.momentum, self.u = np.float32(momentum), np.zeros(n, np.float32)

    def encode(self, g, part, message, place):
        super().encode(self.gather(g, part), part, message, place)

    def carry(self, x, part):
        x[part] = self.gather(x[part], part)

    def gather(self, g, part):
        """u ← μ u + g; return it."""
        u = self.u[part]
        u *= self.momentum
        u += g
        return u

    def state(self):
        return super().state() | {'momentum': self.u}


def get_feedback(codec, n, on, momentum):
    """Corrected where there is momentum to correct for, else Feedback."""
    return Corrected(codec, n, on, momentum) if momentum else Feedback(codec, n, on)


@np.errstate(over='ignore', invalid='ignore')
def finite(x):
    """Whether all entries are."""
    return math.isfinite(float(x @ x)) or bool(np.isfinite(x).all())  # squares may overflow
