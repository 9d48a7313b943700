"""Utterances laid end to end: what a sampler draws from and a loader reads."""

import hashlib
from functools import cached_property

import numpy as np


class Corpus:
    """Frames, targets and speakers of U utterances, in memory; `store.Store` is the same over a file.

    frames    [N, D] float32 or float16; utterance u is frames[offsets[u]:offsets[u+1]]
    offsets   [U+1] int64
    targets   [N] int32 in 0..num_targets-1, or None
    speakers  [U] int32; where none are given, every utterance has its own
    splice    (left, right): context frames put side by side when frames are read, so dim = D (1 + left + right)
    frontend  {setting: value}: how the features were made, as far as it is known
    """

    def __init__(self, frames, offsets, targets=None, num_targets=0, speakers=None, names=None, texts=None,
                 splice=(0, 0), digest='', path='<memory>', speaker_names=None, target_names=None,
                 frontend=None):
        self.frames, self.targets, self.num_targets = frames, targets, num_targets
        self.offsets = np.asarray(offsets, np.int64)
        self.num_frames, self.num_utterances = len(frames), len(self.offsets) - 1
        self.speakers = np.asarray(np.arange(self.num_utterances) if speakers is None else speakers, np.int32)
        self.splice, self.path, self.frontend = tuple(splice), str(path), frontend or {}
        self.dim = frames.shape[1]*(1 + sum(self.splice))
        self._names, self._texts, self._speaker_names, self._target_names = names, texts, speaker_names, target_names
        if digest:
            self.digest = digest

    @cached_property
    def digest(self):
        """Hex string that identifies the content."""
        h = hashlib.sha256(repr((self.frames.shape, self.splice, self.num_targets)).encode())
        for x in self.frames, self.offsets, self.speakers, self.targets:
            h.update(b'' if x is None else np.ascontiguousarray(x))
        return h.hexdigest()

    @property
    def names(self):
        """[U] utterance ids."""
        return self._names or [f'utt{u}' for u in range(self.num_utterances)]

    @property
    def texts(self):
        """[U] transcripts; '' where there is none."""
        return self._texts or ['']*self.num_utterances

    @property
    def speaker_names(self):
        return self._speaker_names or [f'spk{s}' for s in range(int(np.max(self.speakers)) + 1)]

    @property
    def target_names(self):
        """[K] names of the targets."""
        return self._target_names or [str(k) for k in range(self.num_targets)]

    def name(self, u):
        return self._names[u] if self._names else f'utt{u}'

    def text(self, u):
        return self._texts[u] if self._texts else ''

    def speaker_name(self, s):
        return self.speaker_names[s]

    def length(self, u):
        """Frames of utterance u."""
        return int(self.offsets[u+1] - self.offsets[u])

    def utterance(self, u):
        """Frames [T, D] before splicing and targets [T] or None of utterance u; read-only where they are a file's."""
        self.touch(u)
        part = slice(self.offsets[u], self.offsets[u+1])
        return self.frames[part], None if self.targets is None else self.targets[part]

    def chunk(self, u, start, stop, x, targets=None):
        """Fill x[:stop-start, :dim] and targets[:stop-start] with frames start..stop of utterance u.

        `x` float32 and `targets` may be strided views.  Context comes from the same utterance, whose first and last
        frame are repeated at the edges (Kaldi's splice-feats).  `targets` stays as it is if the corpus has none.
        """
        self.touch(u)
        first, last = int(self.offsets[u]), int(self.offsets[u+1])
        begin, end, n = first + start, first + stop, stop - start
        if self.targets is not None and targets is not None:
            targets[:n] = self.targets[begin:end]
        if self.splice == (0, 0):
            x[:n, :self.dim] = self.frames[begin:end]
        else:
            splice(self.frames[first:last], start, stop, self.splice, x)

    def touch(self, u):
        """Called before utterance u is read."""

    def prefetch(self, u, start, stop):
        """A hint that frames start..stop of utterance u are read soon."""

    def counts(self):
        """[K] int64 frames of every target."""
        return np.bincount(self.targets, minlength=self.num_targets).astype(np.int64)


def splice(frames, start, stop, context, x):
    """x[t] = [frames[start+t-left] ... frames[start+t+right]], indices clamped to the utterance `frames` [T, D]."""
    (left, right), D, n = context, frames.shape[1], stop - start
    low, high = max(0, start - left), min(len(frames), stop + right)
    near = np.asarray(frames[low:high], np.float32)
    t = np.arange(start - low, stop - low)
    for k in range(-left, right + 1):
        x[:n, (left+k)*D:(left+k+1)*D] = near[np.minimum(np.maximum(t + k, 0), len(near) - 1)]
