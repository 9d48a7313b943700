"""A vector that lies in pieces, its shards, with some of the learners, its servers."""

import numpy as np

from hpcasr.errors import BadInput


def servers(L, options):
    """S: how many of L learners are to serve an asynchronous algorithm."""
    return L if options.exchange.servers < 1 else options.exchange.servers


def require_servers(L, S):
    """Raise BadInput for more servers than learners."""
    if S > L:
        raise BadInput(f'exchange.servers = {S}: there are {L} ranks; give {L} at most, or 0 for all of them')


class Shards:
    """n entries in S shards, as even as they can be, with S of L learners, evenly spread as those of sync-ps.

    Where S > n, the empty shards and their servers are left out.

    bounds   [L + 1]; learner l has the entries bounds[l]:bounds[l + 1], none if it does not serve
    ranks    [S] the servers
    slices   [S] the entries of their shards
    order    [S] of the shards for this learner, `rank`: from its own place on, so that not all begin with the same one
    own      slice of the entries that this learner has, `size` of them
    """

    def __init__(self, n, rank, L, S):
        starts = -(-np.arange(L + 1)*S//L)  # shards that lie with the learners before
        self.bounds = starts*n//S
        self.ranks = np.flatnonzero(np.diff(self.bounds)).tolist()
        self.slices = [slice(*self.bounds[k:k + 2].tolist()) for k in self.ranks]
        self.order = sorted(range(len(self.ranks)), key=lambda s: (self.ranks[s] - rank) % L)
        self.own, self.size = slice(*self.bounds[rank:rank + 2].tolist()), int(np.diff(self.bounds)[rank])

    @property
    def largest(self):
        """Entries of the largest shard."""
        return int(np.diff(self.bounds).max())

    def gather(self, comm, own, out):
        """out ← all shards, `own` being that of this learner; called by all learners together."""
        out[self.own] = own
        comm.share_slices(out, self.bounds)

    def describe(self):
        return (f'servers   {len(self.ranks)} of {len(self.bounds) - 1} ranks: {", ".join(map(str, self.ranks[:8]))}'
                + ', ...'*(len(self.ranks) > 8))
