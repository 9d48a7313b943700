"""The most probable path through a graph of emitting states, all of which may be stayed in (Viterbi 1967)."""

import numpy as np

BEGIN = -1  # predecessor of the states in which a path may begin


def viterbi(loglikes, columns, starts, preds, weights, finals, choices):
    """δ_t(s) = ln p(x_t | s) + max(δ_{t-1}(s), max_k δ_{t-1}(preds_k) + weights_k), k in starts[s] .. starts[s+1]-1.

    loglikes [T, K] float32; state s is scored by column columns[s].  preds, weights [A]: arcs into the states, BEGIN
    for those of the first frame.  finals [S] bool: where a path may end.
    choices [T, S] unsigned integers, overwritten: 0 is staying, k+1 arc starts[s] + k, so no state may have more arcs
    than their type counts.  Of equal paths the one that stays wins, then the first arc.
    -> (score float64, path [T] int32 of states); (-inf, zeros) if no path has T states
    """
    T, S = len(loglikes), len(columns)
    loglikes, weights = loglikes.astype(np.float64), weights.astype(np.float64)
    score = np.full(S, -np.inf)
    for t in range(T):
        before, score = score, np.full(S, -np.inf)
        for s in range(S):
            best, choice = before[s], 0
            for k in range(starts[s], starts[s+1]):
                came = weights[k] + ((0. if t == 0 else -np.inf) if preds[k] == BEGIN else before[preds[k]])
                if came > best:
                    best, choice = came, k - starts[s] + 1
            score[s], choices[t, s] = best + loglikes[t, columns[s]], choice
    return trace(score, starts, preds, finals, choices)


def trace(score, starts, preds, finals, choices):
    """The best final state, and the way back from it."""
    T, S = choices.shape
    path = np.zeros(T, np.int32)
    ends = np.where(finals, score, -np.inf)
    s = int(np.argmax(ends)) if S else 0
    if not S or ends[s] == -np.inf:
        return -np.inf, path
    for t in range(T - 1, -1, -1):
        path[t] = s
        if choices[t, s]:
            s = preds[starts[s] + choices[t, s] - 1]
    return float(ends[path[-1]]), path
