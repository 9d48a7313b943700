"""The phonetic decision tree: contexts of a phone state share a pdf if few questions about neighbours tell them apart.

S. Young, J. Odell and P. Woodland, "Tree-based state tying for high accuracy acoustic modelling", HLT 1994; Kaldi's
cluster-phones and build-tree.  A leaf is modelled by one Gaussian of diagonal covariance, for which frames, Σx and Σx²
suffice: they are collected in a pass over the frames, and the tree needs only them.
"""

import re
from heapq import heapify, heappop, heappush
from itertools import count

import numpy as np

from hpcasr.align.tree import Tree
from hpcasr.errors import BadInput

FLOOR = 0.01  # of the variance of all frames, as Kaldi's for normalized features
SAME = 1e-9   # nats per frame: gains closer than that are equal, else rounding chose among questions that split alike
SIDES = 'left', 'right'


class Statistics:
    """Frames, Σx and Σx² of every (phone, state, left, right) that occurs, in float64.

    dim     D, columns of x
    codes   [K] int64: ((phone*S + state)*P + left)*P + right, in the order in which they were first met
    table   [K, 1+2D]: frames, Σx, Σx²
    """

    def __init__(self, dim):
        self.dim, self.index, self.room = dim, {}, np.zeros((1024, 1 + 2*dim))

    @property
    def codes(self):
        return np.fromiter(self.index, np.int64, len(self.index))

    @property
    def table(self):
        return self.room[:len(self.index)]

    def add(self, codes, x):
        """Count the frames x [T, D] of the states `codes` [T]."""
        if not len(codes):
            return
        order = np.argsort(codes, kind='stable')
        codes, first = np.unique(np.asarray(codes)[order], return_index=True)
        x, rows, D = np.asarray(x, np.float64)[order], self.rows(codes), self.dim
        self.room[rows, 0] += np.diff(first, append=len(order))
        self.room[rows, 1:D+1] += np.add.reduceat(x, first)
        self.room[rows, D+1:] += np.add.reduceat(x*x, first)

    def rows(self, codes):
        """Where distinct codes are in the table; new ones get room."""
        rows = [self.index.setdefault(code, len(self.index)) for code in codes.tolist()]
        if len(self.index) > len(self.room):
            room = np.zeros((2*len(self.index), self.room.shape[1]))
            room[:len(self.room)] = self.room
            self.room = room
        return rows

    def merged(self, comm):
        """The Statistics of all learners, the same bits on every one of them; collective."""
        everywhere = comm.allgather(self.codes.tobytes())
        codes = np.unique(np.concatenate([np.frombuffer(b, np.int64) for b in everywhere]))
        total = Statistics(self.dim)
        total.room = np.zeros((len(codes), 1 + 2*self.dim))
        total.index = {code: row for row, code in enumerate(codes.tolist())}
        total.room[np.searchsorted(codes, self.codes)] = self.table
        comm.sum_ordered(total.room.reshape(-1))
        return total


def likelihood(table, floor):
    """[...] log-likelihoods in nats of the frames behind table [..., 1+2D], each under the best Gaussian for them whose
    variances are at least floor [D]; 0 for no frames."""
    D = len(floor)
    n = np.maximum(table[..., :1], 1)
    mean = table[..., 1:D+1]/n
    variance = np.maximum(table[..., D+1:]/n - mean*mean, 0)
    floored = np.maximum(variance, floor)
    return -0.5*table[..., 0]*(D*np.log(2*np.pi) + (np.log(floored) + variance/floored).sum(-1))


def variance_floor(total):
    """[D] from the sum of a table; positive even where all frames have the same value."""
    D = len(total)//2
    mean, square = total[1:D+1]/total[0], total[D+1:]/total[0]
    return np.maximum(np.maximum(FLOOR*(square - mean*mean), 1e-8*square), 1e-30)


def sums(table, keys):
    """The distinct keys [k], sorted, and the sums of their rows [k, 1+2D]."""
    order = np.argsort(keys, kind='stable')
    keys, first = np.unique(keys[order], return_index=True)
    return keys, np.add.reduceat(table[order], first)


