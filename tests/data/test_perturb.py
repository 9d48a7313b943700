import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.data.perturb import faster, perturb, stretched, times
from hpcasr.data.store import Store, StoreWriter, Utterances
from hpcasr.errors import BadInput
from tests import small


@given(st.integers(1, 300), st.floats(0.5, 2))
def test_a_ramp_stays_a_ramp(T, f):
    """Linear interpolation is exact for what is linear in time; its slope per frame grows with the tempo."""
    at = times(T, f)
    assert len(at) == max(round(T/f), 1) and at[0] == 0 and at[-1] == (T - 1 if len(at) > 1 else 0)
    x = np.arange(T, dtype=np.float32)[:, None]*[1, -2]
    np.testing.assert_allclose(faster(x, at, np.ones(2, np.float32)), at[:, None]*[1, -2], atol=1e-3)


def test_slopes_follow_the_tempo():
    """Δ of a copy is about what deltas of the copied statics are."""
    from hpcasr.data.frontend import deltas
    x = np.sin(np.arange(200)/9)[:, None].astype(np.float32)
    frames, at = deltas(x, 2), times(200, 1.25)
    copy = faster(frames, at, np.float32(1.25)**np.arange(3))
    np.testing.assert_allclose(copy[8:-8], deltas(copy[:, :1], 2)[8:-8], atol=0.006)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=12), st.floats(0.5, 2))
def test_segments_cover_the_copy(lengths, f):
    ends = np.cumsum(lengths)
    segments = np.column_stack([ends - lengths, lengths, np.arange(len(lengths)), np.full(len(lengths), -1)])
    nearest = np.rint(times(int(ends[-1]), f)).astype(int)
    found = stretched(segments, nearest)
    assert (found[:, 1] > 0).all() and found[0, 0] == 0 and found[:, 1].sum() == len(nearest)
    np.testing.assert_array_equal(found[1:, 0], np.cumsum(found[:, 1])[:-1])
    phones = np.repeat(found[:, 2], found[:, 1])
    np.testing.assert_array_equal(phones, np.repeat(segments[:, 2], lengths)[nearest])


def test_a_store_with_copies(tmp_path):
    path = small.store(tmp_path/'a.h5', utterances=6)
    perturb(path, tmp_path/'b.h5', [0.8, 1.25])
    a, b = Store(path), Store(tmp_path/'b.h5')
    assert b.num_utterances == 18 and b.names[6:8] == ['sp0.8-utt0', 'sp0.8-utt1']
    for u in range(6):
        np.testing.assert_array_equal(b.utterance(u)[0], a.utterance(u)[0])
        assert b.length(6 + u) == max(round(a.length(u)/0.8), 1)
        np.testing.assert_array_equal(b.utterance(12 + u)[1], a.utterance(u)[1][np.rint(times(a.length(u), 1.25))
                                                                               .astype(int)])
    np.testing.assert_array_equal(b.speakers, np.tile(a.speakers, 3))
    with pytest.raises(BadInput, match='exists; use --force'):
        perturb(path, tmp_path/'b.h5', [0.9])


def test_a_store_without_targets_and_of_one_frame(tmp_path):
    with StoreWriter(tmp_path/'a.h5', Utterances(['u'], [1], [0], ['s'], ['A']), 2) as writer:
        writer.append(np.ones((1, 2)))
    perturb(tmp_path/'a.h5', tmp_path/'b.h5', [2.0, 0.5])
    b = Store(tmp_path/'b.h5')
    assert b.targets is None and [b.length(u) for u in range(3)] == [1, 1, 2] and b.texts == ['A']*3
    assert (b.frames == 1).all()


@pytest.mark.parametrize('tempo', ['1', '0.9,0.9', 'x', '3', 'nan', ''])
def test_tempos_that_make_no_sense(hpcasr, tempo):
    assert '--tempo' in hpcasr('data', 'perturb', 'a.h5', '--out', 'b.h5', '--tempo', tempo, status=2).stderr


def test_a_device_is_not_replaced(tmp_path):
    import os
    path = small.store(tmp_path/'a.h5')
    os.mkfifo(tmp_path/'pipe')
    with pytest.raises(BadInput, match='is no file, and is not replaced'):
        perturb(path, tmp_path/'pipe', [0.9], force=True)
