"""Who averages with whom: the mixing matrix T of W ← W·T, in pure NumPy.

Column l of T holds the weights with which learner l averages.  Every T here is symmetric and doubly stochastic, so the
mean of the models stays and their spread shrinks: a learner and its n distinct neighbours weigh 1/(n + 1) each, and all
learners of a connected part have equally many.  Small rings follow: 1 for one learner, ½ ½ for two, J for three.
"""

import difflib
import math

import numpy as np

from hpcasr.errors import BadInput

AFFORDABLE = 2048  # learners up to which `describe` looks at an L x L matrix
DRAWS = 64  # steps in which the graphs of a random topology, taken together, should have become connected


class Topology:
    """The weights of `size` learners, numbered from 0, at step t = 0, 1, ...

    name, fixed   as --topology takes it; whether T is the same at every step
    seed          of what is drawn; every learner must have the same
    """

    name, fixed = None, True

    def __init__(self, size, seed=0):
        self.size, self.seed = size, seed

    def neighbours(self, rank, t):
        """Whom learner `rank` averages with at step t: in any order, with repetitions, itself allowed."""
        raise NotImplementedError

    def contraction(self):
        """By what the spread, the 2-norm of all models' distances from their mean, shrinks per step at least.

        Where T is drawn: the root of the expected factor of the squared spread.
        """
        raise NotImplementedError

    def weights(self, rank, t=0):
        """{peer: weight} of the models in learner `rank`'s new one, its own included, in learner order.

        Costs O(neighbours); where T is drawn, also O(size) once a step.
        """
        peers = sorted({rank, *self.neighbours(rank, t)})
        return dict.fromkeys(peers, 1/len(peers))

    def receivers(self, rank, t=0):
        """The others to whom learner `rank` sends, in learner order: those it receives from, as T is symmetric."""
        return [peer for peer in self.weights(rank, t) if peer != rank]

    def matrix(self, t=0):
        """T [size, size]: T[j, l] is the weight of learner j's model in learner l's new one."""
        T = np.zeros((self.size, self.size))
        for rank in range(self.size):
            weights = self.weights(rank, t)
            T[list(weights), rank] = list(weights.values())
        return T

    def gap(self):
        """The spectral gap: 1 − contraction()."""
        return 1 - self.contraction()

    def steps(self, share):
        """After how many steps of averaging alone the spread is `share` of what it was; where T is drawn, expected."""
        shrinks = self.contraction()
        return 1 if shrinks <= share else math.ceil(math.log(share)/math.log(shrinks))

    def describe(self):
        """One line for the log; up to AFFORDABLE learners after looking at every weight.

        `ring of 8, fixed: 2 neighbours, doubly stochastic, connected, spectral gap 0.195`
        """
        how, gap = ('fixed', '') if self.fixed else ('drawn every step', ' in expectation')
        checks = self.checks() if self.size <= AFFORDABLE else f'not checked (more than {AFFORDABLE} learners)'
        return (f'{self.name} of {self.size}{self.remark()}, {how}: {self.most()}, {checks}, '
                f'spectral gap {self.gap():.3g}{gap}')

    def remark(self):
        """What else there is to say of this size."""
        return ''

    def most(self):
        """`2 neighbours`; three learners show it, since at most one of all is alone."""
        n = max(len(self.receivers(rank)) for rank in range(min(3, self.size)))
        return f'{n} neighbour{"s"[:n != 1]}'

    def checks(self):
        """Whether T is doubly stochastic at every step looked at, and whether news reaches everybody."""
        balanced, met = True, np.zeros((self.size, self.size), bool)
        for t in range(1 if self.fixed else DRAWS):
            T = self.matrix(t)
            balanced, met = balanced and doubly_stochastic(T), met | (T > 0)
            if connected(met):
                break
        within = '' if self.fixed else f' within {t + 1} step{"s"[:t > 0]}'
        return f'{"not "[:4*(not balanced)]}doubly stochastic, {"not "[:4*(not connected(met))]}connected{within}'


class Grid(Topology):
    """Learners on a grid that is closed in both directions, each with the neighbours at the same `offsets`.

    shape     (rows, columns), learners numbered row by row
    offsets   [(row, column)] of the neighbours
    """

    def __init__(self, size, seed=0):
        super().__init__(size, seed)
        self.shape, self.offsets = (1, size), [(0, d) for d in self.distances()]

    def distances(self):
        """How far the neighbours are along a ring of all learners."""
        return ()

    def neighbours(self, rank, t):
        rows, columns = self.shape
        row, column = divmod(rank, columns)
        return [(row + down) % rows*columns + (column + right) % columns for down, right in self.offsets]

    def contraction(self):
        """The second largest |eigenvalue| of T: those of a grid are the Fourier transform of one learner's weights."""
        kernel = np.zeros(self.size)
        weights = self.weights(0)
        kernel[list(weights)] = list(weights.values())
        eigenvalues = np.abs(np.fft.fft2(kernel.reshape(self.shape))).ravel()
        return float(eigenvalues[1:].max(initial=0))


