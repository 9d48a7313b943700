import gzip

import kaldiio
import numpy as np
import pytest

from hpcasr.data.alignment import open_alignment
from hpcasr.errors import BadInput


@pytest.fixture
def vectors(rng):
    return {f'u{i}': rng.integers(0, 9000, T).astype(np.int32) for i, T in enumerate((1, 30, 7))}


def get(source, keys):
    source.rewind(set(keys))
    return {k: source.get(k).tolist() for k in keys}


@pytest.mark.parametrize('text', [False, True])
def test_integer_vectors(tmp_path, vectors, text):
    ark, scp, gz = (str(tmp_path/name) for name in ('pdf.ark', 'pdf.scp', 'pdf.gz'))
    kaldiio.save_ark(ark, vectors, scp)
    if text:
        (tmp_path/'pdf.ark').write_text(''.join(f'{k} {" ".join(map(str, v))}\n' for k, v in vectors.items()))
    with gzip.open(gz, 'wb') as f:
        f.write((tmp_path/'pdf.ark').read_bytes())
    expected = {k: v.tolist() for k, v in vectors.items()}
    for name in ark, f'ark:{ark}', f'ark:gunzip -c {gz} |':
        source = open_alignment(name)
        assert list(source.keys()) == list(vectors)
        assert get(source, vectors) == expected
        assert get(source, ['u2', 'u0']) == {k: expected[k] for k in ('u2', 'u0')}
    if not text:
        assert get(open_alignment(scp), vectors) == get(open_alignment(f'scp:{scp}'), vectors) == expected


@pytest.mark.parametrize('keep', [4, 9, 50])
def test_truncated_vectors(tmp_path, vectors, keep):
    path = tmp_path/'pdf.ark'
    kaldiio.save_ark(str(path), vectors)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BadInput, match='make the alignment again'):
        open_alignment(str(path))


def test_a_command_that_fails(tmp_path):
    with pytest.raises(BadInput, match='ended with status 3'):
        open_alignment('ark:exit 3 |')
