import h5py
import numpy as np
import pytest

from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest, ingest
from hpcasr.data.pack import pack
from hpcasr.data.store import Store, write_targets
from hpcasr.errors import BadInput


@pytest.fixture
def halves(directory, features, tmp_path):
    """Two labelled stores: speaker a, speaker b."""
    paths = []
    for who in 'ab':
        path = tmp_path/f'{who}.h5'
        ingest(Ingest(directory({u: x for u, x in features.items() if u[0] == who}, who), Frontend(1)), path)
        write_targets(path, (np.arange(n) % 3 for n in np.diff(Store(path).offsets)), 3, list('xyz'), {})
        paths.append(path)
    return paths


def test_halves_make_the_whole(halves, directory, features, tmp_path):
    ingest(Ingest(directory(features), Frontend(1)), tmp_path/'whole.h5')
    write_targets(tmp_path/'whole.h5', (np.arange(len(x)) % 3 for x in features.values()), 3, list('xyz'), {})
    pack(halves, tmp_path/'both.h5')
    assert Store(tmp_path/'both.h5').digest == Store(tmp_path/'whole.h5').digest


def test_some_utterances(halves, features, tmp_path):
    (tmp_path/'list').write_text('b-3 anything\na-1\n')
    pack(halves, tmp_path/'some.h5', utterances=tmp_path/'list')
    s = Store(tmp_path/'some.h5')
    assert s.names == ['a-1', 'b-3'] and s.speaker_names == ['a', 'b'] and s.text(1) == 'HELLO b-3'
    np.testing.assert_array_equal(s.utterance(1)[0], Store(halves[1]).utterance(2)[0])


def test_some_speakers_in_half_precision(halves, tmp_path):
    (tmp_path/'list').write_text('b\n')
    pack(halves, tmp_path/'some.h5', speakers=tmp_path/'list', dtype='float16')
    s = Store(tmp_path/'some.h5')
    assert s.names == ['b-1', 'b-2', 'b-3'] and s.frames.dtype == np.float16
    assert s.provenance['sources'] == {str(p): Store(p).digest for p in halves}


def refusal(paths, out, **options):
    with pytest.raises(BadInput) as e:
        pack(paths, out, **options)
    assert not out.exists()
    return str(e.value)


def test_damaged_names_are_not_passed_on(halves, tmp_path):
    with h5py.File(halves[1], 'r+') as f:
        f['names'][1] = 'b-9'
    assert 'b.h5: digest differs' in refusal(halves, tmp_path/'out.h5')


def test_what_cannot_be_packed(halves, directory, features, tmp_path):
    a, b = halves
    out = tmp_path/'out.h5'
    assert 'utterance a-1 is in' in refusal([a, b, a], out)
    (tmp_path/'list').write_text('a-1\nq-7\nq-8\n')
    assert 'utterance q-7 (and 1 more)' in refusal(halves, out, utterances=tmp_path/'list')
    write_targets(b, (np.arange(n) % 3 for n in np.diff(Store(b).offsets)), 3, list('xyw'), {}, force=True)
    assert 'names of the targets differ' in refusal(halves, out)
    ingest(Ingest(directory(features, 'c'), Frontend(1, 'none')), tmp_path/'c.h5')
    assert 'front end: cmvn none, there speaker' in refusal([a, tmp_path/'c.h5'], out)
    ingest(Ingest(directory(features, 'd'), Frontend(0)), tmp_path/'d.h5')
    assert 'columns 4, there 8' in refusal([a, tmp_path/'d.h5'], out)
    ingest(Ingest(directory(features, 'e'), Frontend(1)), tmp_path/'e.h5')
    assert 'targets none, there 3' in refusal([a, tmp_path/'e.h5'], out)
