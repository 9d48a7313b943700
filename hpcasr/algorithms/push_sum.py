"""Stochastic gradient push: parts of the models travel along a directed graph, with as much of a mass."""

from collections import deque

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.base import parts
from hpcasr.algorithms.replicas import Replicas
from hpcasr.algorithms.topology import push_targets
from hpcasr.compress.takes import Takes
from hpcasr.errors import BadInput
from hpcasr.model.params import SLOTS


class PushSum(Replicas):
    """x_l ← x_l − a · g_l(z_l)/n_l;  (x_l, m_l) ← its share + Σ shares that come in;  z_l = x_l/m_l.

    Stochastic gradient push: Assran et al. 2019, arXiv 1811.10792.  A learner with d receivers keeps 1/(d + 1) of its
    numerator x and its mass m, and sends as much to each.  What is sent in one step is added exactly τ steps later (τ
    is exchange.push_delay), and belongs to its receiver from the moment it is sent: Σ x and Σ m, with what is under
    way, stay, and their ratio is the consensus.  The network sees z.  Momentum stays with its learner.

    It starts as if pushing had long gone on: of a learner's mass 1 as much is under way as will be.  Else m would halve
    in each of the first τ steps, and a gradient would move z by 2^τ times what it should.

    pair     [n + 1] x and behind it m
    flight   what comes in later, a step's at a time: finish() -> [n + 1] or None
    targets  targets(rank, t, size): whom a learner pushes to
    """

    name = 'push-sum'
    resident = True
    about = About(
        family='SGP',
        rule='x ← x − a · g(z); half of (x, m) goes to one peer, τ steps later it is added there; z = x/m',
        cites='Assran et al. 2019, arXiv 1811.10792',
        exchanges='half of a model and of a mass, to one peer',
        bytes_text='V',
        bytes=lambda V, L, options: V*(L > 1),
        messages_text='1',
        messages=lambda L, options: int(L > 1),
        options=('exchange.push_delay', 'exchange.meet', 'exchange.sample'),
        use='a slow network: one message a step, which with a delay τ > 0 hides behind compute',
        avoid='few equal ranks on a fast network, where sync-allreduce keeps all models equal for little more')
    compression = Takes(
        why='sends shares of models and masses, to other peers in every step; nothing of them may be left over',
        instead='take sync-decentralized, or local-sgd on a slow network')

    targets = staticmethod(push_targets)

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.delay, n = self.config.exchange.push_delay, params.size
        vector = optimizer.ops.vector
        self.pair, self.spare = vector(n + 1, params.dtype), vector(n + 1, params.dtype)
        self.pair[:-1], self.pair[-1:] = params.data, 1
        try:
            self.outbox = vector((self.delay + 1)*(n + 1), params.dtype).reshape(self.delay + 1, n + 1)
        except (MemoryError, ValueError):  # what NumPy says of sizes that no machine has
            raise BadInput(f'exchange.push_delay = {self.delay}: there is no memory for so many models under way; give '
                           'a smaller one') from None
        self.launch()

    def launch(self):
        """Put into flight what returns in the first τ steps, so that m is what it settles at: 1/(1 + τ d/(d + 1))."""
        d = len(self.peers()[0])
        self.pair /= 1 + self.delay*d/(d + 1)
        self.keep([self.pair*(d/(d + 1)) if d else None]*self.delay)

    def step(self, x, g, lr):
        to, frm = self.peers()
        share = self.outbox[self.t % len(self.outbox)]  # untouched until the receivers have it

        def halve(part):
            np.divide(self.pair[part], len(to) + 1, out=share[part])
            np.copyto(self.pair[part], share[part])
        self.update(self.pair[:-1], g, lr, after=halve)
        halve(slice(-1, None))
        finish = self.comm.start_exchange(share, to, frm)
        self.flight.append(lambda: sum_up(finish()))
        came = self.flight.popleft()() if len(self.flight) > self.delay else None
        self.absorb(came, x)
        self.t += 1
        self.meetings.step(x, g[-SLOTS:])

    def peers(self):
        """(to whom this learner pushes, who pushes to it) at this step."""
        rank, L = self.comm.rank, self.comm.size
        return self.targets(rank, self.t, L), [k for k in range(L) if rank in self.targets(k, self.t, L)]

    def absorb(self, came, x):
        """Add what came, if anything, to the pair; x ← z."""
        if came is not None:
            self.pair[-1:] += came[-1:]
        for part in parts(x.size, self.optimizer.ops.block):
            if came is not None:
                self.pair[part] += came[part]
            np.divide(self.pair[part], self.pair[-1], out=x[part])

    def land(self):
        """Wait for all that is under way, and keep it until its time has come; -> [what came, or None]."""
        return self.keep([copy(finish()) for finish in self.flight])

    def keep(self, came):
        self.flight = deque(lambda vector=vector: vector for vector in came)
        return came

    def settle(self, x, slots):
        self.land()
        super().settle(x, slots)

    def consensus(self, x):
        """Σ_l x_l / Σ_l m_l with all that is under way."""
        total = self.spare
        np.copyto(total, self.pair)
        for vector in self.land():
            if vector is not None:
                total += vector
        self.start_sum(total)()
        total[:-1] /= total[-1]
        return total[:-1]

    def close(self, x):
        self.land()
        super().close(x)

    def state(self):
        came = self.land()
        return super().state() | {'pair': self.pair, 'flights': np.array(len(came))} | {
            f'flight{i}': vector for i, vector in enumerate(came) if vector is not None}

    def load(self, state):
        super().load(state)
        self.pair[:] = state['pair']
        self.keep([state.get(f'flight{i}') for i in range(int(state['flights']))])

    def regroup(self, former):
        told = super().regroup(former)
        self.pair[:-1], self.pair[-1] = self.params.data, 1
        self.launch()
        return told + '; masses, and what is under way, begin anew'


def sum_up(vectors):
    """Their sum in that order, in the first of them; None of none."""
    for vector in vectors[1:]:
        vectors[0] += vector
    return vectors[0] if vectors else None


def copy(vector):
    """What a finish() has given is ours only until the next one."""
    return None if vector is None else vector.copy()
