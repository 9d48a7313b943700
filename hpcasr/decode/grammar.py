"""The grammar: an n-gram model as an acceptor with back-off arcs (Mohri, Pereira and Riley, CSL 2002)."""

import numpy as np

from hpcasr.decode.fst import EPSILON, Fst, arcs_of
from hpcasr.decode.ngram import NGram

ROOT = 0  # the state without history


def grammar(model: NGram, backoff_word):
    """G: word labels (id in the model + 1) on both sides; a back-off arc has label `backoff_word` : ε.

    A state is a history that some n-gram extends, and <s>.
    """
    states, targets, extra, total = histories(model)
    finals, parts = np.full(total, np.inf, np.float32), []
    for n, (table, logp) in enumerate(zip(model.grams, model.logp, strict=True), 1):
        source = states[n - 1][model.find(table[:, :-1])]
        ends, goes = table[:, -1] == model.end, np.isfinite(logp)
        finals[source[ends & goes]] = -logp[ends & goes]
        goes &= ~ends
        label = table[goes, -1] + 1
        parts.append((source[goes], arcs_of(label, label, (extra[n] - logp)[goes], targets[n][goes])))
        parts.append(backoff_arcs(model, n, states, targets, extra, backoff_word))
    source, arcs = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Fst(int(targets[1][model.start]), finals, source.astype(np.int32), arcs)


def histories(model):
    """Per order 0 ... N: the state that an n-gram is (-1: none); the state that follows it, which is its longest
    suffix that is a state; the cost of backing off to there.  At last the number of states."""
    states, targets, extra = [np.array([ROOT])], [np.array([ROOT])], [np.zeros(1)]
    total = 1
    for n, table in enumerate(model.grams, 1):
        longer = model.grams[n] if n < model.order else np.zeros((0, n + 1), int)
        mine = np.bincount(model.find(longer[:, :-1]), minlength=len(table)) > 0
        if n == 1:
            mine[model.start] = True
        suffix = model.find(table[:, 1:])
        states.append(np.where(mine, total + np.cumsum(mine) - 1, -1))
        targets.append(np.where(mine, states[n], targets[n - 1][suffix]))
        extra.append(np.where(mine, 0, extra[n - 1][suffix] - model.backoff[n - 1]))
        total += int(mine.sum())
    return states, targets, extra, total


def backoff_arcs(model, n, states, targets, extra, backoff_word):
    """Sources and arcs from the histories of n words to their longest suffixes."""
    mine = states[n] >= 0
    suffix = model.find(model.grams[n - 1][mine, 1:])
    weight = extra[n - 1][suffix] - model.backoff[n - 1][mine]
    return states[n][mine], arcs_of(backoff_word, EPSILON, weight, targets[n - 1][suffix])