class Ring(Grid):
    """Left and right neighbour, always the same: 1/3 each.  Its gap shrinks as 1/L², (2 − 2cos(2π/L))/3."""

    name = 'ring'

    def distances(self):
        return 1, -1


class Exponential(Grid):
    """Everybody at distance 1, 2, 4, ... ≤ L/2 along a ring, both ways: about 2·log2(L) neighbours, always the same.

    The undirected form of the static exponential graph of Ying et al. 2021, arXiv 2110.13363.
    """

    name = 'exponential'

    def distances(self):
        near = [1 << i for i in range((self.size//2).bit_length())]
        return [*near, *(-d for d in near)]


class Torus(Grid):
    """The four neighbours on a grid as square as the number of learners allows; a prime number allows only a ring."""

    name = 'torus'

    def __init__(self, size, seed=0):
        super().__init__(size, seed)
        rows = next(r for r in range(math.isqrt(size), 0, -1) if size % r == 0)
        self.shape, self.offsets = (rows, size//rows), [(0, 1), (0, -1), (1, 0), (-1, 0)]

    def remark(self):
        rows, columns = self.shape
        return f' ({rows} x {columns}{": a ring" if rows == 1 else ""})'


class Complete(Grid):
    """Everybody with everybody: T = J, the mean in one step."""

    name = 'complete'

    def distances(self):
        return range(1, self.size)


class Drawn(Topology):
    """A graph whose places are dealt out anew every step: T_t = PᵀTP with the permutation P of (seed, t)."""

    fixed = False

    def __init__(self, size, seed=0):
        super().__init__(size, seed)
        self.dealt = None, None, None

    def deal(self, t):
        """(who [place], place [learner]) of step t, the same on every learner."""
        step, who, place = self.dealt
        if step != t:
            who = np.random.default_rng([self.seed, t]).permutation(self.size)
            place = np.empty_like(who)
            place[who] = np.arange(self.size)
            self.dealt = t, who, place
        return who, place

    def contraction(self):
        """√((‖T‖² − 1)/(L − 1)) with the Frobenius norm.

        E[PᵀT²P] over all permutations is a multiple of the identity across the mean, so each of its L − 1 eigenvalues
        there is their average: (trace T² − 1)/(L − 1), the 1 being that of the mean itself.
        """
        squares = sum(w*w for rank in range(self.size) for w in self.weights(rank).values())
        return math.sqrt(max(squares - 1, 0)/max(self.size - 1, 1))


class RandomRing(Drawn):
    """A ring in another order every step: ‖T‖² = L/3, so the spread shrinks to about 1/√3 a step for any L."""

    name = 'random-ring'

    def neighbours(self, rank, t):
        who, place = self.deal(t)
        here = place[rank]
        return int(who[here - 1]), int(who[(here + 1) % self.size])


class Pairs(Drawn):
    """Everybody with one other, ½ each, by a random matching every step; of an odd number one stays alone."""

    name = 'pairs'

    def neighbours(self, rank, t):
        who, place = self.deal(t)
        there = place[rank] ^ 1
        return (int(who[there]),) if there < self.size else ()

    def remark(self):
        return ' (one stays alone)' if self.size % 2 and self.size > 1 else ''


TOPOLOGIES = {cls.name: cls for cls in (Ring, RandomRing, Pairs, Exponential, Torus, Complete)}


def get_topology(name, size, seed=0):
    """The Topology called `name` of `size` learners; raises BadInput naming the nearest one."""
    if name not in TOPOLOGIES:
        near = difflib.get_close_matches(name, TOPOLOGIES, 1, 0)[0]
        raise BadInput(f'--topology {name}: there is no such topology; did you mean {near}? '
                       f'(there are: {", ".join(TOPOLOGIES)})')
    return TOPOLOGIES[name](size, seed)


def push_targets(rank, t, size):
    """To whom learner `rank` pushes at step t: [rank + 2^(t mod ⌈log2 size⌉)], [] where it is alone.

    The directed exponential graph of stochastic gradient push, one peer a step: Assran et al. 2019, arXiv 1811.10792.
    """
    doublings = (size - 1).bit_length()  # ⌈log2 size⌉
    return [(rank + (1 << t % doublings)) % size] if doublings else []


def doubly_stochastic(T, tolerance=1e-12):
    """Whether all rows and columns of T sum to 1 and no weight is negative."""
    return bool((T >= 0).all() and all(np.abs(T.sum(axis) - 1).max() < tolerance for axis in (0, 1)))


def connected(met):
    """Whether news from learner 0 reaches everybody; met [L, L] tells who hears whom, both ways."""
    reached, news = np.zeros(len(met), bool), np.array([0])
    while news.size:
        reached[news] = True
        news = np.flatnonzero(met[:, news].any(1) & ~reached)
    return bool(reached.all())
