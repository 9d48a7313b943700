from itertools import pairwise
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.bench.paired import interval, order, ratio

times = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=9)


def at_most(n, k):
    """P(median of n draws ≤ the k-th smallest of n distinct values), n odd: more than half of them are."""
    return sum(comb(n, j)*(k/n)**j*(1 - k/n)**(n - j) for j in range(n//2 + 1, n + 1))


@pytest.mark.parametrize('n', [1, 3, 7, 15, 31])
def test_the_interval_is_that_of_the_binomial_distribution(n):
    values = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    low, high = interval(values)
    for bound, share in (low, 0.025), (high, 0.975):  # 10,000 replicates know a share within 0.005
        assert at_most(n, bound - 1) < share + 0.005 and at_most(n, bound) > share - 0.005


@given(times)
def test_what_slows_both_of_a_pair_changes_nothing(seconds):
    slow = np.array(seconds)
    assert ratio(3*slow, 2*slow) == pytest.approx({'ratio': 1.5, 'low': 1.5, 'high': 1.5})
    assert ratio(slow, slow) == {'ratio': 1, 'low': 1, 'high': 1}


@given(times, st.integers(0, 2**32))
def test_an_interval_lies_around_the_median_and_within_the_values(values, seed):
    low, high = interval(values, 200, seed)
    assert min(values) <= low <= np.median(values) <= high <= max(values)


def test_pairs_not_means_are_compared():
    found = ratio([1, 10, 100], [2, 20, 50])
    assert found['ratio'] == 0.5 and (found['low'], found['high']) == (0.5, 2)


@given(st.integers(1, 12), st.integers(0, 50))
def test_each_takes_its_turn_once(n, turn):
    assert sorted(order(n, turn)) == list(range(n)) and order(n, turn) == order(n, turn)


def test_none_follows_the_same_one_all_the_time():
    follows = {pair for turn in range(7) for pair in pairwise(order(9, turn))}
    assert all(len({a for a, b in follows if b == k}) > 2 for k in range(9))
