import gzip
import os

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


def test_text_with_tabs_and_empty_vectors(tmp_path):
    (tmp_path/'pdf.ark').write_text('\nu1\t1 2\nu2\nu3 \n u4 7\r\n')
    source = open_alignment(str(tmp_path/'pdf.ark'))
    assert get(source, ['u1', 'u2', 'u3', 'u4']) == {'u1': [1, 2], 'u2': [], 'u3': [], 'u4': [7]}


def test_unwanted_vectors_are_not_kept(tmp_path, vectors):
    kaldiio.save_ark(str(tmp_path/'pdf.ark'), vectors)
    source = open_alignment(str(tmp_path/'pdf.ark'))
    source.rewind({'u1', 'u2'})
    source.get('u2')
    assert list(source.passed) == ['u1']


def test_what_cannot_be_read_twice(tmp_path):
    os.mkfifo(tmp_path/'fifo')
    for name in 'ark:-', '-', f'ark:{tmp_path}/fifo':
        with pytest.raises(BadInput, match='is read more than once'):
            open_alignment(name)
    for name in '', 'ark:', ' ':
        with pytest.raises(BadInput, match='names no file'):
            open_alignment(name)


def test_compressed_archives_are_recognized(tmp_path):
    (tmp_path/'pdf.1.gz').write_bytes(gzip.compress(b'u1 1 2\n'))
    with pytest.raises(BadInput, match=r'pdf.1.gz: is compressed; use --ali "ark:gunzip -c \S*pdf.1.gz \|"'):
        open_alignment(str(tmp_path/'pdf.1.gz'))
    with pytest.raises(BadInput, match=r'pdf.1.gz \| gunzip -c \|"'):
        open_alignment(f'ark:cat {tmp_path}/pdf.1.gz |')


@pytest.mark.parametrize('raw', [b'\x1b[2J' + bytes(range(128, 256))*9 + b' x\n',
                                 b'u1 \0B\4' + (2**31 - 1).to_bytes(4, 'little')])
def test_messages_stay_short_and_printable(tmp_path, raw):
    (tmp_path/'pdf.ark').write_bytes(raw)
    with pytest.raises(BadInput, match='make the alignment again') as e:
        open_alignment(str(tmp_path/'pdf.ark'))
    assert str(e.value).isprintable() and len(str(e.value)) < 500


def test_integer_vectors_have_no_ranges(tmp_path, vectors):
    kaldiio.save_ark(str(tmp_path/'pdf.ark'), vectors, str(tmp_path/'pdf.scp'))
    entry = (tmp_path/'pdf.scp').read_text().split()[1]
    (tmp_path/'r.scp').write_text(f'u0 {entry}[0:1]\n')
    with pytest.raises(BadInput, match=r'utterance u0: .* has a range'):
        get(open_alignment(str(tmp_path/'r.scp')), ['u0'])


def test_a_command_that_fails(tmp_path):
    with pytest.raises(BadInput, match='ended with status 3'):
        open_alignment('ark:exit 3 |')
