"""Interpolated Kneser-Ney smoothing with three discounts (Chen and Goodman, TR-10-98, Harvard 1998, section 3).

    p(w | h) = max(c(hw) - D(c(hw)), 0)/Σ c(h·) + γ(h) p(w | h'),   γ(h) = Σ_w D(c(hw))/Σ c(h·)

h' is h without its first word; below p(w) lies the uniform distribution over the vocabulary.  c counts occurrences
for the highest order and for what begins with <s>; else the different words before hw.
"""

import numpy as np

from hpcasr.decode.ngram import END, START, UNKNOWN, NGram, history_lengths, search, stream
from hpcasr.errors import BadInput

FIXED = np.array([0, 0.5, 1, 1.5])  # discounts of counts 0, 1, 2, more, where a text is too small to estimate them


def estimate(sentences, vocabulary, order):
    """The NGram of `order` of the text [[word]] over the words `vocabulary`, which needs no <s> and </s>.

    A word of the text that is not in the vocabulary ends the history of what follows.  Words of the vocabulary that
    are not in the text share what the discounts of the unigrams leave.  Raises BadInput if no word is known.
    """
    words = [*vocabulary, START, END]
    ids = stream(sentences, {word: i for i, word in enumerate(words)})
    if not ((ids >= 0) & (ids < len(vocabulary))).any():
        raise BadInput('the text has no word of the lexicon')
    counts = modified_counts(*occurrences(ids, len(words), order), len(words))
    return smooth(words, *counts)


def occurrences(ids, V, order):
    """Per order the different n-grams of a stream, sorted rows, and how often each occurs; order 1 has all V words."""
    length = history_lengths(ids, order - 1, V - 2)
    grams, counts = [np.arange(V, dtype=np.int32)[:, None]], [np.bincount(ids[ids != UNKNOWN], minlength=V)]
    row = ids.astype(np.int64)  # of the n-gram that ends here
    for n in range(2, order + 1):
        last = np.flatnonzero((length >= n - 1) & (ids != UNKNOWN))
        keys, back, count = np.unique(row[last - 1]*V + ids[last], return_inverse=True, return_counts=True)
        grams.append(np.column_stack([grams[-1][keys//V], keys % V]).astype(np.int32))
        counts.append(count)
        row = np.full(len(ids), -1)
        row[last] = back
    return grams, counts


def modified_counts(grams, counts, V):
    """Below the highest order, how many different words precede an n-gram, unless it begins with <s>."""
    for n in range(1, len(grams)):
        suffix = rows(grams, grams[n][:, 1:], V)
        preceded = np.bincount(suffix, minlength=len(grams[n - 1]))
        counts[n - 1] = np.where(grams[n - 1][:, 0] == V - 2, counts[n - 1], preceded)
    counts[0][V - 2] = 0  # <s> is never predicted
    return grams, counts


def rows(grams, wanted, V):
    """The rows of `wanted` [M, n], all of which are there, among the n-grams."""
    row = np.zeros(len(wanted), np.int64)
    for n in range(1, wanted.shape[1] + 1):
        table = grams[n - 1]
        prefix = rows(grams, table[:, :-1], V) if n > 1 else np.zeros(V, np.int64)
        row = search(prefix*V + table[:, -1], row*V + wanted[:, n - 1])
    return row


def smooth(words, grams, counts):
    V = len(words)
    logp, backoff, p = [], [np.zeros(len(table)) for table in grams], None
    for n, (table, count) in enumerate(zip(grams, counts, strict=True), 1):
        discount = discounts(count)[np.minimum(count, 3)]
        history = rows(grams, table[:, :-1], V) if n > 1 else np.zeros(V, np.int64)
        H = len(grams[n - 2]) if n > 1 else 1
        total = np.bincount(history, count, H)
        rest = np.where(total > 0, np.bincount(history, discount, H)/np.maximum(total, 1), 1)
        lower = p[rows(grams, table[:, 1:], V)] if n > 1 else np.full(V, 1/(V - 1))
        p = (count - discount)/np.maximum(total, 1)[history] + rest[history]*lower
        if n == 1:
            p[V - 2] = 0
        else:
            extended = np.bincount(history, minlength=H) > 0
            backoff[n - 2][extended] = np.log(rest[extended])
        with np.errstate(divide='ignore'):
            logp.append(np.log(p))
    return NGram(words, grams, logp, backoff)


def discounts(counts):
    """[4] D(0) = 0, D(1), D(2), D(3 and more) from how many n-grams have count 1, 2, 3, 4; if these give no
    discounts with 0 < D(c) < c, one for all as in plain Kneser-Ney; if there are none of these, FIXED."""
    n = np.bincount(np.minimum(counts, 5), minlength=5).astype(float)[:5]
    if n[1] and n[2]:
        Y = n[1]/(n[1] + 2*n[2])
        D = np.array([0, Y, 2 - 3*Y*n[3]/n[2], 3 - 4*Y*n[4]/n[3] if n[3] else 0])
        return D if (D[1:] > 0).all() else np.array([0, Y, Y, Y])
    return FIXED