def grow(statistics, phones, states, leaves, min_count):
    """The Tree with at most so many leaves, but at least one for every (phone, state) of the Statistics.

    Always the leaf is split that gains the most likelihood, by the question that does, as long as both parts have
    min_count frames.  Silence, phone 0, is the same in every context.  A (phone, state) without frames shares the pdfs
    of its `stand_in`.  Raises BadInput without any frames.  Nothing is random, but BLAS differs among machines: where
    several grow a tree, one should, and tell the others.
    """
    if not statistics.index:
        raise BadInput('a phonetic tree needs frames, and the alignment has none; align stores that have some')
    P = len(phones)
    order = np.argsort(statistics.codes)
    codes, table = statistics.codes[order], statistics.table[order]
    assert 0 <= codes[0] <= codes[-1] < P**3*states, (codes[0], codes[-1], P, states)
    seen, whole = sums(table, codes//(P*P))
    floor = variance_floor(table.sum(0))
    questions = membership(phone_sets(spread(whole, seen, P*states).reshape(P, states, -1), floor), P)
    search = Search(table, np.stack([codes//P % P, codes % P], 1), questions, floor, max(min_count, 1))
    bounds = np.searchsorted(codes, [seen*P*P, (seen + 1)*P*P]).T
    roots = {int(k): Leaf(np.arange(a, b), search if k >= states else None)
             for k, (a, b) in zip(seen, bounds, strict=True)}
    split(roots.values(), search, leaves)
    return planted(roots, dict(zip(seen.tolist(), whole[:, 0], strict=True)), phones, states)


def spread(rows, places, n):
    table = np.zeros((n, rows.shape[1]))
    table[places] = rows
    return table


def split(roots, search, leaves):
    """Split the leaves below the roots, the best first, until there are so many or nothing is gained."""
    born, size = count(), len(roots)
    heap = [(-leaf.gain, next(born), leaf) for leaf in roots if leaf.gain > 0]
    heapify(heap)
    while heap and size < leaves:
        for child in heappop(heap)[2].divide(search):
            if child.gain > 0:
                heappush(heap, (-child.gain, next(born), child))
        size += 1


def planted(roots, frames, phones, states):
    """The Tree of {phone*S + state: Leaf}, pdfs numbered in the order of its leaves."""
    pdfs = count()
    nodes = {k: roots[k].node(pdfs) for k in sorted(roots)}
    stands = [k if k in nodes else stand_in(k, frames, phones, states) for k in range(len(phones)*states)]
    return Tree(phones, states, 3, [nodes[k] for k in stands], next(pdfs))


class Leaf:
    """Contexts that share a pdf: rows of the table; and what is gained by the best question about them.

    search   None: no question is asked
    """

    def __init__(self, rows, search):
        self.rows, self.children = rows, None
        self.gain, self.side, self.question = search.best(rows) if search else (0, 0, 0)

    def divide(self, search):
        """Ask the best question; return the two new leaves, yes and no."""
        yes = search.answers(self.rows, self.side, self.question)
        self.ask, self.phones = SIDES[self.side], np.flatnonzero(search.questions[self.question]).tolist()
        self.children = Leaf(self.rows[yes], search), Leaf(self.rows[~yes], search)
        return self.children

    def node(self, pdfs):
        """The node of a Tree; `pdfs` yields the numbers of leaves."""
        if not self.children:
            return next(pdfs)
        yes, no = (child.node(pdfs) for child in self.children)
        return {'ask': self.ask, 'phones': self.phones, 'yes': yes, 'no': no}


class Search:
    """All questions about all contexts.

    table, neighbours   [K, 1+2D], [K, 2]: statistics of a context, and the phones to its left and right
    questions           [Q, P] bool
    """

    def __init__(self, table, neighbours, questions, floor, min_count):
        self.table, self.neighbours, self.questions, self.floor = table, neighbours, questions, floor
        self.numbers, self.min_count = questions.astype(np.float64), min_count

    def best(self, rows):
        """gain in nats, side, question; gain 0 if there is none."""
        total = self.table[rows].sum(0)
        if total[0] < 2*self.min_count:
            return 0, 0, 0
        gains = np.stack([self.gains(rows, side, total) for side in (0, 1)])
        same = SAME*total[0]
        if gains.max() <= same:
            return 0, 0, 0
        side, question = divmod(int(np.argmax(gains >= gains.max() - same)), gains.shape[1])
        return gains[side, question], side, question

    def gains(self, rows, side, total):
        """[Q] of every question; -inf where a part would have too few frames."""
        phones, table = sums(self.table[rows], self.neighbours[rows, side])
        yes = self.numbers[:, phones] @ table
        no = total - yes
        gains = likelihood(yes, self.floor) + likelihood(no, self.floor) - likelihood(total, self.floor)
        return np.where(np.minimum(yes[:, 0], no[:, 0]) >= self.min_count, gains, -np.inf)

    def answers(self, rows, side, question):
        return self.questions[question, self.neighbours[rows, side]]


def membership(sets, P):
    """[Q, P] bool: whether a phone is in a set."""
    questions = np.zeros((len(sets), P), bool)
    for question, phones in zip(questions, sets, strict=True):
        question[list(phones)] = True
    return questions


def phone_sets(table, floor):
    """What to ask: phones that sound alike, then every single phone.  Lists of indices.

    table   [P, S, 1+2D] statistics of the states of the phones
    The phones but silence are merged, two groups at a time, those that lose the least likelihood with one Gaussian per
    state; every group on the way is a question.  The last, all of them, is the complement of silence.
    """
    groups = {p: [p] for p in range(1, len(table)) if table[p, :, 0].any()}
    table, merged = table.copy(), []
    losses = np.full((len(table), len(table)), np.inf)
    for p in groups:
        losses[p, p+1:] = loss(table, p, groups, floor)[p+1:]
    while len(groups) > 2:
        a, b = closest(losses, SAME*table[..., 0].sum())
        groups[a] = sorted(groups[a] + groups.pop(b))
        merged.append(groups[a])
        table[a] += table[b]
        losses[b] = losses[:, b] = np.inf
        others = loss(table, a, groups, floor)
        losses[a, a+1:], losses[:a, a] = others[a+1:], others[:a]
    return merged[::-1] + [[p] for p in range(len(table))]


def loss(table, p, groups, floor):
    """[P] nats lost by merging p with each of the groups; inf for itself and for what is no group."""
    own, others = likelihood(table[p], floor).sum(), [q for q in groups if q != p]
    lost = np.full(len(table), np.inf)
    lost[others] = own + likelihood(table[others], floor).sum(-1) - likelihood(table[others] + table[p], floor).sum(-1)
    return lost


def closest(losses, same):
    """The first pair that loses the least."""
    a, b = divmod(int(np.argmax(losses <= losses.min() + same)), len(losses))
    return a, b


def stand_in(k, frames, phones, states):
    """The (phone, state) whose pdfs k, which has no frames, shares: p*S + s.

    The nearest state of the phone; else that state of the most frequent phone that differs in stress or in position in
    the word only (AH0, AH1; AH_B, AH_I); else of the most frequent phone but silence; else of silence; else the most
    frequent state of all.
    frames   {p*S + s: number} of those that have some
    """
    p, s = divmod(k, states)
    if own := [j for j in frames if j//states == p]:
        return min(own, key=lambda j: (abs(j % states - s), j))
    same = [j for j in frames if j % states == s]
    speech = [j for j in same if j >= states]
    alike = [j for j in speech if base(phones[j//states]) == base(phones[p])]
    return max(alike or speech or same or frames, key=lambda j: (frames[j], -j))


def base(phone):
    """AH0 → AH, AH1_B → AH."""
    return re.sub(r'\d+$', '', re.sub(r'_[BEIS]$', '', phone)) or phone
