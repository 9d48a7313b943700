import kaldiio
import numpy as np
import pytest


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def directory(tmp_path):
    """directory({utterance: [T, D]}) -> a Kaldi data directory; the speaker is what stands before '-'."""
    def make(features, name='data', compression_method=None):
        path = tmp_path/name
        path.mkdir()
        kaldiio.save_ark(str(path/'feats.ark'), features, str(path/'feats.scp'), compression_method=compression_method)
        (path/'utt2spk').write_text(''.join(f'{u} {u.split("-")[0]}\n' for u in features))
        (path/'text').write_text(''.join(f'{u} HELLO {u}\n' for u in features))
        return path
    return make


@pytest.fixture
def features(rng):
    """Five utterances of two speakers, 1 to 40 frames of 4 columns."""
    lengths = {'a-1': 40, 'a-2': 1, 'b-1': 17, 'b-2': 9, 'b-3': 30}
    return {u: rng.normal(5, 3, (T, 4)).astype(np.float32) for u, T in lengths.items()}
