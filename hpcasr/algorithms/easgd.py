"""Learners go their own ways, each on a spring to a centre that all of them pull along."""

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.asynchronous import Asynchronous
from hpcasr.algorithms.base import parts
from hpcasr.algorithms.replicas import BLOCK, Replicas
from hpcasr.algorithms.shards import Shards, require_servers, servers
from hpcasr.compress.takes import Takes
from hpcasr.errors import BadInput
from hpcasr.finite import finite
from hpcasr.model.params import NONFINITE


def sent(L, options):
    """(V, messages) that the learner with the least of the centre sends in an exchange."""
    if options.exchange.elastic_update == 'sync':
        return 2*(L - 1)/L, 4*(L - 1)
    S = servers(L, options)
    return 2 - 2*(S == L)/S, 2*(S - (S == L))


class Easgd(Replicas):
    """w_l ← w_l − a · g_l(w_l)/n_l;  after every K-th step  d = α (w_l − c);  w_l ← w_l − d;  c ← c + d.

    Elastic averaging: Zhang, Choromanska and LeCun 2015, arXiv 1412.6651.  K is exchange.period, α is exchange.elastic.
    Both models move by the same d, so what one loses the other gains.  Momentum stays with its learner.  The centre c
    is what is evaluated and saved; it never takes in a model that is not finite.

    This is one of FORMS, as exchange.elastic_update says.

    alpha        α
    pulls        how many learners move the centre at a time: α times that must not exceed 1, or it
                 overshoots their models
    own_centre   what this learner keeps of c
    """

    name = 'easgd'
    asynchronous = True  # unless exchange.elastic_update says sync
    about = About(
        family='elastic averaging',
        rule='w_l ← w_l − a · g_l(w_l); every K steps d = α·(w_l − c); w_l ← w_l − d; c ← c + d',
        cites='Zhang, Choromanska and LeCun 2015, arXiv 1412.6651',
        exchanges='a centre in S shards, read and written by each rank every K steps; or, sync, sums of all d',
        bytes_text='2V/K, with S = L or sync 2V(L − 1)/(L·K)',
        bytes=lambda V, L, options: V*sent(L, options)[0]/options.exchange.period,
        messages_text='2S/K, with S = L 2(L − 1)/K, sync 4(L − 1)/K',
        messages=lambda L, options: sent(L, options)[1]/options.exchange.period,
        options=('exchange.elastic', 'exchange.elastic_update', 'exchange.period', 'exchange.servers',
                 'exchange.assign', 'exchange.meet', 'exchange.sample'),
        use='a slow network or ranks of unequal speed: few exchanges, nobody waits, and each rank explores on its own',
        avoid='few equal ranks on a fast network; many steps between exchanges at a high rate, where the springs are '
              'too weak to keep the models together')
    compression = Takes(
        why='moves models and a centre towards each other by the same vector on both sides',
        instead='take local-sgd, or a longer exchange.period')

    def __new__(cls, comm, config):
        return super().__new__(FORMS[config.exchange.elastic_update])

    def __init__(self, comm, config):
        super().__init__(comm, config)
        given = config.exchange.elastic
        self.alpha = 0.9/comm.size if given == -1 else given
        if not 0 <= self.alpha*self.pulls <= 1:
            raise BadInput(f'exchange.elastic = {given}: the centre would overshoot the models; give 0 to '
                           f'{1/self.pulls:.4g}, or -1 for 0.9/ranks')

    @property
    def period(self):
        return self.config.exchange.period

    def elastic(self, w, c, d):
        """d ← α (w − c);  w ← w − d."""
        np.subtract(w, c, out=d)
        d *= self.alpha
        w -= d

    def state(self):
        return super().state() | {'centre': self.own_centre}

    def load(self, state):
        super().load(state)
        saved, own = state['centre'], self.own_centre
        if saved.shape != own.shape:
            raise BadInput(f'the checkpoint holds {saved.size} entries of the centre for this rank, which now needs '
                           f'{own.size}; keep its exchange.servers and exchange.elastic_update, or start anew with '
                           'another --out')
        own[:] = saved


