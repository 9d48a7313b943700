"""Batches: what the order says, masked where chunks end; errors of the reading thread reach the training."""

import threading

import numpy as np
import pytest

from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks, Permutation
from hpcasr.data.work import StaticWork
from hpcasr.errors import BadInput
from tests.small import corpus


def loader(c, T=8, batch=5, seed=0, rank=0, size=1, **options):
    chunks = Chunks(c, T)
    return Loader(c, chunks, StaticWork(len(chunks), batch, rank, size), seed, **options)


def test_batches_hold_the_frames_of_their_chunks():
    c, T = corpus(), 8
    order = Permutation(len(Chunks(c, T)), [3, 0])
    for claim, batch in loader(c, T, seed=3):
        for b, k in enumerate(order[np.arange(claim.lo, claim.hi)]):
            (u,), (start,), (stop,) = Chunks(c, T).locate(np.array([k]))
            first = c.offsets[u] + start
            n = stop - start
            assert batch.lengths[b] == n
            assert np.array_equal(batch.x[:n, b], c.frames[first:first + n])
            assert np.array_equal(batch.targets[:n, b], c.targets[first:first + n])
            assert not batch.x[n:, b].any()
    assert batch.position == claim.lo


def test_without_a_seed_the_order_is_that_of_the_corpus():
    c = corpus(1, longest=50, shortest=50)
    frames = np.concatenate([batch.x[:n, b] for _, batch in loader(c, seed=None)
                             for b, n in enumerate(batch.lengths)])
    assert np.array_equal(frames, c.frames)


def test_the_reading_ahead_stops_when_nobody_reads():
    before = threading.active_count()
    for _ in range(5):
        next(iter(loader(corpus(), ahead=1)))
    assert threading.active_count() <= before + 1


def failing(error):
    c = corpus()

    def touch(u):
        raise error
    c.touch = touch
    return loader(c)


def test_a_batch_that_cannot_be_read_comes_empty_with_its_fault():
    for _, batch in failing(BadInput('utterance 7 is damaged')):
        assert batch.samples == 0
        with pytest.raises(BadInput, match='is damaged'):
            batch.check()


def test_another_error_of_the_reading_thread_is_raised_where_the_batch_was_wanted():
    with pytest.raises(ZeroDivisionError):
        list(failing(ZeroDivisionError()))


def test_a_rank_without_chunks_gets_an_empty_batch():
    c = corpus(1, longest=8, shortest=8)
    (_, batch), = loader(c, T=8, rank=0, size=3)
    assert batch.x.shape == (8, 0, 5) and batch.frames == batch.samples == 0
