import pickle

import kaldiio
import numpy as np
import pytest

from hpcasr.data.kaldi import Scp, table, words
from hpcasr.errors import BadInput


@pytest.fixture
def matrices(tmp_path, rng):
    """write(method) -> (matrices, Scp); more keywords are those of kaldiio.save_ark."""
    def write(**options):
        x = {f'u{i}': rng.normal(0, 9, (T, 13)).astype(np.float32) for i, T in enumerate((3, 50, 200))}
        kaldiio.save_ark(str(tmp_path/'f.ark'), x, str(tmp_path/'f.scp'), **options)
        return x, Scp(tmp_path/'f.scp')
    return write


def test_plain_archives_bit_for_bit(matrices):
    x, scp = matrices()
    assert all(scp.matrix(k).tobytes() == x[k].tobytes() for k in reversed(x))


@pytest.mark.parametrize('method', [1, 2, 3, 5])
def test_compressed_archives_within_their_quantization(matrices, method):
    x, scp = matrices(compression_method=method)
    for k, original in x.items():
        step = np.ptp(original)/(65535 if method == 3 else 64)  # a byte is at least 1/64 of the range
        np.testing.assert_allclose(scp.matrix(k), original, atol=step)


def test_text_archives(matrices):
    x, scp = matrices(text=True)
    np.testing.assert_allclose(scp.matrix('u1'), x['u1'], rtol=1e-6)


def test_ranges_are_inclusive(matrices, tmp_path):
    x, scp = matrices()
    entry = scp.entries['u2']
    (tmp_path/'r.scp').write_text(f'r {entry}[10:19]\nc {entry}[0:4,2:3]\nlate {entry}[150:201]\nout {entry}[0:203]\n')
    scp = Scp(tmp_path/'r.scp')
    np.testing.assert_array_equal(scp.matrix('r'), x['u2'][10:20])
    np.testing.assert_array_equal(scp.matrix('c'), x['u2'][:5, 2:4])
    assert len(scp.matrix('late')) == 50
    with pytest.raises(BadInput, match='outside of the matrix of 200 x 13'):
        scp.matrix('out')


def test_a_range_may_reach_three_frames_beyond(matrices, tmp_path):
    _, scp = matrices()
    entry = scp.entries['u2']
    (tmp_path/'r.scp').write_text(f'in {entry}[150:202]\nout {entry}[150:203]\nwide {entry}[0:9,0:13]\n')
    scp = Scp(tmp_path/'r.scp')
    assert len(scp.matrix('in')) == 50
    for key in 'out', 'wide':
        with pytest.raises(BadInput, match='outside of the matrix of 200 x 13'):
            scp.matrix(key)


@pytest.mark.parametrize('here, there', [('x', 'y'), ('y', 'x')])
def test_a_path_that_means_two_files_is_refused(tmp_path, monkeypatch, here, there):
    for name in 'x', 'y':
        (tmp_path/name).mkdir()
        kaldiio.save_mat(str(tmp_path/name/'f.mat'), np.ones((2, 3), np.float32))
        (tmp_path/name/'f.scp').write_text('u f.mat\n')
    monkeypatch.chdir(tmp_path/here)
    with pytest.raises(BadInput, match=rf'utterance u: f.mat is both \./f.mat and \.\./{there}/f.mat; write absolute'):
        Scp(f'../{there}/f.scp').matrix('u')
    assert Scp('f.scp').matrix('u').shape == Scp(tmp_path/here/'f.scp').matrix('u').shape == (2, 3)
    (tmp_path/there/'f.scp').write_text(f'u {tmp_path}/{there}/f.mat\n')
    assert Scp(f'../{there}/f.scp').matrix('u').shape == (2, 3)


@pytest.mark.parametrize('entry', ['f.ark:99999999999999999999999', f'f.ark:{"9"*5000}', 'x'*300, 'x'*5000,
                                   f'f.ark:3[0:{"9"*5000}]'])
def test_entries_out_of_all_bounds(matrices, tmp_path, entry):
    matrices()
    (tmp_path/'r.scp').write_text(f'u {entry}\n')
    with pytest.raises(BadInput, match='utterance u: ') as e:
        Scp(tmp_path/'r.scp').matrix('u')
    assert len(str(e.value)) < 700


