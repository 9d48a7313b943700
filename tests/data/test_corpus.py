import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.data.corpus import Corpus

LENGTHS = 1, 2, 7, 30


def corpus(splice=(0, 0), dtype=np.float32, labelled=True):
    rng = np.random.default_rng(0)
    offsets = np.cumsum([0, *LENGTHS])
    frames = rng.normal(size=(offsets[-1], 3)).astype(dtype)
    targets = rng.integers(0, 5, offsets[-1]).astype(np.int32) if labelled else None
    return Corpus(frames, offsets, targets, 5 if labelled else 0, splice=splice)


def naive(c, u, start, stop):
    """Frame by frame, neighbour by neighbour."""
    utterance = [c.frames[i] for i in range(c.offsets[u], c.offsets[u+1])]
    last = len(utterance) - 1
    return np.array([np.concatenate([utterance[min(max(t + k, 0), last)] for k in range(-c.splice[0], c.splice[1] + 1)])
                     for t in range(start, stop)], np.float32)


@given(st.data(), st.tuples(st.integers(0, 9), st.integers(0, 9)), st.sampled_from([np.float32, np.float16]))
def test_chunk_is_the_naive_splice(data, splice, dtype):
    c = corpus(splice, dtype)
    u = data.draw(st.integers(0, len(LENGTHS) - 1))
    start = data.draw(st.integers(0, LENGTHS[u] - 1))
    stop = data.draw(st.integers(start + 1, LENGTHS[u]))
    x = np.full((32, 3, c.dim), np.nan, np.float32)
    targets = np.full((32, 3), -9, np.int32)
    c.chunk(u, start, stop, x[:, 1], targets[:, 1])
    n = stop - start
    np.testing.assert_array_equal(x[:n, 1], naive(c, u, start, stop))
    np.testing.assert_array_equal(targets[:n, 1], c.targets[c.offsets[u] + start:c.offsets[u] + stop])
    assert np.isnan(x[n:]).all() and np.isnan(x[:, [0, 2]]).all() and (targets[:, [0, 2]] == -9).all()


def test_dimension_counts_the_context():
    assert corpus((3, 5)).dim == 3*9


def test_without_targets_they_stay_as_they_are():
    c, targets = corpus(labelled=False), np.full(7, 3, np.int32)
    c.chunk(2, 0, 7, np.empty((7, 3), np.float32), targets)
    assert (targets == 3).all() and c.num_targets == 0


def test_counts():
    c = corpus()
    assert c.counts().tolist() == [int((c.targets == k).sum()) for k in range(5)]
    assert c.counts().dtype == np.int64


def test_names_where_none_are_given():
    c = corpus()
    assert (c.name(2), c.text(2), c.speaker_name(3), c.target_names[4]) == ('utt2', '', 'spk3', '4')


def test_digest_is_of_the_content():
    a, b = corpus(), corpus()
    assert a.digest == b.digest != corpus((1, 1)).digest
    b.frames[3, 1] += 1
    assert Corpus(b.frames, b.offsets, b.targets, 5).digest != a.digest


@pytest.mark.parametrize('u', range(len(LENGTHS)))
def test_utterance(u):
    c = corpus((2, 2))
    x, targets = c.utterance(u)
    assert x.shape == (LENGTHS[u], 3) and targets.shape == (c.length(u),)
