"""How many learners may hold a model at a time, so that none of them pushes to one that is too far ahead."""


class Gate:
    """Nobody waits for anybody."""

    def enter(self, pushes):
        """Wait until this learner may pull a model from which it will push so often."""

    def pushed(self):
        """One of these pushes has arrived at all shards."""

    def leave(self):
        """The rest of them will not come."""


class BoundedGate(Gate):
    """At most `most` updates of a shard lie between the pull of a learner and each of its pushes.

    Stale synchronous parallel in versions (Ho et al. 2013, NIPS).  Learner 0 keeps V, the pushes so far of all, and of
    each learner V as it was before its pull, and the pushes that are to come from it.  In the order in which they ask,
    learners may pull when nobody else has pushes to come, or, with o the one of those who pulled first, when

        V − v_o + (all pushes to come) + (own pushes) − 1 ≤ most.

    Who may is entered before it pulls from any shard; a push is counted when all shards have it.

    Why that suffices: let A be the updates of a shard between the pull and a push of learner r.  None was counted when
    r was entered, or the pull would have found it.  Let j be the learner of A who was entered last, at a time T.  If
    that was after r, then r had pushes to come at T, so v_o ≤ v_r; each update in A either is one of the V − v_r
    counted since, or was to come at T, or is one of j's own; the push of r itself was to come, too, and is not in A.
    So |A| ≤ V − v_r + (to come) − 1 + (own of j) ≤ most.  Else nobody of A was entered after r: all of A were to come
    when r was, or are earlier ones of r itself, and |A| ≤ (to come) + (own) − 1 ≤ most.

    Why nobody waits for ever: who waits has no pushes to come and holds no lock of a shard.  So those who have go on,
    and push, or come to a meeting point and leave; either changes V, and who waits looks again.  When nobody is left
    the first in the queue may pull.
    """

    def __init__(self, comm, most):
        self.comm, self.most = comm, most
        self.queue = comm.window(0, 'q')  # only its lock is used: whoever is awaited never asks for it
        self.board = comm.window(2*comm.size, 'q', counters=1)  # of learner 0: (v, pushes to come) of each; V
        self.all = self.board.own.copy()
        self.mine = self.all[:2].copy()

    def enter(self, pushes):
        with self.queue.lock([0]):
            while (seen := self.refused(pushes)) is not None:
                self.board.wait(0, 0, seen + 1, 'a push by one of those who have pulled')

    def refused(self, pushes):
        """None, and this learner is entered; or V, and it is too early."""
        with self.board.lock([0]):
            V = self.board.read(0, 0)
            self.board.get(0, self.all)
            v, to_come = self.all.reshape(-1, 2).T
            if to_come.any() and V - v[to_come > 0].min() + to_come.sum() + pushes - 1 > self.most:
                return V
            self.enter_mine(V, pushes)

    def pushed(self):
        self.count(1)

    def leave(self):
        """As if they had come: those who pulled meanwhile allowed for them."""
        if self.mine[1]:
            self.count(int(self.mine[1]))

    def count(self, pushes):
        with self.board.lock([0]):
            self.enter_mine(self.mine[0], self.mine[1] - pushes)
            self.board.fetch_add(0, 0, pushes)

    def enter_mine(self, v, pushes):
        self.mine[:] = v, pushes
        self.board.put(0, self.mine, 2*self.comm.rank)
