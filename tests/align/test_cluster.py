"""The phonetic tree against slow greedy searches over the frames themselves."""

import itertools

import numpy as np
import pytest

from hpcasr.align import cluster
from hpcasr.align.cluster import Statistics, grow, likelihood, phone_sets, stand_in, sums, variance_floor
from hpcasr.align.tree import Tree, leaves
from hpcasr.comm.base import Comm
from hpcasr.errors import BadInput

P, S, D = 5, 2, 3
PHONES = ['SIL', 'A', 'B', 'C', 'D']


def frames(seed=0, T=600, phones=P, seen=None):
    """(states [T, 4]: phone, state, left, right; x [T, D]) whose means depend on all four."""
    rng = np.random.default_rng(seed)
    state = np.stack([rng.integers(0, n, T) for n in (phones, S, phones, phones)], 1)
    if seen is not None:
        state = state[np.isin(state[:, 0], seen)]
    means = rng.normal(size=(4, phones, D))*np.array([3, 1, 1.5, 1])[:, None, None]
    x = sum(means[k, state[:, k]] for k in range(4)) + rng.normal(size=(len(state), D))
    return state, x.astype(np.float32)


def codes(state, phones=P):
    phone, s, left, right = state.T
    return ((phone*S + s)*phones + left)*phones + right


def collected(state, x, parts=1, phones=P):
    statistics = Statistics(D)
    for part in np.array_split(np.arange(len(x)), parts):
        statistics.add(codes(state[part], phones), x[part])
    return statistics


def floor_of(x):
    return 0.01*np.var(x, 0, dtype=np.float64)


def gaussian(x, floor):
    """Log-likelihood of x [n, D] under its own Gaussian, frame by frame."""
    if not len(x):
        return 0
    x = x.astype(np.float64)
    mean, variance = x.mean(0), np.maximum(x.var(0), floor)
    return float((-0.5*(np.log(2*np.pi*variance) + (x - mean)**2/variance)).sum())


def pdfs(tree, state):
    return np.array([tree.pdf(left, phone, right, s) for phone, s, left, right in state])


def total(tree, state, x):
    """Log-likelihood of all frames, one Gaussian per pdf."""
    own, floor = pdfs(tree, state), floor_of(x)
    return sum(gaussian(x[own == pdf], floor) for pdf in np.unique(own))


def slow(state, x, questions, most, min_count):
    """Greedy splits over the frames: the sets of frames of the leaves."""
    floor = floor_of(x)
    parts = [np.flatnonzero((state[:, 0] == p) & (state[:, 1] == s)) for p in range(P) for s in range(S)]
    parts = [part for part in parts if len(part)]
    while len(parts) < most:
        best = 1e-6, None, None
        for part, side, question in itertools.product(parts, (2, 3), questions):
            yes = np.isin(state[part, side], question)
            if state[part[0], 0] == 0 or min(yes.sum(), (~yes).sum()) < min_count:
                continue
            gain = gaussian(x[part[yes]], floor) + gaussian(x[part[~yes]], floor) - gaussian(x[part], floor)
            if gain > best[0] + 1e-6:
                best = gain, part, yes
        if best[1] is None:
            break
        parts = [part for part in parts if part is not best[1]] + [best[1][best[2]], best[1][~best[2]]]
    return {tuple(part) for part in parts}


def partition(tree, state):
    own = pdfs(tree, state)
    return {tuple(np.flatnonzero(own == pdf)) for pdf in np.unique(own)}


