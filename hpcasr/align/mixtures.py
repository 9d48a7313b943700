"""Mixtures of Gaussians with diagonal covariances, one for every pdf: likelihoods, sums over frames, estimation.

Estimation as in Kaldi's mle-am-diag-gmm: components with few frames go, those with many are split.
"""

import heapq

import numpy as np

from hpcasr.kernels.cpu.gmm import accumulate, mixtures

FLOOR = 0.01  # of variances, relative to those of all frames, which are 1
FEWEST = 5  # frames of a component; below that it goes, or stays as it was if it is the only one
POWER = 0.25  # of a pdf's frames, to which its share of the components is proportional
FRAMES_EACH = 20  # components that a pdf may have: at most one per so many frames
NUDGE = 0.1  # standard deviations by which the halves of a component are moved apart
LEAST_WEIGHT = 1e-5
AT_ONCE = 256  # frames whose components are computed together: they fit in a cache


class Mixtures:
    """weights [G], means, variances [G, D] float64; components starts[k] .. starts[k+1]-1 are those of pdf k."""

    def __init__(self, weights, means, variances, starts):
        self.weights, self.means, self.variances = weights, means, variances
        self.starts = np.asarray(starts, np.int64)
        precisions = 1/variances
        self.rows = np.concatenate([means*precisions, -0.5*precisions], 1).astype(np.float32)
        norms = np.log(2*np.pi*variances).sum(1) + (means**2*precisions).sum(1)
        self.constants = (np.log(weights) - 0.5*norms).astype(np.float32)

    @classmethod
    def one_each(cls, num_pdfs, dim):
        """For every pdf the Gaussian of all frames."""
        return cls(np.ones(num_pdfs), np.zeros((num_pdfs, dim)), np.ones((num_pdfs, dim)), np.arange(num_pdfs + 1))

    @property
    def num_pdfs(self):
        return len(self.starts) - 1

    @property
    def num_gauss(self):
        return len(self.weights)

    def arrays(self):
        return {'weights': self.weights, 'means': self.means, 'variances': self.variances, 'starts': self.starts}

    def loglikes(self, x, pdfs=None):
        """ln p(x_t | pdf), [T, P] float32, of features x [T, D], for `pdfs` [P] or all."""
        pdfs = np.arange(self.num_pdfs) if pdfs is None else np.asarray(pdfs)
        firsts = self.starts[pdfs]
        sizes = self.starts[pdfs + 1] - firsts
        starts = np.concatenate([[0], np.cumsum(sizes)])
        own = np.arange(starts[-1]) + np.repeat(firsts - starts[:-1], sizes)
        rows, constants, loglikes = self.rows[own], self.constants[own, None], np.empty((len(x), len(pdfs)), np.float32)
        for t in range(0, len(x), AT_ONCE):
            part = x[t:t + AT_ONCE]
            scores = rows @ np.concatenate([part, part*part], 1).T
            scores += constants
            mixtures(scores, starts, loglikes[t:t + AT_ONCE])
        return loglikes


class Sums:
    """Occupancy, Σ γ x and Σ γ x² of the components of a Mixtures: parts of one vector, which ranks can add up."""

    def __init__(self, model):
        G, D = model.means.shape
        self.model, self.vector = model, np.zeros(G*(1 + 2*D))
        self.occupancy = self.vector[:G]
        self.first, self.second = self.vector[G:].reshape(2, G, D)

    def add(self, x, pdfs):
        """Frames x [T, D] float32, each of which belongs to one of the pdfs [T] int32."""
        accumulate(x, pdfs, self.model.starts, self.model.rows, self.model.constants, self.occupancy, self.first,
                   self.second)


