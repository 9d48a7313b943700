import subprocess
import sys

import kaldiio
import numpy as np
import pytest

from hpcasr.data.alignment import open_alignment
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest, ingest
from hpcasr.data.store import Store
from hpcasr.errors import BadInput

NOTHING = Frontend(deltas=0, cmvn='none')


def store(directory, out, frontend=NOTHING, **options):
    ingest(Ingest(directory, frontend, **options), out)
    return Store(out)


def test_float32_bit_for_bit(directory, features, tmp_path):
    s = store(directory(features), tmp_path/'s.h5')
    assert s.names == list(features)
    assert s.frames.tobytes() == np.concatenate(list(features.values())).tobytes()
    assert [s.speaker_name(k) for k in s.speakers] == ['a', 'a', 'b', 'b', 'b']
    assert s.text(2) == 'HELLO b-1'
    assert s.frontend == {'static_dim': 4, 'deltas': 0, 'cmvn': 'none', 'cmvn_vars': False}


def test_speakers_are_normalized_over_all_their_utterances(directory, features, tmp_path):
    s = store(directory(features), tmp_path/'s.h5', Frontend(deltas=0))
    for speaker, who in enumerate('ab'):
        x = np.concatenate([v for k, v in features.items() if k[0] == who]).astype(np.float64)
        ours = np.concatenate([s.utterance(u)[0] for u in np.flatnonzero(s.speakers == speaker)])
        np.testing.assert_allclose(ours, (x - x.mean(0))/x.std(0), atol=1e-4)


def test_deltas_triple_the_columns(directory, features, tmp_path):
    s = store(directory(features), tmp_path/'s.h5', Frontend())
    assert s.dim == 12 and s.frontend['deltas'] == 2


def test_compressed_features(directory, features, tmp_path):
    s = store(directory(features, compression_method=2), tmp_path/'s.h5')
    np.testing.assert_allclose(s.utterance(0)[0], features['a-1'], atol=0.3)


@pytest.fixture
def pdfs(features, rng, tmp_path):
    """pdf.scp and pdf.ark of all utterances, in another order, and of one more."""
    t = {u: rng.integers(0, 7, len(x)).astype(np.int32) for u, x in reversed(features.items())}
    kaldiio.save_ark(str(tmp_path/'pdf.ark'), {**t, 'z-9': np.zeros(4, np.int32)}, str(tmp_path/'pdf.scp'))
    return t


@pytest.mark.parametrize('name', ['pdf.scp', 'pdf.ark', 'cat pdf.ark |'])
def test_alignment(directory, features, pdfs, tmp_path, monkeypatch, name):
    path = directory(features)
    monkeypatch.chdir(tmp_path)
    s = store(path, 's.h5', alignment=open_alignment(name), num_targets=8)
    for u, key in enumerate(features):
        np.testing.assert_array_equal(s.utterance(u)[1], pdfs[key])
    assert s.counts().sum() == s.num_frames and len(s.counts()) == 8 and s.target_names[7] == '7'


def test_length_tolerance_cuts_to_the_shorter(directory, features, pdfs, tmp_path):
    shorter = {**features, 'a-1': features['a-1'][:-2]}
    longer = {**shorter, 'b-1': np.concatenate([features['b-1'], features['b-1'][:1]])}
    path, ali = directory(longer), str(tmp_path/'pdf.scp')
    with pytest.raises(BadInput, match=r'utterance a-1: 40 targets for 38 frames; .*--length-tolerance 2'):
        store(path, tmp_path/'s.h5', alignment=open_alignment(ali), num_targets=7, tolerance=1)
    s = store(path, tmp_path/'s.h5', alignment=open_alignment(ali), num_targets=7, tolerance=2)
    assert [s.length(u) for u in range(5)] == [38, 1, 17, 9, 30]
    np.testing.assert_array_equal(s.utterance(0)[1], pdfs['a-1'][:38])


def test_transition_ids_are_noticed(directory, features, pdfs, tmp_path):
    with pytest.raises(BadInput, match=r'is not in 0\.\.4; check --num-pdfs'):
        store(directory(features), tmp_path/'s.h5', alignment=open_alignment(str(tmp_path/'pdf.scp')), num_targets=5)


def test_intersect(directory, features, pdfs, tmp_path):
    path = directory({**features, 'c-1': features['a-1']})
    (path/'text').write_text(''.join(f'{u} X\n' for u in [*list(features)[1:], 'c-1', 'q']))
    s = store(path, tmp_path/'s.h5', alignment=open_alignment(str(tmp_path/'pdf.scp')), num_targets=7, intersect=True)
    assert s.names == list(features)[1:]


GROWTH = '''
import resource, sys
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest, ingest
source = Ingest(sys.argv[1], Frontend())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ingest(source, sys.argv[2])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
'''


def growth(path, out):
    """Kilobytes by which the process grows while it imports."""
    done = subprocess.run([sys.executable, '-c', GROWTH, path, out], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_corpus(directory, tmp_path):
    few, many = ({f'a-{i:03}': np.random.default_rng(i).normal(size=(2000, 40)).astype(np.float32) for i in range(n)}
                 for n in (20, 150))
    small, large = directory(few, 'few'), directory(many, 'many')
    extra = growth(large, tmp_path/'l.h5') - growth(small, tmp_path/'s.h5')
    stored = 3*130*2000*40*4/1024
    assert extra < 0.2*stored
