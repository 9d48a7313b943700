import kaldi_native_fbank as knf
import numpy as np
import pytest

from hpcasr.data.frontend import Cmvn, Frontend, correlate, deltas


def regression(x, window=2):
    """The slope of the least-squares line through x[t-window ... t+window], one frame and column at a time."""
    y, j = np.zeros(x.shape), np.arange(-window, window + 1)
    for t in range(len(x)):
        near = [x[min(max(t + k, 0), len(x) - 1)] for k in j]
        y[t] = np.polyfit(j, np.array(near, np.float64), 1)[0]
    return y


@pytest.mark.parametrize('T', [1, 2, 3, 9, 60])
def test_deltas_are_slopes(rng, T):
    x = rng.normal(size=(T, 5)).astype(np.float32)
    y = deltas(x, 2)
    np.testing.assert_array_equal(y[:, :5], x)
    np.testing.assert_allclose(y[:, 5:10], regression(x), atol=1e-6)
    np.testing.assert_allclose(y[4:-4, 10:], regression(regression(x))[4:-4], atol=1e-6)


@pytest.mark.parametrize('T', [1, 2, 3, 9, 60])
@pytest.mark.parametrize('order', [0, 1, 2])
def test_deltas_are_those_of_kaldi(rng, T, order):
    x = rng.normal(size=(T, 5)).astype(np.float32)
    theirs = knf.compute_deltas(knf.DeltaOptions(order=order, window=2), x) if order else x
    np.testing.assert_allclose(deltas(x, order), theirs, atol=1e-5)


def test_correlate_keeps_the_type():
    assert correlate(np.ones((3, 2), np.float32), np.ones(3)).dtype == np.float32


def test_cmvn_gives_zero_mean_and_unit_variance(rng):
    parts = [rng.normal(100, 7, (T, 6)).astype(np.float32) for T in (30, 5, 200)]
    stats = Cmvn(6)
    for x in parts:
        stats.add(x)
    everything = np.concatenate(parts).astype(np.float64)
    for x in parts:
        np.testing.assert_allclose(stats.apply(x), (x - everything.mean(0))/everything.std(0), atol=1e-5)


def test_a_constant_column_is_only_centred():
    stats, x = Cmvn(2), np.array([[1e3, 1], [1e3, 3]], np.float32)
    stats.add(x)
    np.testing.assert_allclose(stats.apply(x), [[0, -1], [0, 1]], atol=1e-6)


@pytest.mark.parametrize('mean, sd', [(1e6, 5), (0, 3e-6), (-1e4, 1e-2)])
def test_columns_of_any_scale_get_unit_variance(rng, mean, sd):
    parts = [rng.normal(mean, sd, (500, 1)).astype(np.float32) for _ in range(5)]
    stats = Cmvn(1)
    for x in parts:
        stats.add(x)
    y = np.concatenate([stats.apply(x) for x in parts])
    np.testing.assert_allclose([y.mean(), y.std()], [0, 1], atol=1e-4)


@pytest.mark.parametrize('value', [0, 0.1, 1e6])
def test_constant_columns_of_many_utterances_become_zero(value):
    stats, x = Cmvn(3), deltas(np.full((30, 1), value, np.float32))
    for _ in range(1000):
        stats.add(x)
    np.testing.assert_array_equal(stats.apply(x), np.zeros((30, 3)))


def test_mean_normalization_commutes_with_deltas(rng):
    """Without the variance the front end is apply-cmvn followed by add-deltas, but for the small mean of the deltas."""
    x = rng.normal(3, 1, (50, 4)).astype(np.float32)
    ours = Frontend(2, 'utterance', variance=False).apply(x, 's')
    kaldi = knf.compute_deltas(knf.DeltaOptions(order=2, window=2), x - x.mean(0))
    np.testing.assert_allclose(ours, kaldi - kaldi.mean(0), atol=1e-5)
    np.testing.assert_allclose(ours[:, :4], kaldi[:, :4], atol=1e-5)


def test_speakers_are_normalized_apart(rng):
    front = Frontend(1, 'speaker')
    x = {s: rng.normal(m, 1, (80, 3)).astype(np.float32) for s, m in (('a', 5), ('b', -50))}
    for s in x:
        front.observe(x[s], s)
    for s in x:
        y = front.apply(x[s], s)
        np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(y.std(0), 1, atol=1e-5)


def test_none_leaves_the_bits_alone(rng):
    x = rng.normal(size=(5, 3)).astype(np.float32)
    assert Frontend(0, 'none').apply(x, 's').tobytes() == x.tobytes()
