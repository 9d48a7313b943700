"""All learners of a node change one model in shared memory, and none asks the others before."""

from contextlib import nullcontext

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.asynchronous import Asynchronous
from hpcasr.compress.takes import Takes
from hpcasr.errors import BadInput
from hpcasr.finite import finite
from hpcasr.model.params import NONFINITE

OWNER, UPDATES = 0, 0  # the learner with whom the model lies; its counter of updates


class Hogwild(Asynchronous):
    """w ← w − (a/L) · g_l(w as it was read)/n_l,  entry by entry, without locks.

    Recht, Re, Wright and Niu 2011, arXiv 1106.5730.  What is added is the step of the learner's own optimizer, so
    momentum stays with its learner; an update covers the samples of one learner, hence a/L.  Every addition of an entry
    is atomic, so none is lost; but who reads the model may find some entries before the update of another learner, and
    some after it.  Therefore no two runs are alike.  One that is recorded or replayed takes turns: a learner adds its
    update and reads the model for its next step while it holds a lock.

    model   Window of w, all of it with learner OWNER
    x       w as this learner has read it for its next step
    delta   what is added to w
    seen    updates of w, those that x is sure to have

    The staleness of an update is how many others have been finished since this learner began to read.
    """

    name = 'hogwild'
    own_state = True  # the model is one, each learner has its momentum
    distance = None
    about = About(
        family='shared memory',
        rule='w ← w − (a/L) · g_l(w as it was read), all learners at once, without locks',
        cites='Recht et al. 2011, arXiv 1106.5730',
        exchanges='the model, read and added to in the memory of the node',
        bytes_text='2V',
        bytes=lambda V, L, options: 2*V*(L > 1),
        messages_text='2',
        messages=lambda L, options: 2*(L > 1),
        options=('exchange.assign', 'exchange.meet'),
        use='ranks of unequal speed on one machine',
        avoid='several machines, which share no memory; a run that must be the same again, unless it is recorded')
    compression = Takes(
        why='updates one model in shared memory and sends nothing',
        instead='leave --compress out')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        nodes = len(set(comm.nodes))
        if nodes > 1:
            raise BadInput(f'--algo=hogwild: the ranks are on {nodes} nodes, which share no memory; start them on one, '
                           'or use async-decentralized or hierarchical')

    def describe(self):
        return ['order     updates take turns under a lock, as they are recorded or replayed']*self.journal.ordered

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        mine = params.size if self.comm.rank == OWNER else 0
        self.model = self.window(self.comm, mine, params.dtype, counters=1)
        self.delta = np.empty_like(params.data)
        self.publish(params.data)

    def publish(self, x):
        """w ← x, before anybody else looks at it."""
        self.model.own[:] = x[:self.model.own.size]
        self.model.sync()
        self.seen = self.model.read(OWNER, UPDATES)

    def exchange(self, x, g, lr):
        sound = self.find_step(g, lr/self.comm.size)
        g[x.size + NONFINITE] = not sound
        with self.turn():
            if sound:
                self.model.add(OWNER, self.delta)
            self.count(sound)
            self.model.get(OWNER, x)

    def find_step(self, g, lr):
        """delta ← what the optimizer would add to any model; whether it is finite."""
        self.delta[:] = 0  # the optimizers look at no model, so nothing is lost by rounding
        self.update(self.delta, g, lr)
        return not g[self.delta.size + NONFINITE] and finite(self.delta)

    def turn(self):
        """A context in which nobody else changes the model, if the order of changes matters."""
        return self.lock(self.model, [OWNER]) if self.journal.ordered else nullcontext()

    def count(self, sound):
        """Count the update.  Before w is read: what is added in between is missed by `seen` rather than by x."""
        before = self.model.fetch_add(OWNER, UPDATES, int(sound))
        if sound:
            self.staleness.add(before - self.seen)
        self.seen = before + sound

    def refresh(self, x):
        self.model.get(OWNER, x)
        self.seen = self.model.read(OWNER, UPDATES)

    def load(self, state):
        super().load(state)
        self.publish(self.params.data)

    def regroup(self, former):
        told = super().regroup(former)
        self.publish(self.params.data)
        return told
