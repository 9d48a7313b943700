"""The built-in task: what `hpcasr train` learns where no data are named.

Made in memory by a hidden Markov model, so it has the structure of speech and a known answer, but it is not speech:
phones of three states drawn from a Markov chain, log-normal durations, Gaussian emissions around means that glide from
state to state (coarticulation), an offset and a rate per speaker, and noise that is correlated in time.
"""

from functools import cache

import numpy as np

from hpcasr.data.corpus import Corpus

PHONES, STATES, DIM = 24, 3, 40
SPEAKERS, UTTERANCES = 48, 15  # utterances per speaker
SECONDS = 1.5, 4.0  # shortest and longest utterance
FRAMES_PER_SECOND = 100
NOISE, MEMORY = 1.1, 0.6  # standard deviation of the noise; correlation of one frame's with the next
SEED = 2002_10502


@cache  # virtual learners share it
def corpus():
    """About 33 minutes in 720 utterances of 48 speakers: 40 features a frame, 72 targets (phone x state)."""
    rng = np.random.default_rng(SEED)
    means = smooth(rng.normal(size=(PHONES*STATES, DIM)), 3, axis=1)*1.6
    follows = rng.dirichlet(np.full(PHONES, 0.3), PHONES)
    speakers = np.repeat(np.arange(SPEAKERS), UTTERANCES)
    offsets = smooth(rng.normal(size=(SPEAKERS, DIM)), 9, axis=1)
    rates = rng.uniform(0.8, 1.25, SPEAKERS)
    utterances = [utterance(rng, means, follows, offsets[s], rates[s]) for s in speakers]
    lengths = [len(targets) for _, targets in utterances]
    frames = np.concatenate([x for x, _ in utterances]).astype(np.float32)
    targets = np.concatenate([targets for _, targets in utterances]).astype(np.int32)
    return Corpus(frames, np.concatenate([[0], np.cumsum(lengths)]), targets, PHONES*STATES, speakers,
                  path='the built-in task')


def utterance(rng, means, follows, offset, rate):
    """Features [T, D] and targets [T] of one utterance."""
    T = int(rng.uniform(*SECONDS)*FRAMES_PER_SECOND)
    targets = path(rng, follows, rate, T)
    glide = smooth(means[targets], 5, axis=0)
    return glide + offset + coloured(rng, T), targets


def path(rng, follows, rate, T):
    """The state of every frame: phones from the Markov chain `follows`, their three states in order."""
    targets, phone = [], int(rng.integers(PHONES))
    while len(targets) < T:
        for state in range(STATES):
            frames = max(1, round(rng.lognormal(1.0, 0.4)*rate))
            targets += [phone*STATES + state]*frames
        phone = int(rng.choice(PHONES, p=follows[phone]))
    return np.array(targets[:T])


def coloured(rng, T):
    """Noise [T, D] of standard deviation NOISE, an autoregressive process of order one."""
    e = rng.normal(size=(T, DIM))*NOISE*np.sqrt(1 - MEMORY**2)
    for t in range(1, T):
        e[t] += MEMORY*e[t - 1]
    return e


def smooth(x, width, axis):
    """Moving average over `width` entries, the edges repeated."""
    pad = [(width//2, width//2) if a == axis else (0, 0) for a in range(x.ndim)]
    padded = np.pad(x, pad, mode='edge')
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis)
    return windows.mean(-1)
