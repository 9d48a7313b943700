"""Everybody gets everybody's message, and sums what they say."""

from hpcasr.compress.carrier import Carrier
from hpcasr.compress.parcel import room
from hpcasr.compress.striped import add_up, encoded, nothing


class Gathered(Carrier):
    """x ← Σ_l decode(m_l) in learner order, where m_l, a code of g_l + r_l, goes from learner l to all.

    For codes that say few entries: the sum of L of them says up to L times as many, so nothing is gained by summing on
    the way (Aji and Heafield 2017, arXiv 1704.05021; Lin et al. 2018, arXiv 1712.01887).  Entries are chosen within
    each tensor, whatever is exchanged with it.

    pieces   [Piece] the tensors
    first    Feedback of what this learner sends
    """

    takes = 'topk', 'threshold'
    idea = 'gathered: codes of all learners to all'

    def __init__(self, comm, codec, tensors, feedback):
        self.comm, self.codec, self.pieces = comm, codec, tensors
        self.first = feedback()

    def start(self, x, lo, hi, step):
        """As Striped.start."""
        pieces = [piece for piece in self.pieces if lo < piece.hi <= hi]
        if not pieces:
            return nothing
        parcel = encoded(self.first, x, pieces, self.comm.rank, step)
        return self.comm.start_gather(parcel, room(self.codec, pieces),
                                      lambda come: add_up(self.codec, come, pieces, [x[p.part] for p in pieces]))
