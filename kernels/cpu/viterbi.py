"""The most probable path through a graph of emitting states (reference/viterbi.py); S floats and T·S choices."""

import numba
import numpy as np

BEGIN = -1


@numba.njit(nogil=True, cache=True)
def viterbi(loglikes, columns, starts, preds, weights, finals, choices):
    T, S = choices.shape
    score, before = np.full(S, -np.inf), np.full(S, -np.inf)
    path = np.zeros(T, np.int32)
    for t in range(T):
        score, before = before, score
        for s in range(S):
            best, choice = before[s], 0
            for k in range(starts[s], starts[s+1]):
                if preds[k] >= 0:
                    came = before[preds[k]] + weights[k]
                elif t == 0:
                    came = np.float64(weights[k])
                else:
                    continue
                if came > best:
                    best, choice = came, k - starts[s] + 1
            score[s] = best + loglikes[t, columns[s]]
            choices[t, s] = choice
    end, found = -1, -np.inf
    for s in range(S):
        if finals[s] and score[s] > found:
            end, found = s, score[s]
    if end < 0:
        return found, path
    for t in range(T - 1, -1, -1):
        path[t] = end
        choice = choices[t, end]
        if choice:
            end = preds[starts[end] + choice - 1]
    return found, path
