"""Batches, read ahead of the training by a thread of their own."""

import queue
import threading
from collections import deque
from dataclasses import replace
from itertools import islice
from time import perf_counter

import numpy as np

from hpcasr.data.batch import Batch
from hpcasr.data.sampler import Permutation
from hpcasr.errors import BadInput
from hpcasr.watch import flight

EARLY = 2  # batches of which the disk is told before one is read: else every batch waits for its own pages


class Loader:
    """Batches of the chunks of a corpus.

    corpus, chunks   what is read, and how it is cut (sampler.Chunks)
    work             hands out the positions (data/work.py)
    seed             of the order of each epoch; None: the order of the corpus
    ahead            batches read in advance
    masks            augment.Masks, or None
    now              the clock that its waiting is measured by
    zeros            zeros(shape, dtype): memory for what is read, such as GPUs copy fast from
    seconds          time that the training has waited for data so far
    """

    def __init__(self, corpus, chunks, work, seed=None, ahead=8, dtype='float32', now=perf_counter,
                 masks=None, zeros=np.zeros):
        self.corpus, self.chunks, self.work = corpus, chunks, work
        self.seed, self.ahead, self.dtype = seed, ahead, np.dtype(dtype)
        self.now, self.masks, self.zeros, self.seconds = now, masks, zeros, 0.0

    def __iter__(self):
        """(claim, batch) up to the next meeting point, from the state that `work` has now.

        Claims are drawn here, in the training's own thread: they may need the other learners.
        """
        wanted, ready, stop = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
        lead = min(self.ahead, self.work.lead)
        thread = threading.Thread(target=self.read_ahead, args=(wanted, ready, stop, min(EARLY, lead - 1)), daemon=True)
        thread.start()
        try:
            held = 0
            for claim in self.work.rest():
                wanted.put(claim)
                held += 1
                if held > lead:
                    yield self.wait(ready)
                    held -= 1
            wanted.put(None)
            for _ in range(held):
                yield self.wait(ready)
        finally:
            stop.set()
            wanted.put(None)
            thread.join()

    def wait(self, ready):
        tic = self.now()
        item = ready.get()
        self.seconds += self.now() - tic
        flight.beat()
        if isinstance(item, BaseException):
            raise item
        return item

    def read_ahead(self, wanted, ready, stop, early_by):
        try:
            for claim, chunks in early(map(self.announce, iter(wanted.get, None)), early_by):
                if stop.is_set():
                    return
                ready.put((claim, self.attempt(claim, chunks)))
        except BaseException as e:  # raised again in the training thread
            ready.put(e)

    def announce(self, claim):
        """`claim` and its chunks, (utterance, start, stop) each, after the corpus was told that they are read soon."""
        chunks = self.located(claim)
        for chunk in chunks:
            self.corpus.prefetch(*chunk)
        return claim, chunks

    def located(self, claim):
        """The chunks of `claim`: [(utterance, start, stop)]."""
        chunks = self.chunks.locate(self.order(claim.epoch, np.arange(claim.lo, claim.hi)))
        return list(zip(*(c.tolist() for c in chunks), strict=True))

    def attempt(self, claim, chunks):
        """The Batch of `chunks`; an empty one with its fault if they cannot be read: all learners must hear of it."""
        try:
            return self.read(claim, chunks)
        except BadInput as e:
            return replace(self.read(claim, []), fault=e)

    def read(self, claim, chunks):
        """The Batch of `chunks`."""
        lengths = np.array([stop - start for _, start, stop in chunks], int)
        x = self.zeros((self.chunks.T, len(chunks), self.corpus.dim), self.dtype)
        targets = np.zeros((self.chunks.T, len(chunks)), np.int32)
        for b, chunk in enumerate(chunks):
            self.corpus.chunk(*chunk, x[:, b], targets[:, b])
            if self.masks:
                self.masks(x[:chunk[2] - chunk[1], b], claim.epoch, claim.lo + b)
        return Batch(x, targets, lengths, claim.epoch, claim.lo)

    def order(self, epoch, positions):
        """The chunks at `positions` of an epoch."""
        return positions if self.seed is None else Permutation(len(self.chunks), [self.seed, epoch])[positions]


def early(items, n):
    """The same items, each drawn when the one n places before it is wanted."""
    items = iter(items)
    held = deque(islice(items, n))
    for item in items:
        held.append(item)
        yield held.popleft()
    yield from held

