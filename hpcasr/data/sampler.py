"""Which chunk comes when: the order of an epoch is a pure function of (seed, epoch); no array of it is made."""

import numpy as np

ROUNDS = 8


class Permutation:
    """A keyed permutation of 0 .. n-1: `Permutation(n, key)[k]` in O(1) memory.

    A Feistel network over the next even number of bits, walked along its cycle until it falls below n (Black and
    Rogaway, Ciphers with arbitrary finite domains, CT-RSA 2002).
    """

    def __init__(self, n, key):
        self.n = n
        self.half = np.uint64(max(1, (max(n - 1, 1).bit_length() + 1)//2))
        self.mask = np.uint64((1 << int(self.half)) - 1)
        self.keys = np.random.default_rng(key).integers(0, 2**64, ROUNDS, np.uint64)

    def __getitem__(self, k):
        """The images of the integers `k`, an array of them or one."""
        k = np.atleast_1d(np.asarray(k, np.uint64))
        out = self.once(k)
        outside = out >= self.n
        while outside.any():
            out[outside] = self.once(out[outside])
            outside = out >= self.n
        return out.astype(np.int64)

    def once(self, k):
        left, right = k >> self.half, k & self.mask
        for key in self.keys:
            left, right = right, left ^ (mix(right ^ key) & self.mask)
        return left << self.half | right


def mix(x):
    """The finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), entry by entry, modulo 2⁶⁴."""
    x = (x ^ x >> np.uint64(30))*np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27))*np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)


class Chunks:
    """The samples of a corpus: its utterances cut into chunks of T frames, the last of each possibly shorter.

    corpus       whose offsets give the utterances' lengths
    T            frames of a chunk; at most those of the longest utterance
    utterances   indices of those to use, ascending; None: all
    Holds about 20 bytes per utterance, whatever their frames are.
    """

    def __init__(self, corpus, T, utterances=None):
        self.utterances = utterances
        lengths = np.diff(corpus.offsets) if utterances is None else \
            corpus.offsets[utterances + 1] - corpus.offsets[utterances]
        self.lengths, self.T = lengths, min(T, int(lengths.max(initial=1)))
        self.first = np.concatenate([[0], np.cumsum(-(-lengths//T))])
        self.frames = int(lengths.sum())

    def __len__(self):
        return int(self.first[-1])

    def counts(self, corpus):
        """[K] frames of every target in these utterances."""
        if self.utterances is None:
            return corpus.counts()
        counts = np.zeros(corpus.num_targets, np.int64)
        for u in self.utterances:
            corpus.touch(u)
            counts += np.bincount(corpus.targets[corpus.offsets[u]:corpus.offsets[u + 1]], minlength=len(counts))
        return counts

    def locate(self, k):
        """Utterance, first frame and end frame of the chunks `k`: three arrays."""
        i = np.searchsorted(self.first, k, 'right') - 1
        start = (k - self.first[i])*self.T
        stop = np.minimum(start + self.T, self.lengths[i])
        return (i if self.utterances is None else self.utterances[i]), start, stop


def hold_out(corpus, fraction, seed):
    """Split the utterances by speakers: (training, held out), two arrays of indices.

    Speakers are drawn in a keyed order until they bring `fraction` of the frames; at least one stays on either
    side where there are two or more.  One speaker alone is split by utterances.
    """
    speakers = np.asarray(corpus.speakers)
    if len(np.unique(speakers)) < 2:
        speakers = np.arange(len(speakers))
    names, of = np.unique(speakers, return_inverse=True)
    frames = np.bincount(of, np.diff(corpus.offsets))
    drawn = Permutation(len(names), [seed, len(names)])[np.arange(len(names))]
    enough = np.searchsorted(np.cumsum(frames[drawn]), fraction*frames.sum()) + 1
    out = np.isin(of, drawn[:min(max(enough, 1), len(names) - 1)])
    return np.flatnonzero(~out), np.flatnonzero(out)