def estimate(model, sums):
    """(Mixtures that maximize the likelihood of the frames in `sums`, the occupancy [G] of its components)."""
    occupancy = sums.occupancy.copy()
    pdfs = np.repeat(np.arange(model.num_pdfs), np.diff(model.starts))
    keep = occupancy >= FEWEST
    alone = np.flatnonzero(np.bincount(pdfs[keep], minlength=model.num_pdfs) == 0)
    keep[largest(occupancy, pdfs)[alone]] = True
    enough = (occupancy >= FEWEST)[keep]
    n = np.maximum(occupancy[keep], FEWEST)[:, None]
    means = np.where(enough[:, None], sums.first[keep]/n, model.means[keep])
    spread = np.maximum(sums.second[keep]/n - means**2, FLOOR)
    variances = np.where(enough[:, None], spread, model.variances[keep])
    sizes = np.bincount(pdfs[keep], minlength=model.num_pdfs)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Mixtures(shares(occupancy[keep], starts), means, variances, starts), occupancy[keep]


def largest(occupancy, pdfs):
    """[K] the component of every pdf that has the most frames; the first of equal ones."""
    order = np.lexsort((np.arange(len(pdfs)), -occupancy, pdfs))
    return order[np.flatnonzero(np.diff(pdfs[order], prepend=-1))]


def shares(occupancy, starts):
    """Occupancies as weights within every pdf."""
    total = np.repeat(np.add.reduceat(occupancy, starts[:-1]), np.diff(starts))
    sizes = np.repeat(np.diff(starts), np.diff(starts))
    weights = np.where(total > 0, occupancy/np.maximum(total, 1e-300), 1/sizes)
    weights = np.maximum(weights, LEAST_WEIGHT)
    return weights/np.repeat(np.add.reduceat(weights, starts[:-1]), np.diff(starts))


def split(model, occupancy, num_gauss):
    """More components, up to `num_gauss` in all: the largest of a pdf is halved, again and again.

    Every rank gets the same ones: how the halves are moved apart is drawn from a generator that their number seeds.
    """
    goals = targets(np.add.reduceat(occupancy, model.starts[:-1]), np.diff(model.starts), num_gauss)
    parents, weights = zip(*(halved(model, k, goal) for k, goal in enumerate(goals)), strict=True)
    starts = np.concatenate([[0], np.cumsum([len(p) for p in parents])])
    parents = np.concatenate(parents)
    means, variances = model.means[parents], model.variances[parents]
    copied = np.bincount(parents, minlength=model.num_gauss)[parents] > 1
    noise = np.random.default_rng(len(parents)).standard_normal(means.shape)
    means = means + np.where(copied[:, None], NUDGE*np.sqrt(variances)*noise, 0)
    return Mixtures(np.concatenate(weights), means, variances, starts)


def halved(model, k, goal):
    """(which component of the model each of pdf k comes from, its weight), `goal` of them."""
    first, last = model.starts[k], model.starts[k+1]
    parents, weights = list(range(first, last)), model.weights[first:last].tolist()
    while len(parents) < goal:
        g = int(np.argmax(weights))
        weights[g] /= 2
        parents.append(parents[g])
        weights.append(weights[g])
    return parents, weights


def targets(occupancy, sizes, num_gauss):
    """[K] how many components each pdf should have, num_gauss in all if there are frames enough, never fewer than now.

    The next one goes to the pdf whose occupancy^POWER is largest per component, as in Kaldi's GetSplitTargets.
    """
    goals = sizes.copy()
    heap = [(-(n**POWER)/size, k) for k, (n, size) in enumerate(zip(occupancy.tolist(), sizes.tolist(), strict=True))]
    heapq.heapify(heap)
    for _ in range(num_gauss - int(sizes.sum())):
        while heap and occupancy[heap[0][1]] < FRAMES_EACH*(goals[heap[0][1]] + 1):
            heapq.heappop(heap)
        if not heap:
            break
        k = heap[0][1]
        goals[k] += 1
        heapq.heapreplace(heap, (-(occupancy[k]**POWER)/goals[k], k))
    return goals
