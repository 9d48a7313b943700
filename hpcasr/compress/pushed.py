"""Codes of gradients go to those who serve a slice each; what comes back is theirs to say."""

import numpy as np

from hpcasr.comm.base import NO_BYTES
from hpcasr.compress.carrier import Carrier
from hpcasr.compress.parcel import of_servers, room
from hpcasr.compress.striped import add_up, encoded, nothing, owned


class Pushed(Carrier):
    """x[s] ← Σ_l decode(m_ls) on the learner alone that serves slice s; m_ls, a code of g_l + r_l, is from learner l.

    pieces   [Piece] the tensors, cut where the slices are
    first    Feedback of what this learner sends
    """

    idea = 'pushed: codes of slices to their servers'

    def __init__(self, comm, codec, tensors, feedback, bounds):
        self.comm, self.codec, self.pieces = comm, codec, list(of_servers(tensors, bounds))
        self.first = feedback()

    def start(self, x, lo, hi, step):
        """As Striped.start, for the pieces that this learner serves."""
        by_owner = owned(self.pieces, self.comm.size, lo, hi)
        if not any(by_owner):
            return nothing
        own = by_owner[self.comm.rank]
        parcels = [encoded(self.first, x, pieces, self.comm.rank, step) for pieces in by_owner]

        def fold(come):
            add_up(self.codec, come, own, [x[piece.part] for piece in own])
            return NO_BYTES
        return self.comm.start_relay(parcels, room(self.codec, own), np.zeros(self.comm.size, int), fold, None)