class AsyncEasgd(Asynchronous, Easgd):
    """Each learner comes to the centre when it has taken K steps, and finds it as the others have left it.

    The centre lies in shards with exchange.servers of the learners, who need not do anything for it: whoever has the
    lock of a shard does the arithmetic.

    centre   Window of the shards
    c        a shard of it, while it is changed
    seen     [S] tickets with which this learner last changed the shards

    The staleness of an exchange is how often others have changed the centre since the last one of this learner: of its
    shards, the one with the most changes.
    """

    pulls = 1

    def __init__(self, comm, config):
        super().__init__(comm, config)
        self.S = servers(comm.size, config)
        require_servers(comm.size, self.S)

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.shards = Shards(params.size, self.comm.rank, self.comm.size, self.S)
        self.centre = self.window(self.comm, params.data[self.shards.own].size, params.dtype)
        self.c = np.empty(self.shards.largest, params.dtype)
        self.publish(params.data[self.shards.own])

    @property
    def own_centre(self):
        return self.centre.own

    def publish(self, c):
        """Own shard of the centre ← c, before anybody else looks at it."""
        self.own_centre[:] = c
        self.refresh(c)

    def describe(self):
        return [f'elastic   α = {self.alpha:.4g} every {self.period} steps', self.shards.describe()]

    def exchange(self, x, g, lr):
        self.update(x, g, lr)
        if (self.t + 1) % self.period == 0:
            self.come(x, g[x.size:])

    def come(self, w, slots):
        """Exchange with the centre, unless w is not finite: from then on it only is counted."""
        if not finite(w):
            slots[NONFINITE] = 1
            return
        self.staleness.add(max(self.pull(w[self.shards.slices[s]], s) for s in self.shards.order))

    def pull(self, w, s):
        """w ← w − d and c ← c + d in shard s; how often others have changed it since this learner did."""
        server, c = self.shards.ranks[s], self.c[:w.size]
        with self.lock(self.centre, [server]) as tickets:
            self.centre.get(server, c)
            for part in parts(c.size, BLOCK):
                d = self.scratch[0, :c[part].size]
                self.elastic(w[part], c[part], d)
                c[part] += d
            self.centre.put(server, c)
        late, self.seen[s] = tickets[server] - self.seen[s] - 1, tickets[server]
        return late

    def refresh(self, x):
        self.centre.sync()
        self.seen = [-1]*len(self.shards.ranks)

    def load(self, state):
        super().load(state)
        self.publish(self.own_centre)

    def regroup(self, former):
        told = super().regroup(former)
        self.publish(self.params.data[self.shards.own])
        return told

    def consensus(self, x):
        """The centre; `x` is untouched."""
        self.shards.gather(self.comm, self.own_centre, self.spare)
        return self.spare


class SyncEasgd(Easgd):
    """All learners come to the centre after the same step: c ← c + α Σ_l (w_l − c), summed in learner order.

    Each keeps the whole centre, the same bits on all.
    """

    asynchronous = False

    @property
    def pulls(self):
        return self.comm.size

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.own_centre = params.data.copy()
        self.spare = self.comm.shared(params.size, params.dtype)  # d

    def describe(self):
        return [f'elastic   α = {self.alpha:.4g} every {self.period} steps, all ranks together']

    def step(self, x, g, lr):
        self.update(x, g, lr)
        self.t += 1
        slots = g[x.size:]
        if self.t % self.period:
            self.meetings.step(x, slots)
        else:
            sound = finite(x)
            slots[NONFINITE] += not sound
            self.meetings.meet(x, slots)
            self.come(x, sound)

    def come(self, w, sound):
        """c ← c + Σ_l d_l; a model that is not finite stays where it is, and pulls nobody."""
        if sound:
            self.elastic(w, self.own_centre, self.spare)
        else:
            self.spare[:] = 0
        self.start_sum(self.spare)()
        self.own_centre += self.spare

    def regroup(self, former):
        told = super().regroup(former)
        self.own_centre[:] = self.params.data
        return told

    def consensus(self, x):
        return self.own_centre


FORMS = {'async': AsyncEasgd, 'sync': SyncEasgd}
