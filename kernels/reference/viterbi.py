"""The most probable path through a graph of emitting states, all of which may be stayed in (Viterbi 1967).

A graph: starts [S+1], preds, weights [A] are the arcs into its S states, starts[s] .. starts[s+1]-1 into state s;
preds BEGIN for those with which a path begins.
"""

import numpy as np

BEGIN = -1  # predecessor of the states in which a path may begin


def advance(loglikes, columns, starts, preds, weights, score, choices):
    """δ_t(s) = ln p(x_t | s) + max(δ_{t-1}(s), max_k δ_{t-1}(preds_k) + weights_k) for the T frames of loglikes [T, K].

    columns [S]     state s is scored by column columns[s]
    score [S+1]     δ before the first frame, then after the last one; the last entry is that of BEGIN: 0 before the
                    first frame of an utterance, where all others are -inf, then -inf
    choices [T, S]  unsigned integers, overwritten: 0 is staying, k+1 arc starts[s] + k, so no state may have more arcs
                    than their type counts
    Of equal paths the one that stays wins, then the first arc.
    """
    loglikes, weights = loglikes.astype(np.float64), weights.astype(np.float64)
    for t in range(len(loglikes)):
        before = score.copy()
        for s in range(len(columns)):
            best, choice = before[s], 0
            for k in range(starts[s], starts[s+1]):
                came = before[preds[k]] + weights[k]
                if came > best:
                    best, choice = came, k - starts[s] + 1
            score[s], choices[t, s] = best + loglikes[t, columns[s]], choice
        score[-1] = -np.inf


def trace(state, starts, preds, choices, path):
    """path [T] ← the way to `state` in the last of T frames; the state in the frame before the first, or BEGIN."""
    for t in range(len(path) - 1, -1, -1):
        path[t] = state
        if choices[t, state]:
            state = preds[starts[state] + choices[t, state] - 1]
    return state
