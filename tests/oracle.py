"""All replicas as the columns of W [n, L] in one process: every synchronous algorithm is a line or a few on it.

G [n, L] holds the summed gradients at W, n [L] the frames they are sums over, `bad` [L] tells whose are not finite.
"""

import numpy as np

from hpcasr.algorithms.topology import get_topology, push_targets
from hpcasr.config import Config
from hpcasr.model.params import FRAMES, NONFINITE


class Rule:
    """W [n, L] and the momentum V of every column; options as in hpcasr.config."""

    def __init__(self, W, config):
        self.W, self.V, self.config = W, np.zeros_like(W), config
        self.L, self.t = W.shape[1], 0
        self.J = np.full((self.L, self.L), 1/self.L)
        self.start()

    def start(self):
        """What else there is to remember."""

    def models(self):
        """[n, L] where the gradients of the next step are taken."""
        return self.W

    def consensus(self):
        return self.W.mean(1)

    def local(self, G, n, bad):
        """The step of every column with its own mean gradient; a column whose gradient is bad stays."""
        self.V = np.where(bad, self.V, self.config.optim.momentum*self.V + G/np.maximum(n, 1))
        return np.where(bad, 0, self.V)

    def common(self, G, n, bad):
        """The step of all columns with the mean gradient over all frames."""
        mean = np.repeat(G.sum(1, keepdims=True), self.L, 1)
        return self.local(mean, np.full(self.L, n.sum()), np.full(self.L, bad.any()))


class Allreduce(Rule):
    def step(self, G, n, bad, a):
        self.W = self.W - a*self.common(G, n, bad)


class Local(Rule):
    def step(self, G, n, bad, a):
        self.W = self.W - a*self.local(G, n, bad)
        if (self.t + 1) % self.config.exchange.period == 0:
            self.W = self.W @ self.J


class Elastic(Rule):
    def start(self):
        e = self.config.exchange
        self.alpha, self.center = 0.9/self.L if e.elastic == -1 else e.elastic, self.W[:, :1]

    def step(self, G, n, bad, a):
        self.W = self.W - a*self.local(G, n, bad)
        if (self.t + 1) % self.config.exchange.period == 0:
            pulls = self.alpha*(self.W - self.center)
            self.W, self.center = self.W - pulls, self.center + pulls.sum(1, keepdims=True)

    def consensus(self):
        return self.center[:, 0]


class Bmuf(Rule):
    def start(self):
        e = self.config.exchange
        self.eta = 1 - 1/self.L if e.block_momentum == -1 else e.block_momentum
        self.ahead = self.eta if e.block_update == 'nesterov' else 0
        self.drift, self.center = 0*self.W, self.W

    def step(self, G, n, bad, a):
        self.W = self.W - a*self.local(G, n, bad)
        if (self.t + 1) % self.config.exchange.period == 0:
            base = self.center + self.ahead*self.drift
            self.drift = self.eta*self.drift + self.config.exchange.block_rate*(self.W @ self.J - base)
            self.center = self.center + self.drift
            self.W, self.V = self.center + self.ahead*self.drift, 0*self.V

    def consensus(self):
        return self.W.mean(1) - self.ahead*self.drift[:, 0]


class Decentralized(Rule):
    def start(self):
        self.topology = get_topology(self.config.exchange.topology, self.L, self.config.data.seed)

    def step(self, G, n, bad, a):
        self.W = self.W @ self.topology.matrix(self.t).astype(self.W.dtype) - a*self.local(G, n, bad)


class DelayByOne(Rule):
    def step(self, G, n, bad, a):
        self.W = self.W @ self.J.astype(self.W.dtype) - a*self.local(G, n, bad)


class PushSum(Rule):
    """W holds the numerators, `mass` [L] the masses; `flight` what is under way, of both."""

    targets = staticmethod(push_targets)

    def start(self):
        delay, sent = self.config.exchange.push_delay, self.shares()[1].sum(1)
        self.mass = 1/(1 + delay*sent)
        self.W = self.W*self.mass
        self.flight = [(self.W*sent, self.mass*sent)]*delay

    def models(self):
        return self.W/self.mass

    def step(self, G, n, bad, a):
        keep, push = self.shares()
        self.W = self.W - a*self.local(G, n, bad)
        self.flight.append((self.W @ push, self.mass @ push))
        self.W, self.mass = self.W*keep, self.mass*keep
        if len(self.flight) > self.config.exchange.push_delay:
            W, mass = self.flight.pop(0)
            self.W, self.mass = self.W + W, self.mass + mass

    def shares(self):
        """[L] what a learner keeps, and [from, to] what goes elsewhere."""
        push, L = np.zeros((self.L, self.L), self.W.dtype), self.L
        for k in range(L):
            to = self.targets(k, self.t, L)
            push[k, to] = 1/(len(to) + 1)
        return 1 - push.sum(1), push

    def consensus(self):
        total, mass = self.totals()
        return total/mass

    def totals(self):
        """Σ_l x_l [n] and Σ_l m_l, under way included."""
        return (self.W.sum(1) + sum(W.sum(1) for W, _ in self.flight),
                self.mass.sum() + sum(mass.sum() for _, mass in self.flight))


RULES = {'sync-allreduce': Allreduce, 'sync-ps': Allreduce, 'local-sgd': Local, 'bmuf': Bmuf,
         'sync-decentralized': Decentralized, 'delay-by-one': DelayByOne, 'push-sum': PushSum, 'easgd': Elastic}


def oracle(name, problem, L, steps, dtype, lr, options, rule=None):
    """([steps, n, L] the models after each step, [n] their consensus) of L learners of `problem`."""
    config = Config().with_values({'train.dtype': dtype, **options}, 'test')
    learners = [problem.learner(rank, L, dtype) for rank in range(L)]
    rule = (rule or RULES[name])(np.stack([learner.params.data.copy() for learner in learners], 1), config)
    models = []
    for t in range(steps):
        G, n, bad = gradients(learners, rule.models(), t)
        rule.step(G, n, bad, lr)
        rule.t += 1
        models.append(rule.models().copy())
    return np.array(models), rule.consensus()


def gradients(learners, W, t):
    """Summed gradients [n, L] at the columns of W, frames [L], whether they are not finite [L]."""
    for k, learner in enumerate(learners):
        learner.params.data[:] = W[:, k]
        learner.compute(t)
    slots = np.array([learner.params.slots for learner in learners])
    return (np.stack([learner.params.grad for learner in learners], 1), slots[:, FRAMES], slots[:, NONFINITE] > 0)
