"""Batches, read ahead of the training by a thread of their own."""

import queue
import threading
from dataclasses import replace
from time import perf_counter

import numpy as np

from hpcasr.data.batch import Batch
from hpcasr.data.sampler import Permutation
from hpcasr.errors import BadInput


class Loader:
    """Batches of the chunks of a corpus.

    corpus, chunks   what is read, and how it is cut (sampler.Chunks)
    work             hands out the positions (work.StaticWork)
    seed             of the order of each epoch; None: the order of the corpus
    ahead            batches read in advance
    seconds          time that the training has waited for data so far
    """

    def __init__(self, corpus, chunks, work, seed=None, ahead=8, dtype='float32'):
        self.corpus, self.chunks, self.work = corpus, chunks, work
        self.seed, self.ahead, self.dtype = seed, ahead, np.dtype(dtype)
        self.seconds = 0.0

    def __iter__(self):
        """(claim, batch) for the rest of the epoch, from the state that `work` has now."""
        ready, stop = queue.Queue(self.ahead), threading.Event()
        thread = threading.Thread(target=self.read_ahead, args=(self.work.rest(), ready, stop), daemon=True)
        thread.start()
        try:
            while (item := self.wait(ready)) is not None:
                yield item
        finally:
            stop.set()
            thread.join()

    def wait(self, ready):
        tic = perf_counter()
        item = ready.get()
        self.seconds += perf_counter() - tic
        if isinstance(item, BaseException):
            raise item
        return item

    def read_ahead(self, claims, ready, stop):
        try:
            for claim in claims:
                offer(ready, (claim, self.attempt(claim)), stop)
                if stop.is_set():
                    return
            offer(ready, None, stop)
        except BaseException as e:  # raised again in the training thread
            offer(ready, e, stop)

    def attempt(self, claim):
        """The Batch of `claim`; if it cannot be read an empty one with its fault: all learners must hear of it."""
        try:
            return self.read(claim.epoch, claim.lo, claim.hi)
        except BadInput as e:
            return replace(self.read(claim.epoch, claim.lo, claim.lo), fault=e)

    def read(self, epoch, lo, hi):
        """The Batch of positions lo .. hi-1 of the order of `epoch`."""
        positions = np.arange(lo, hi)
        utterances, starts, stops = self.chunks.locate(self.order(epoch, positions))
        lengths = stops - starts
        x = np.zeros((self.chunks.T, len(lengths), self.corpus.dim), self.dtype)
        targets = np.zeros((self.chunks.T, len(lengths)), np.int32)
        where = list(zip(utterances.tolist(), starts.tolist(), stops.tolist(), strict=True))
        for chunk in where:
            self.corpus.prefetch(*chunk)
        for b, chunk in enumerate(where):
            self.corpus.chunk(*chunk, x[:, b], targets[:, b])
        return Batch(x, targets, lengths, epoch, lo)

    def order(self, epoch, positions):
        """The chunks at `positions` of an epoch."""
        return positions if self.seed is None else Permutation(len(self.chunks), [self.seed, epoch])[positions]


def offer(ready, item, stop):
    """Put `item` into the queue, unless nobody wants it any more."""
    while not stop.is_set():
        try:
            return ready.put(item, timeout=0.1)
        except queue.Full:
            pass
