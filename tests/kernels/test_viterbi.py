from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cpu import viterbi as compiled
from hpcasr.kernels.reference import viterbi as reference
from hpcasr.kernels.reference.viterbi import BEGIN

KERNELS = pytest.mark.parametrize('kernel', [reference, compiled], ids=['reference', 'cpu'])


def viterbi(kernel, loglikes, columns, starts, preds, weights, finals, choices, cut=0):
    """(score, path), the frames in two blocks cut at `cut`; (-inf, zeros) if there is no path."""
    score, path = np.full(len(columns) + 1, -np.inf), np.zeros(len(loglikes), np.int32)
    score[BEGIN] = 0
    for part in slice(0, cut), slice(cut, None):
        kernel.advance(loglikes[part], columns, starts, preds, weights, score, choices[part])
    ends = np.where(finals, score[:-1], -np.inf)
    state = int(ends.argmax())
    if ends[state] == -np.inf:
        return -np.inf, path
    for part in slice(cut, None), slice(0, cut):
        state = kernel.trace(state, starts, preds, choices[part], path[part])
    assert state == BEGIN
    return ends.max(), path


def graph(seed, S, K):
    """Random arcs, from states with lower numbers only, and some that begin."""
    rng = np.random.default_rng([seed, S])
    preds = [[BEGIN]*(s == 0 or rng.random() < 0.3) + [p for p in range(s) if rng.random() < 0.5] for s in range(S)]
    starts = np.concatenate([[0], np.cumsum([len(p) for p in preds])]).astype(np.int32)
    flat = np.array([p for of_one in preds for p in of_one], np.int32)
    return (rng.integers(0, K, S).astype(np.int32), starts, flat, rng.normal(size=len(flat)).astype(np.float32),
            rng.random(S) < 0.5)


def scores_of_all(loglikes, columns, starts, preds, weights, finals):
    """{path: score} of every path there is: a definition without dynamic programming."""
    found = {}
    for path in product(range(len(columns)), repeat=len(loglikes)):
        ways = [[weights[k] for k in range(starts[s], starts[s+1]) if preds[k] == before] + [0]*(s == before)
                for before, s in zip([BEGIN, *path], path, strict=False)]
        if all(ways) and finals[path[-1]]:
            found[path] = (sum(max(w) for w in ways)
                           + sum(float(loglikes[t, columns[s]]) for t, s in enumerate(path)))
    return found


@KERNELS
@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), T=st.integers(1, 5), S=st.integers(1, 4))
def test_the_best_of_all_paths(kernel, seed, T, S):
    g = graph(seed, S, 3)
    loglikes = np.random.default_rng(seed).normal(size=(T, 3)).astype(np.float32)
    all_paths = scores_of_all(loglikes, *g)
    score, path = viterbi(kernel, loglikes, *g, np.empty((T, S), np.uint8))
    if not all_paths:
        assert score == -np.inf and not path.any()
    else:
        assert score == pytest.approx(max(all_paths.values()), abs=1e-5)
        assert all_paths[tuple(path.tolist())] == pytest.approx(score, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), T=st.integers(1, 30), S=st.integers(1, 20), ties=st.booleans())
def test_compiled_is_the_reference(seed, T, S, ties):
    g = graph(seed, S, 4)
    loglikes = np.random.default_rng(seed).normal(size=(T, 4)).astype(np.float32)*(not ties)
    results = [viterbi(kernel, loglikes, *g, np.empty((T, S), np.uint8), seed % T) for kernel in (reference, compiled)]
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


@KERNELS
def test_a_long_utterance_keeps_its_digits(kernel):
    """3,000 frames of -1000 each: the difference of 0.01 in one frame decides, which float32 sums would lose."""
    T = 3000 if kernel is compiled else 300
    loglikes = np.full((T, 2), -1000, np.float32)
    loglikes[7, 1] += 0.01
    g = (np.array([0, 1], np.int32), np.array([0, 1, 2], np.int32), np.array([BEGIN, BEGIN], np.int32),
         np.zeros(2, np.float32), np.ones(2, bool))
    score, path = viterbi(kernel, loglikes, *g, np.empty((T, 2), np.uint8))
    assert path.all() and score == pytest.approx(-1000*T + 0.01, abs=1e-3)


@KERNELS
@pytest.mark.parametrize('dtype', ['uint8', 'uint16', 'uint32'])
def test_many_predecessors(kernel, dtype):
    """The 254th of as many arcs is the best."""
    S = 255
    preds = np.array([BEGIN]*(S - 1) + list(range(S - 1)), np.int32)
    starts = np.concatenate([np.arange(S), [2*S - 2]]).astype(np.int32)
    weights = np.zeros(len(preds), np.float32)
    weights[-1] = 1
    finals = np.arange(S) == S - 1
    score, path = viterbi(kernel, np.zeros((2, 1), np.float32), np.zeros(S, np.int32), starts, preds, weights, finals,
                         np.empty((2, S), dtype))
    assert score == 1 and path.tolist() == [S - 2, S - 1]
