"""Servers apply every push as it comes, whatever the others do meanwhile."""

from contextlib import contextmanager
from functools import partial
from math import lcm

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.accrual import Accrual, Accruals
from hpcasr.algorithms.asynchronous import Asynchronous
from hpcasr.algorithms.base import parts
from hpcasr.algorithms.gate import BoundedGate, Gate
from hpcasr.algorithms.shards import Shards, require_servers, servers
from hpcasr.compress.pushlog import PushLog
from hpcasr.compress.takes import Takes
from hpcasr.errors import BadInput

VERSION = 0  # the counter of a shard: its updates so far


def others(L, options):
    """How many servers the busiest learner reaches over the network."""
    S = servers(L, options)
    return S if S < L else L - 1


def pulls_alone(exchange):
    """Per step: pulls that are not one reach with a push."""
    p, q = exchange.push_every, exchange.pull_every
    return 1/q - (exchange.max_staleness < 0)/lcm(p, q)


def moves(options):
    """Vectors as long as the model that a learner reads and writes per step."""
    kept = {'sgd': options.optim.momentum > 0, 'adam': 2}[options.optim.optimizer]
    return 2*(1 + kept)/options.exchange.push_every + pulls_alone(options.exchange)


def gate_messages(L, options):
    """Messages per step by which a learner says that it pulls and pushes, where that is bounded."""
    exchange = options.exchange
    pushes, steps = cycle(exchange)
    return (2 + pushes)/steps*(L > 1 and exchange.max_staleness > 0)


def cycle(exchange):
    """(pushes, steps) after which pull and push come together again, if one of their periods divides the other."""
    steps = max(exchange.push_every, exchange.pull_every)
    return steps//exchange.push_every, steps


