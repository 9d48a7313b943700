"""The order of an epoch: a permutation, keyed, without memory; chunks cover every frame once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.data.sampler import Chunks, Permutation, hold_out
from tests.small import corpus


@given(st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 100))
def test_every_number_once(n, seed, epoch):
    out = Permutation(n, [seed, epoch])[np.arange(n)]
    assert np.array_equal(np.sort(out), np.arange(n))


def test_a_slice_is_a_slice_of_the_whole():
    p = Permutation(10**12, [1, 2])
    whole = p[np.arange(500, 600)]
    assert np.array_equal(whole[20:30], p[np.arange(520, 530)])
    assert whole.max() > 10**11  # spread over all of it, though none of it was made


def test_epochs_and_seeds_differ():
    orders = [Permutation(1000, key)[np.arange(1000)] for key in ([0, 0], [0, 1], [1, 0])]
    for a, b in (0, 1), (0, 2), (1, 2):
        assert (orders[a] == orders[b]).sum() < 20


def test_positions_are_uniform():
    """Chi-squared over 16 cells of where the first 1/16 of an order comes from, at 5 standard deviations."""
    n, cells = 16_000, 16
    drawn = np.concatenate([Permutation(n, [0, e])[np.arange(n//cells)] for e in range(20)])
    counts = np.bincount(drawn*cells//n, minlength=cells)
    expected = len(drawn)/cells
    chi2 = ((counts - expected)**2/expected).sum()
    assert chi2 < (cells - 1) + 5*np.sqrt(2*(cells - 1))


@pytest.mark.parametrize('T', [1, 7, 21, 100])
@pytest.mark.parametrize('subset', [None, [0, 3, 4, 29]])
def test_chunks_cover_every_frame_once(T, subset):
    c = corpus()
    chosen = None if subset is None else np.array(subset)
    chunks = Chunks(c, T, chosen)
    utterances, starts, stops = chunks.locate(np.arange(len(chunks)))
    seen = np.zeros(c.num_frames, int)
    for u, start, stop in zip(utterances, starts, stops, strict=True):
        assert 0 <= start < stop <= min(start + T, c.length(u))
        seen[c.offsets[u] + start:c.offsets[u] + stop] += 1
    wanted = np.zeros(c.num_frames, int)
    for u in range(c.num_utterances) if subset is None else subset:
        wanted[c.offsets[u]:c.offsets[u + 1]] = 1
    assert np.array_equal(seen, wanted)
    assert chunks.frames == wanted.sum()


@pytest.mark.parametrize('fraction', [0.0, 0.05, 0.4, 1.0])
def test_held_out_speakers_are_not_trained_on(fraction):
    c = corpus(60)
    train, held = hold_out(c, fraction, 0)
    assert np.array_equal(np.sort(np.concatenate([train, held])), np.arange(60))
    assert len(train) and len(held)
    assert not set(c.speakers[train]) & set(c.speakers[held])


def test_the_seed_chooses_who_is_held_out():
    assert len({hold_out(corpus(60), 0.1, seed)[1].tobytes() for seed in range(10)}) == 3


def test_one_speaker_is_split_by_utterances():
    c = corpus(60)
    c.speakers[:] = 0
    train, held = hold_out(c, 0.1, 0)
    assert 2 < len(held) < 15 and len(train) + len(held) == 60