def questions_of(statistics, x):
    state, table = sums(statistics.table, statistics.codes//P**2)
    return phone_sets(cluster.spread(table, state, P*S).reshape(P, S, -1), floor_of(x))


def test_statistics_are_sums_over_frames():
    state, x = frames()
    statistics = collected(state, x, 7)
    statistics.add(np.zeros(0, np.int64), np.zeros((0, D)))
    own = codes(state)
    assert sorted(statistics.codes) == sorted(set(own))
    for code, row in zip(statistics.codes, statistics.table, strict=True):
        part = x[own == code].astype(np.float64)
        np.testing.assert_allclose(row, [len(part), *part.sum(0), *(part**2).sum(0)], rtol=1e-12)


def test_room_for_more_states_than_expected():
    statistics = Statistics(1)
    for a in range(0, 5000, 100):
        statistics.add(np.arange(a, a + 100), np.arange(a, a + 100)[:, None])
    assert statistics.table[:, 1].tolist() == statistics.codes.tolist() == list(range(5000))


def test_likelihood_is_that_of_the_frames():
    state, x = frames()
    table = collected(state, x).table
    rows = np.stack([table.sum(0), table[:10].sum(0), 0*table[0]])
    own = np.isin(codes(state), collected(state, x).codes[:10])
    floor = floor_of(x)
    np.testing.assert_allclose(likelihood(rows, floor), [gaussian(x, floor), gaussian(x[own], floor), 0], rtol=1e-9)


def test_constant_frames_have_a_floor_too():
    for value in 0, 7:
        statistics = collected(*[y[:10] for y in frames()])
        statistics.room[:, 1:] = statistics.room[:, :1]*np.repeat([value, value**2], D)
        floor = variance_floor(statistics.table.sum(0))
        assert (floor > 0).all() and np.isfinite(likelihood(statistics.table, floor)).all()
        assert grow(statistics, PHONES, S, 50, 1).num_pdfs == len(set(statistics.codes//P**2))


def test_phones_that_sound_alike_are_asked_for_together():
    """Merging over the frames, pair by pair."""
    state, x = frames(3)
    floor, groups, found = floor_of(x), [(p,) for p in range(1, P)], []

    def value(group):
        return sum(gaussian(x[np.isin(state[:, 0], group) & (state[:, 1] == s)], floor) for s in range(S))
    while len(groups) > 2:
        a, b = min(itertools.combinations(groups, 2), key=lambda ab: value(ab[0]) + value(ab[1]) - value(ab[0] + ab[1]))
        groups = [g for g in groups if g not in (a, b)] + [tuple(sorted(a + b))]
        found.append(list(groups[-1]))
    assert questions_of(collected(state, x), x) == found[::-1] + [[p] for p in range(P)]


@pytest.mark.parametrize('most, min_count', [(10, 1), (11, 1), (14, 5), (20, 1), (30, 10), (1000, 12), (60, 1)])
@pytest.mark.parametrize('seed', [0, 1])
def test_the_tree_is_that_of_a_slow_search(most, min_count, seed):
    state, x = frames(seed, T=400)
    statistics = collected(state, x)
    tree = grow(statistics, PHONES, S, most, min_count)
    assert partition(tree, state) == slow(state, x, questions_of(statistics, x), most, min_count)


def test_every_split_gains():
    state, x = frames()
    statistics = collected(state, x)
    grown = [total(grow(statistics, PHONES, S, n, 5), state, x) for n in range(10, 40)]
    gains = np.diff(grown)
    assert (gains > 0).all()


@pytest.mark.parametrize('min_count', [1, 8, 20, 10**9])
def test_leaves_have_frames_enough_and_are_not_too_many(min_count):
    state, x = frames()
    for most in 1, 10, 17, 25, 10**6:
        tree = grow(collected(state, x), PHONES, S, most, min_count)
        counts = np.bincount(pdfs(tree, state), minlength=tree.num_pdfs)
        assert P*S <= tree.num_pdfs <= max(most, P*S)
        assert tree.num_pdfs == P*S or counts[state_leaves(tree)].min() >= min_count
        assert all(isinstance(tree.roots[s], int) for s in range(S))  # silence
        assert Tree.loads(tree.dumps(), 'x').dumps() == tree.dumps()


def state_leaves(tree):
    """Pdfs that a question made."""
    return [pdf for root in tree.roots if not isinstance(root, int) for pdf in leaves(root)]


@pytest.mark.parametrize('parts', [2, 5, 100])
def test_the_order_of_the_frames_is_of_no_account(parts):
    state, x = frames(T=3000)
    whole = grow(collected(state, x), PHONES, S, 40, 5).dumps()
    again = np.random.default_rng(1).permutation(len(x))
    assert grow(collected(state[again], x[again], parts), PHONES, S, 40, 5).dumps() == whole


class Learner(Comm):
    """One of several, that has heard the others already."""

    def __init__(self, everyone, rank):
        super().__init__()
        self.everyone, self.rank, self.size = everyone, rank, len(everyone)

    def allgather(self, value):
        assert value == self.everyone[self.rank].codes.tobytes()
        return [s.codes.tobytes() for s in self.everyone]

    def sum_ordered(self, x):
        x += sum(merged_alone(s, x.size) for n, s in enumerate(self.everyone) if n != self.rank)


def merged_alone(statistics, size):
    union = np.unique(np.concatenate([s.codes for s in EVERYONE]))
    table = np.zeros((len(union), 1 + 2*D))
    table[np.searchsorted(union, statistics.codes)] = statistics.table
    assert table.size == size
    return table.reshape(-1)


EVERYONE = []


@pytest.mark.parametrize('ranks', [1, 2, 3, 7])
def test_learners_grow_one_tree(ranks):
    state, x = frames(T=2000)
    EVERYONE[:] = [collected(state[r::ranks], x[r::ranks]) for r in range(ranks - 1)] + [Statistics(D)]  # one has none
    if ranks > 1:
        last = slice(ranks - 1, None, ranks)
        EVERYONE[0].add(codes(state[last]), x[last])
    else:
        EVERYONE[0] = collected(state, x)
    whole = grow(collected(state, x), PHONES, S, 40, 5).dumps()
    for rank in range(ranks):
        merged = EVERYONE[rank].merged(Learner(EVERYONE, rank))
        assert grow(merged, PHONES, S, 40, 5).dumps() == whole
        merged.add(codes(state), x)  # and go on


@pytest.mark.mpi
def test_ranks_grow_one_tree():
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    state, x = frames(T=2000)
    own = slice(comm.rank, None, comm.size) if comm.rank else slice(0, None, comm.size)
    merged = collected(state[own], x[own]).merged(comm)
    comm.compare({'codes': merged.codes.tolist(), 'table': merged.table.tobytes().hex()})
    tree = grow(merged, PHONES, S, 40, 5).dumps()
    comm.compare({'tree': tree})
    assert tree == grow(collected(state, x), PHONES, S, 40, 5).dumps()


def test_what_was_never_seen_shares_the_pdfs_of_its_like():
    phones = ['SIL', 'AH0', 'AH1', 'B', 'K']
    state, x = frames(seen=[0, 1, 3])
    state, x = state[state[:, 0] != 3], x[state[:, 0] != 3]
    more, y = frames(5, seen=[3])
    more, y = more[more[:, 1] == 1], y[more[:, 1] == 1]
    tree = grow(collected(np.concatenate([state, more, more]), np.concatenate([x, y, y])), phones, S, 40, 5)
    assert tree.pdfs(-1, 2, 3) == tree.pdfs(-1, 1, 3)                          # AH1 as AH0, in every context
    assert tree.pdf(-1, 3, 1, 0) == tree.pdf(-1, 3, 1, 1)                      # B has one state
    assert tree.pdf(-1, 4, 1, 1) == tree.pdf(-1, 3, 1, 1)                      # K: B is more frequent there than AH0
    assert tree.pdf(-1, 4, 1, 0) == tree.pdf(-1, 1, 1, 0)                      # where B has no frames
    assert Tree.loads(tree.dumps(), 'x').num_pdfs == tree.num_pdfs


@pytest.mark.parametrize('k, found', [(2, 3), (4, 5), (6, 7), (8, 1), (9, 7)])
def test_stand_in(k, found):
    """Two states of SIL, B, AA1_B, AA_I, K of which only some have frames."""
    assert stand_in(k, {1: 50, 3: 9, 5: 2, 7: 20}, ['SIL', 'B', 'AA1_B', 'AA_I', 'K'], 2) == found


def test_only_silence_was_seen():
    state, x = frames(seen=[0])
    tree = grow(collected(state, x), PHONES, S, 40, 5)
    assert tree.num_pdfs == 2 and {tree.pdf(1, p, 2, 1) for p in range(P)} == {1}


def test_phones_without_a_single_frame_of_theirs_as_neighbours():
    state, x = frames(phones=3)
    tree = grow(collected(state, x, phones=P), PHONES, S, 40, 5)
    assert tree.num_pdfs > 6 and max(pdf for root in tree.roots for pdf in leaves(root)) == tree.num_pdfs - 1


def test_no_frames():
    with pytest.raises(BadInput, match='a phonetic tree needs frames'):
        grow(Statistics(3), PHONES, S, 40, 5)


def test_a_big_inventory():
    """200 phones, as Kaldi's that know their position in the word."""
    state, x = frames(T=20_000, phones=200)
    tree = grow(collected(state, x, phones=200), [f'p{p}' for p in range(200)], S, 900, 5)
    assert tree.num_pdfs == 900