def test_paths_relative_to_the_scp(matrices, tmp_path):
    x, scp = matrices()
    (tmp_path/'r.scp').write_text(f'a f.ark:{scp.entries["u1"].rsplit(":")[-1]}\n')
    np.testing.assert_array_equal(Scp(tmp_path/'r.scp').matrix('a'), x['u1'])


def test_more_archives_than_are_kept_open(tmp_path, rng):
    x = rng.normal(size=(100, 2, 3)).astype(np.float32)
    for i in range(100):
        kaldiio.save_mat(str(tmp_path/f'{i}.mat'), x[i])
    (tmp_path/'m.scp').write_text(''.join(f'u{i} {i}.mat\n' for i in range(100)))
    scp = Scp(tmp_path/'m.scp')
    for i in [*range(100), 0, 99, 1]:
        np.testing.assert_array_equal(scp.matrix(f'u{i}'), x[i])
    assert len(scp.archives) == 64


def test_pipes_are_not_run(tmp_path):
    (tmp_path/'p.scp').write_text(f'u touch {tmp_path}/ran; cat x |\n')
    with pytest.raises(BadInput, match='--allow-pipes'):
        Scp(tmp_path/'p.scp')
    assert not (tmp_path/'ran').exists()


def test_allowed_pipes(matrices, tmp_path):
    x, _ = matrices()
    kaldiio.save_mat(str(tmp_path/'m'), x['u1'])
    (tmp_path/'p.scp').write_text(f'u cat {tmp_path}/m |\nbad cat {tmp_path}/none 2>/dev/null |\n')
    scp = Scp(tmp_path/'p.scp', allow_pipes=True)
    np.testing.assert_array_equal(scp.matrix('u'), x['u1'])
    with pytest.raises(BadInput, match='command ended with status 1'):
        scp.matrix('bad')


class Bomb:
    def __reduce__(self):
        return open, ('exploded', 'w')


def test_no_pickle_is_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, head in ('p', b'PKL'), ('n', b'NPY'):
        (tmp_path/name).write_bytes(head + pickle.dumps(Bomb()))
    (tmp_path/'p.scp').write_text('a p\nb n\n')
    for key in 'ab':
        with pytest.raises(BadInput, match='no matrix begins here'):
            Scp('p.scp').matrix(key)
    assert not (tmp_path/'exploded').exists()


@pytest.mark.parametrize('keep', [0, 5, 12, 30, 200])
@pytest.mark.parametrize('method', [None, 2, 3])
def test_truncated_archives(matrices, tmp_path, keep, method):
    matrices(compression_method=method)
    raw = (tmp_path/'f.ark').read_bytes()
    (tmp_path/'f.ark').write_bytes(raw[:keep])
    with pytest.raises(BadInput, match=r'f\.scp: utterance u2: .*f\.ark.* make the archive again'):
        Scp(tmp_path/'f.scp').matrix('u2')


def test_tables(tmp_path):
    path = tmp_path/'text'
    path.write_text('b  TWO  WORDS\n\na\tONE\nc\n')
    assert table(path) == {'b': 'TWO  WORDS', 'a': 'ONE', 'c': ''}
    path.write_text('a ONE\na TWO\n')
    with pytest.raises(BadInput, match='line 2: a appears twice'):
        table(path)
    path.write_bytes(b'\xef\xbb\xbfa ONE\r\nb\xc2\xa0c TWO\xc2\xa0\r\n')
    assert table(path) == {'a': 'ONE', 'b\xa0c': 'TWO\xa0'}
    assert words(' a\xa0b\tc ') == ['a\xa0b', 'c']
    path.write_bytes(b'a ONE\nb \0\n')
    with pytest.raises(BadInput, match='line 2: a NUL character'):
        table(path)
    path.write_bytes(b'a \xff\n')
    with pytest.raises(BadInput, match='not UTF-8'):
        table(path)
    with pytest.raises(BadInput, match='none: No such file'):
        table(tmp_path/'none')


def test_damaged_archives_raise_nothing_but_bad_input(matrices, tmp_path, rng):
    for options in {}, {'compression_method': 2}, {'compression_method': 3}, {'text': True}:
        _, scp = matrices(**options)
        whole = bytearray((tmp_path/'f.ark').read_bytes())
        for _ in range(50):
            damaged = whole.copy()
            damaged[rng.integers(300)] ^= int(rng.integers(1, 256))
            (tmp_path/'f.ark').write_bytes(damaged)
            for key in scp.keys():
                try:
                    scp.matrix(key)
                except BadInput as e:
                    assert f'utterance {key}' in str(e)
