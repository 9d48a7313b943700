import re
import tracemalloc

import h5py
import kaldiio
import numpy as np
import pytest

from hpcasr.bench import synthetic
from hpcasr.data.check import problems
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest, ingest
from hpcasr.data.store import Store, write_targets
from hpcasr.errors import BadInput


@pytest.fixture
def store(directory, features, tmp_path):
    path = tmp_path/'s.h5'
    ingest(Ingest(directory(features), Frontend()), path)
    write_targets(path, (np.arange(len(x)) % 3 for x in features.values()), 3, list('xyz'), {})
    return path


def test_a_good_store(store):
    assert problems(store) == []


@pytest.mark.parametrize('name, place, value, line', [
    ('frames', (41, 5), 0.25, 'utterance b-1: checksum of the frames differs'),
    ('frames', (0, 0), np.nan, 'utterance a-1: nan in frame 0, column 0'),
    ('targets', 40, 2, 'utterance a-2: checksum of the targets differs'),
    ('targets', 50, 7, 'utterance b-1: targets 0 .. 7 are not in 0..2'),
    ('speakers', 1, 5, 'a speaker is not in 0..1'),
    ('speakers', 1, 1, 'checksum of the speakers differs'),
    ('offsets', 2, 99, 'offsets do not grow'),
    ('counts', 0, 1, 'checksum of the counts differs'),
    ('names', 0, 'q', 'digest differs'),
    ('texts', 0, 'q', 'digest differs')])
def test_what_is_wrong_with_a_store(store, name, place, value, line):
    with h5py.File(store, 'r+') as f:
        f[name][place] = value
    assert any(line in problem for problem in problems(store))


@pytest.mark.parametrize('name, place, value, line', [
    ('speakers', 1, 1, 'digest differs'), ('counts', slice(2), [31, 35], 'counts of the targets differ')])
def test_what_is_wrong_with_an_older_store(store, name, place, value, line):
    with h5py.File(store, 'r+') as f:
        assert f['counts'][:].tolist() == [34, 32, 31]
        f[name][place] = value
        del f.attrs['layout_crc']
    assert any(line in problem for problem in problems(store))


def test_memory_is_that_of_an_utterance(tmp_path):
    path = tmp_path/'long.h5'
    synthetic.write(path, 20_000_000, 4, 72)
    with h5py.File(path, 'r+') as f:
        f['targets'][-1] |= 1 << 30  # of which bincount would make 8 GiB
    tracemalloc.start()
    found = problems(path)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    assert len(found) == 2 and 'are not in 0..71' in found[1]


def test_an_empty_name():
    with pytest.raises(BadInput, match='the name of a store is empty'):
        problems('')


def test_a_good_directory(directory, features):
    assert problems(directory(features)) == []


def test_every_byte_of_the_frames_is_covered(store):
    with h5py.File(store) as f:
        start, size = f['frames'].id.get_offset(), f['frames'].nbytes
    whole = store.read_bytes()
    for at in np.random.default_rng(0).integers(start, start + size, 20):
        store.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at+1:])
        assert len(problems(store)) == 1
    store.write_bytes(whole)
    assert problems(store) == [] and Store(store).num_utterances == 5


def edit(name, text):
    return lambda path: (path/name).write_text(text)


def nan(path):
    kaldiio.save_mat(str(path/'nan.mat'), np.array([[0, 1, 2, 3], [0, 1, np.nan, 3]], np.float32))
    replace_entry(path, 'nan.mat')


def wide(path):
    kaldiio.save_mat(str(path/'wide.mat'), np.zeros((3, 5), np.float32))
    replace_entry(path, 'wide.mat')


def empty(path):
    kaldiio.save_mat(str(path/'empty.mat'), np.zeros((0, 4), np.float32))
    replace_entry(path, 'empty.mat')


def segments(path):
    (path/'wav.scp').write_text('r r.wav\n')
    (path/'r.wav').touch()
    (path/'segments').write_text('a-1 r 0 1\na-2 r 1 2\nb-1 r 2 3\nb-2 r 3 4\nb-3 r 4 5\n')


def test_recordings_are_not_utterances_where_there_are_segments(directory, features):
    path = directory(features)
    segments(path)
    assert problems(path) == []


def replace_entry(path, entry):
    lines = (path/'feats.scp').read_text().splitlines()
    (path/'feats.scp').write_text('\n'.join([*lines[:2], f'b-1 {entry}', *lines[3:]]) + '\n')


def truncate(path):
    (path/'feats.ark').write_bytes((path/'feats.ark').read_bytes()[:-5])


@pytest.mark.parametrize('harm, line', [
    (edit('text', 'a-1 X\na-2 X\nb-1 X\nb-2 X\n'), 'utterance b-3 is in utt2spk but not in text; they differ in 1'),
    (edit('text', 'b-1 X\na-1 X\na-2 X\nb-2 X\nb-3 X\n'), 'not sorted: a-1 after b-1'),
    (edit('text', 'a-1 X\na-1 X\n'), 'a-1 appears twice'),
    (edit('utt2spk', 'a-1 z\na-2 z\nb-1 b\nb-2 b\nb-3 b\n'), 'not sorted by speaker'),
    (edit('spk2utt', 'a a-1\nb b-1 b-2 b-3\n'), 'spk2utt is not the inverse'),
    (edit('utt2num_frames', 'a-1 41\na-2 1\nb-1 17\nb-2 9\nb-3 30\n'), 'a-1: 40 frames, but 41'),
    (edit('wav.scp', 'r none.wav\n'), 'none.wav: no such file'),
    (edit('wav.scp', 'r none.wav\n'), 'utterance a-1 is in utt2spk but not in wav.scp; they differ in 6'),
    (edit('utt2spk', 'a-1 a\na-2 a\nb-1 b\nb-2 b c\nb-3 b\n'), "utterance b-2: expected one speaker, got 'b c'"),
    (edit('utt2spk', 'a-1\na-2 a\nb-1 b\nb-2 b\nb-3 b\n'), "utterance a-1: expected one speaker, got ''"),
    (empty, 'utterance b-1: has no frames'),
    (lambda path: (path/'utt2spk').unlink(), 'has no utt2spk'),
    (lambda path: (path/'feats.scp').unlink(), 'has neither wav.scp nor feats.scp'),
    (nan, 'utterance b-1: nan in frame 1, column 2'), (wide, 'utterance b-1: 5 columns, others have 4'),
    (truncate, 'utterance b-3: .*truncated')])
def test_what_is_wrong_with_a_directory(directory, features, harm, line):
    path = directory(features)
    harm(path)
    assert any(re.search(line, problem) for problem in problems(path))
