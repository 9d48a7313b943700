"""A back-off n-gram model as arrays, and the perplexity of a text."""

import math
from dataclasses import dataclass

import numpy as np

START, END = '<s>', '</s>'
UNKNOWN = -1  # id of a word that the model lacks


@dataclass
class Perplexity:
    """Of a text: the ends of sentences are predicted too; words that the model lacks are counted and left out."""

    sentences: int
    words: int
    unknown: int
    value: float  # nan if nothing was predicted

    @property
    def unknown_rate(self):
        return self.unknown/max(self.words, 1)


class NGram:
    """ln p(w | h) = logp of the longest known suffix of h w, plus the weights of the histories given up on the way.

    words    [V] names; ids are the positions here; the last two are <s> and </s>
    grams    per order n: int32 [N, n] word ids in sorted rows; order 1 has all V words
    logp     per order: float64 [N] natural logarithms; -inf for <s>, which is never predicted
    backoff  per order: float64 [N] natural logarithms: the weights of the histories that these n-grams are
    The prefix of n-1 words of every n-gram must be there too.
    """

    def __init__(self, words, grams, logp, backoff):
        self.words, self.grams, self.logp, self.backoff = list(words), grams, logp, backoff
        self.index = {word: i for i, word in enumerate(self.words)}
        self.start, self.end = len(self.words) - 2, len(self.words) - 1
        self.keys = []
        for table in grams:
            prefix = self.find(table[:, :-1])
            self.keys.append(prefix*len(self.words) + table[:, -1])

    @property
    def order(self):
        return len(self.grams)

    def find(self, grams):
        """[M, n] → int64 [M] their rows among the n-grams, -1 for those that are not there; n = 0: row 0."""
        row = np.zeros(len(grams), np.int64)
        for keys, word in zip(self.keys, grams.T, strict=False):
            row = np.where(row < 0, -1, search(keys, row*len(self.words) + word))
        return row

    def log_probability(self, grams):
        """[M, n] histories of n-1 words, before a word → ln p float64 [M]."""
        grams, rest = grams[:, -self.order:], np.arange(len(grams))
        total = np.zeros(len(grams))
        while len(rest):
            row, n = self.find(grams), grams.shape[1]
            known = row >= 0
            total[rest[known]] += self.logp[n - 1][row[known]]
            rest, grams = rest[~known], grams[~known]
            if len(rest):
                history = self.find(grams[:, :-1])
                total[rest[history >= 0]] += self.backoff[n - 2][history[history >= 0]]
                grams = grams[:, 1:]
        return total

    def possible(self):
        """{word: id} of <s> and all words that can be predicted."""
        return {word: i for word, i in self.index.items() if i == self.start or self.logp[0][i] > -math.inf}

    def perplexity(self, sentences):
        """Perplexity of [[word]].  A history ends at a word that the model lacks or gives no probability."""
        ids = stream(sentences, self.possible())
        logs = [self.log_probability(grams) for grams in predictions(ids, self.order, self.start)]
        total, predicted = sum(log.sum() for log in logs), sum(len(log) for log in logs)
        value = math.exp(min(-total/predicted, 700)) if predicted else math.nan
        words = sum(len(sentence) for sentence in sentences)
        return Perplexity(len(sentences), words, int((ids == UNKNOWN).sum()), value)


def search(keys, wanted):
    """Positions of `wanted` in the sorted `keys`, -1 where it is not."""
    if not len(keys):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


def stream(sentences, index):
    """[[word]] → int32 ids of <s> word ... </s> <s> ..., UNKNOWN for words that are not in `index`."""
    return np.array([index.get(word, UNKNOWN) for sentence in sentences for word in (START, *sentence, END)], np.int32)


def history_lengths(ids, most, start):
    """How many words before every word of a stream belong to its history: at most `most`."""
    here = np.arange(len(ids))
    begin = np.where(ids == start, here, np.where(ids == UNKNOWN, here + 1, 0))
    return np.minimum(here - np.maximum.accumulate(begin), most)


def predictions(ids, order, start):
    """All words of a stream that a model predicts, with their histories: int32 [M, n] for every length n <= order."""
    length = history_lengths(ids, order - 1, start)
    length[(ids == start) | (ids == UNKNOWN)] = -1
    for n in range(1, order + 1):
        last = np.flatnonzero(length == n - 1)
        yield ids[last[:, None] + np.arange(1 - n, 1)]
