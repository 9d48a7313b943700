"""Every learner sums the slices it owns of what all of them have encoded, and encodes the sums."""

import numpy as np

from hpcasr.comm.pool import Pool
from hpcasr.compress.carrier import Carrier
from hpcasr.compress.parcel import messages, room, striped

OWNER = -1  # who encodes a sum, for Codec.encode: the same, whoever it is


class Striped(Carrier):
    """y_k = Σ_l decode(m_lk) in learner order; x_k = decode(n_k), of slice k of every tensor.

    m_lk, a code of g_l + r_l there, goes from learner l to learner k; n_k, a code of y_k + s_k, from there to all.

    The two-stage reduction of 1-bit SGD (Seide et al. 2014, Interspeech), in as many bytes as a ring's allreduce has
    of codes.  A learner's own slice is encoded as well: results do not depend on who owns what.

    pieces   [Piece] slices of the tensors, in their order;  owned  those of this learner
    first    Feedback of what this learner sends;  second  of the sums it owns
    """

    takes = 'fp16', 'bf16', 'onebit', 'qsgd'
    idea = 'striped: codes of slices to their owners, and of their sums back'

    def __init__(self, comm, codec, tensors, feedback):
        """feedback(momentum=...) -> a Feedback, which gathers momentum as configured, if nothing else is said"""
        self.comm, self.codec = comm, codec
        self.pieces = list(striped(tensors, comm.size, codec.every))
        self.owned = [piece for piece in self.pieces if piece.owner == comm.rank]
        self.first, self.second, self.pool = feedback(), feedback(momentum=0.0), Pool()  # of sums it would be twice

    def start(self, x, lo, hi, step):
        """Begin x ← Σ_l x_l, as the codec has it, in the pieces that end in lo+1 .. hi; return finish()."""
        by_owner = owned(self.pieces, self.comm.size, lo, hi)
        if not any(by_owner):
            return nothing
        parcels = [encoded(self.first, x, pieces, self.comm.rank, step) for pieces in by_owner]
        rooms, own = [room(self.codec, pieces) for pieces in by_owner], by_owner[self.comm.rank]
        return self.comm.start_relay(parcels, rooms[self.comm.rank], rooms, lambda come: self.fold(come, own, step),
                                     lambda answers: self.deliver(answers, by_owner, x))

    def fold(self, parcels, pieces, step):
        """The parcel of the sums of what came from all learners."""
        totals = [self.pool.take(piece.size, np.float32) for piece in pieces]
        add_up(self.codec, parcels, pieces, totals)
        answer = self.second.parcel(totals, pieces, OWNER, step)
        for total in totals:
            self.pool.give(total)
        return answer

    def deliver(self, answers, by_owner, x):
        """x ← what the owners say."""
        for parcel, pieces in zip(answers, by_owner, strict=True):
            for piece, message in zip(pieces, messages(self.codec, parcel, pieces), strict=True):
                self.codec.decode(message, x[piece.part])

    def share(self, r):
        """A copy of `r` in which every piece is as its owner has it; called by all learners together."""
        pieces, L = sorted(self.pieces, key=lambda p: p.owner), self.comm.size
        sizes = [sum(p.size for p in pieces if p.owner == k) for k in range(L)]
        packed, whole, at = np.concatenate([r[:0], *(r[p.part] for p in pieces)]), np.zeros_like(r), 0
        self.comm.share_slices(packed, np.cumsum([0, *sizes]))
        for p in pieces:
            whole[p.part], at = packed[at:at + p.size], at + p.size
        return whole


def nothing():
    """finish() where nothing was begun."""


def owned(pieces, owners, lo, hi):
    """[[Piece]] of every owner: those that end in lo+1 .. hi."""
    found = [[] for _ in range(owners)]
    for piece in pieces:
        if lo < piece.hi <= hi:
            found[piece.owner].append(piece)
    return found


def encoded(feedback, x, pieces, who, step):
    """The parcel of `pieces` of x."""
    return feedback.parcel([x[p.part] for p in pieces], pieces, who, step)


def add_up(codec, parcels, pieces, totals):
    """Each of `totals` ← the sum of what the `parcels` say of its piece, in their order."""
    for k, parcel in enumerate(parcels):
        for total, message in zip(totals, messages(codec, parcel, pieces), strict=True):
            (codec.add if k else codec.decode)(message, total)