class AsyncPS(Asynchronous):
    """Server s: w[s] ← w[s] − a/L · g_l[s]/n_l as each gradient comes, g_l being that of w as it was τ updates ago.

    AC-PSGD of arXiv 2002.10502; Downpour SGD of Dean et al. 2012, NIPS.  A push covers one batch of the L of which the
    rate a speaks.  The servers are passive: whoever has the ticket lock of a shard does the arithmetic, with the
    optimizer's state that lies there.  Shards are locked one after the other, so a pull may mix versions.

    A push covers exchange.push_every steps, n in all, with the sum of their rates; meanwhile a learner moves on by
    itself, x ← x − a/L · g.  A pull, every exchange.pull_every steps, replaces x, as in Dean et al.: what has not been
    pushed by then is pushed when it is due.  Pull and push after the same step are one reach into each shard.  At a
    meeting point each learner first pushes what is left, under tickets as ever; when all have come, all pull, and both
    periods begin anew.

    The staleness of an update is how many others its shard has seen since the first pull at which the gradients in it
    were taken; of the shards of a push, the largest is counted.  exchange.staleness_rate: a ← a/max(τ, 1), with the τ
    of the shard (Zhang et al. 2016, arXiv 1511.05950).  exchange.delay_compensation: g ← g + λ·g·g·(w − x), g the mean
    gradient and x where it was taken, or the mean of such x (Zheng et al. 2017, arXiv 1609.08326).
    exchange.max_staleness: gate.py; then every pull is one of its own, when the next batch is there.

    The state is that of one optimizer for all shards, and `versions` [S], updates of each shard, which are Adam's t.
    With another number of shards a checkpoint goes on from their mean; other ranks change nothing.

    Compressed, a push is a record in the log of each shard (compress/pushlog.py), and what has been said of g above is
    said of what its code says.  A pull from a shard with a log reads the optimizer's state as well.

    served   Window of the shards: w, then each vector of the optimizer's state; counter VERSION
    known    [S] versions of the shards at the last pull
    base     [S] the same, of the pull at which the first gradient was taken that has not been pushed
    steps    since the last meeting
    fresh    whether x is what has just been pulled
    mixed    pulls of unequal versions, of this learner in this epoch
    """

    name = 'async-ps'
    distance = None  # at a meeting all have pulled the same
    about = About(
        family='AC-PSGD, Downpour',
        rule='server s, at each push: w[s] ← w[s] − a/L · g_l(w some updates ago)[s] / n_l',
        cites='Dean et al. 2012, NIPS, Large Scale Distributed Deep Networks',
        exchanges='shards of the model and of the k vectors of the optimizer, read and written at each push',
        bytes_text='2(1 + k)V per push, V per pull alone; with S = L servers (L − 1)/L of it',
        bytes=lambda V, L, options: V*moves(options)*others(L, options)/max(1, min(servers(L, options), L)),
        messages_text='2(1 + k)S per push, S per pull alone; L − 1 for S = L; and 3 small with a bound',
        messages=lambda L, options: moves(options)*others(L, options) + gate_messages(L, options),
        options=('exchange.servers', 'exchange.push_every', 'exchange.pull_every', 'exchange.max_staleness',
                 'exchange.staleness_rate', 'exchange.delay_compensation', 'exchange.assign', 'exchange.meet'),
        use='ranks of unequal speed that share one model: nobody waits',
        avoid='many ranks, of which each sees its gradient applied L − 1 updates late; momentum makes that worse')
    compression = Takes(
        ('fp16', 'bf16', 'onebit', 'topk', 'qsgd'), 'mean gradients on their way to the servers; pulls stay plain',
        'pushes mean gradients of slices of tensors: the threshold is one for sums over the frames of a batch, and '
        'slices have no factors of their own', 'take onebit or topk')

    def __init__(self, comm, config):
        require_no_correction(config.compress)
        super().__init__(comm, config)
        self.S = servers(comm.size, config)
        require_servers(comm.size, self.S)
        require_possible(config.exchange)

    def describe(self):
        return [self.shards.describe()] + ([self.compressed.describe()] if self.compressed else [])

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        n, dtype, exchange = params.size, params.dtype, self.config.exchange
        self.shards = Shards(n, self.comm.rank, self.comm.size, self.S)
        self.served = self.window(self.comm, self.shards.size*(1 + len(optimizer.vectors())), dtype, 1)
        self.compress()
        self.bounded = exchange.max_staleness > 0
        gated = self.bounded and not self.journal.replays  # the order of a record keeps the bound
        self.gate = BoundedGate(self.comm, exchange.max_staleness) if gated else Gate()
        compensated, several = exchange.delay_compensation > 0, exchange.push_every > 1
        self.accrual = Accruals(n, dtype, optimizer.ops, compensated) if several else Accrual()
        self.w = np.empty(self.shards.largest, dtype)
        self.h = np.empty_like(self.w) if compensated else None
        self.scratch = np.empty((2, min(n, optimizer.ops.block)), dtype)
        self.known, self.base = np.zeros((2, len(self.shards.ranks)), np.int64)
        self.mixed = 0
        self.publish(self.known.copy())

    def compress(self):
        options = self.config.compress
        if options.method != 'none':
            self.compressed = PushLog(self.comm, options, self.params, self.optimizer, self.shards, self.window)
            self.said = np.empty(self.shards.largest, np.float32)

    # a step

    def begin(self, x):
        if self.fresh or self.steps % self.config.exchange.pull_every:
            return
        pushes, steps = cycle(self.config.exchange)
        if self.steps % steps == 0:
            self.gate.enter(pushes)
        self.pull(x)

    def exchange(self, x, g, lr):
        exchange, rate = self.config.exchange, lr/self.comm.size
        if not self.accrual.steps:
            self.base[:] = self.known
        self.accrual.add(x, g, rate)
        self.steps += 1
        sound, pushes = self.mean_gradient(x, g), self.steps % exchange.push_every == 0
        self.fresh = pushes and self.steps % exchange.pull_every == 0 and not self.bounded
        if pushes:
            self.push(x, self.fresh)
        if sound and not self.fresh:
            self.optimizer.ops.mix(x, [x, g[:x.size]], [1, -rate], self.scratch)

    def push(self, x, pull):
        """Update all shards with what has accrued, if it is anything; x ← w if `pull`."""
        if self.accrual.steps:
            self.accrual.finish(partial(self.mean_gradient, x))
            self.staleness.add(max(self.update_shard(s, x if pull else None) for s in self.shards.order))
            self.accrual.clear()
            self.mixed += pull and self.differ
        elif pull:
            self.pull(x)
        self.gate.pushed()

    def pull(self, x):
        """x ← w."""
        for s in self.shards.order:
            rank = self.shards.ranks[s]
            with self.lock_shard(s):
                self.known[s] = self.served.read(rank, VERSION)
                self.read_shard(s, x[self.shards.slices[s]], self.known[s])
        self.mixed += self.differ

    @contextmanager
    def lock_shard(self, s):
        """Hold shard s, with its log."""
        with self.lock(self.served, [self.shards.ranks[s]]):
            if self.compressed:
                self.compressed.open(s)
            yield

    @property
    def differ(self):
        """Whether the shards were of unequal versions when they were pulled."""
        return bool((self.known != self.known[0]).any())

    def update_shard(self, s, x):
        """Shard s of w takes what has accrued, and goes to x, unless that is None.  Returns its staleness."""
        rank, part = self.shards.ranks[s], self.shards.slices[s]
        w, record = self.w[:part.stop - part.start], self.record(s)
        with self.lock_shard(s):
            version = self.served.fetch_add(rank, VERSION, 1)
            tau = int(version - self.base[s])
            if self.compressing:
                self.write_down(s, w, record, version, tau)
                if x is not None:
                    self.read_shard(s, w, version + 1)
            else:
                self.fetch(s, w, version)
                self.descend_shard(w, self.gradient(s, w), self.rate(tau), part, version)
                self.store(s, w)
        if x is not None:
            x[part], self.known[s] = w, version + 1
        return tau

    def fetch(self, s, w, version):
        """w, and its part of the optimizer's state, ← shard s as `version` updates have made it."""
        rank, part = self.shards.ranks[s], self.shards.slices[s]
        for k, vector in enumerate([w, *(vector[part] for vector in self.optimizer.vectors())]):
            self.served.get(rank, vector, k*w.size)
        if self.compressed:
            first = version - self.compressed.waiting[s]
            for k, (rate, g) in enumerate(self.compressed.read(s, self.said[:w.size])):
                self.descend_shard(w, g, rate, part, first + k)

    def store(self, s, w):
        """Shard s ← w, and that part of the optimizer's state."""
        rank, part = self.shards.ranks[s], self.shards.slices[s]
        for k, vector in enumerate([w, *(vector[part] for vector in self.optimizer.vectors())]):
            self.served.put(rank, vector, k*w.size)
        if self.compressed:
            self.compressed.empty(s)

    def read_shard(self, s, w, version):
        """w ← shard s as `version` updates have made it."""
        rank = self.shards.ranks[s]
        if not self.compressed or not self.compressed.waiting[s]:
            self.served.get(rank, w)
        else:
            self.fetch(s, w, version)
            if rank == self.comm.rank:
                self.store(s, w)

    def record(self, s):
        """What is to be written down of what has accrued for shard s, if that is known without the shard."""
        if self.compressing and not self.config.exchange.delay_compensation:
            return self.compressed.record(s, self.gradient(s, None), self.samples)

    def write_down(self, s, w, record, version, tau):
        """Put `record` into the log of shard s, which has seen `version` updates; w is overwritten."""
        log, full = self.compressed, self.compressed.full(s)
        if record is None or full:
            self.fetch(s, w, version)
        if full:
            self.store(s, w)
        if record is None:
            record = log.record(s, self.gradient(s, w), self.samples)
        log.append(s, record, self.rate(tau))

    def gradient(self, s, w):
        """What has accrued for shard s, which is w now."""
        g, exchange = self.accrual.gradient[self.shards.slices[s]], self.config.exchange
        return self.compensated(g, w, self.accrual.point[self.shards.slices[s]]) if exchange.delay_compensation else g

    def rate(self, tau):
        """Of an update that comes `tau` others after its gradient was taken."""
        return self.accrual.rate/max(tau, 1) if self.config.exchange.staleness_rate else self.accrual.rate

    @np.errstate(over='ignore', invalid='ignore')  # a model that diverged is seen by its loss
    def descend_shard(self, w, g, rate, part, version):
        """w ← optimizer(w, g, rate) where `version` updates have gone before."""
        self.optimizer.at(version)
        self.optimizer.begin()
        self.optimizer.part(w, g, rate, part.start)

    @np.errstate(over='ignore', invalid='ignore')
    def compensated(self, g, w, x):
        """g + λ g g (w − x): to first order the gradient at w of which g is the one at x."""
        h, weight = self.h[:w.size], self.config.exchange.delay_compensation
        for part in parts(w.size, self.optimizer.ops.block):
            np.subtract(w[part], x[part], out=h[part])
            h[part] *= g[part]
            h[part] *= g[part]
            h[part] *= weight
            h[part] += g[part]
        return h

    # at meetings

    def arrive(self, x):
        """Push what has accrued, and tell those who wait to pull that no more will come."""
        if self.accrual.steps:
            self.push(x, False)
        self.gate.leave()

    def refresh(self, x):
        """x ← w, whole; called by all learners together."""
        self.fold_own()
        self.served.sync()
        versions = self.comm.allgather(self.served.read(self.comm.rank, VERSION))
        self.known[:] = [versions[rank] for rank in self.shards.ranks]
        self.shards.gather(self.comm, self.piece(0), x)
        self.steps, self.fresh = 0, not self.bounded

    def fold_own(self):
        """Do what waits for the own shard, which nobody else changes now."""
        if self.compressed and self.comm.rank in self.shards.ranks:
            s = self.shards.ranks.index(self.comm.rank)
            self.compressed.open(s)
            self.read_shard(s, self.w[:self.shards.size], self.served.read(self.comm.rank, VERSION))

    def told(self):
        mixed, self.mixed = sum(self.comm.allgather(self.mixed)), 0
        return super().told() | {'mixed_pulls': mixed} | (self.compressed.told() if self.compressed else {})

    def piece(self, k):
        """The own shard of w (k = 0) or of the k-th vector of the optimizer's state."""
        return self.served.own[k*self.shards.size:(k + 1)*self.shards.size]

    def publish(self, versions):
        """The shards ← params, the optimizer's state, versions [S], which all learners hold; all call it together."""
        for k, vector in enumerate([self.params.data, *self.optimizer.vectors()]):
            self.piece(k)[:] = vector[self.shards.own]
        for rank, version in zip(self.shards.ranks, versions.tolist(), strict=True):
            if rank == self.comm.rank:
                self.served.fetch_add(rank, VERSION, version - self.served.read(rank, VERSION))
        self.served.sync()
        self.refresh(self.params.data)

    def state(self):
        """The shards of the optimizer's state put together, the same on all learners."""
        for k, vector in enumerate(self.optimizer.vectors(), 1):
            self.shards.gather(self.comm, self.piece(k), vector)
        self.optimizer.at(middle(self.known))
        return self.optimizer.state() | {'versions': self.known.copy()}

    def load(self, state):
        self.optimizer.load(state)
        if self.compressed:
            self.compressed.load(state)
        versions = np.asarray(state['versions'])
        S = len(self.known)
        self.publish(versions if len(versions) == S else np.full(S, middle(versions)))

    def regroup(self, former):
        """What all learners share has been loaded."""
        return self.compressed.regroup(former)


def middle(versions):
    """Of shards that go on as others: their mean, rounded."""
    return round(float(np.mean(versions)))


def require_possible(exchange):
    """Raise BadInput for a bound of the staleness that cannot be kept."""
    K, p, q, (pushes, steps) = exchange.max_staleness, exchange.push_every, exchange.pull_every, cycle(exchange)
    if K == 0:
        raise BadInput('exchange.max_staleness = 0: nobody could compute while another does; give 1 or more, or use '
                       'sync-ps')
    if K > 0 and steps % min(p, q):
        raise BadInput(f'exchange.max_staleness = {K}: with exchange.push_every = {p} and exchange.pull_every = {q} '
                       'not every pull is followed by as many pushes; let one be a multiple of the other')
    if 0 < K < pushes - 1:
        raise BadInput(f'exchange.max_staleness = {K}: a rank pushes {pushes} times on one pull, so the last is at '
                       f'least {pushes - 1} updates late; give {pushes - 1} or more, or a smaller exchange.pull_every')


def require_no_correction(options):
    """Raise BadInput where a config.Compress asks learners to have the momentum."""
    if options.method != 'none' and options.correction:
        raise BadInput('compress.correction = true: momentum of async-ps lives with its servers; leave it out')
