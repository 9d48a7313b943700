"""The most probable path through a graph of emitting states (reference/viterbi.py)."""

import numpy as np

from hpcasr.kernels.cpu.compiled import compiled

CHOICES = 'u1[:,::1]', 'u2[:,::1]', 'u4[:,::1]'
GRAPH = 'i4[::1], i4[::1]'  # starts, preds


@compiled(*(f'void(f4[:,::1], i4[::1], {GRAPH}, f4[::1], f8[::1], {choices})' for choices in CHOICES))
def advance(loglikes, columns, starts, preds, weights, score, choices):
    T, S = choices.shape
    before = np.empty_like(score)
    for t in range(T):
        for s in range(S + 1):
            before[s] = score[s]
        for s in range(S):
            best, choice = before[s], 0
            for k in range(starts[s], starts[s+1]):
                came = before[preds[k]] + weights[k]  # before[-1] where a path begins
                if came > best:
                    best, choice = came, k - starts[s] + 1
            score[s] = best + loglikes[t, columns[s]]
            choices[t, s] = choice
        score[S] = -np.inf


@compiled(*(f'i8(i8, {GRAPH}, {choices}, i4[::1])' for choices in CHOICES))
def trace(state, starts, preds, choices, path):
    for t in range(len(path) - 1, -1, -1):
        path[t] = state
        choice = choices[t, state]
        if choice:
            state = preds[starts[state] + choice - 1]
    return state
