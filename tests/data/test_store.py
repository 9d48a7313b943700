import errno
import mmap
import os
import zlib
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from hpcasr.data.check import problems
from hpcasr.data.corpus import Corpus
from hpcasr.data.store import Store, StoreWriter, Utterances, refuse_existing, write_targets
from hpcasr.errors import BadInput

NAMES = ['a-1', 'a-2', 'b-1']
LENGTHS = [5, 1, 40]
TEXTS = ['ÄPFEL UND BIRNEN', '', 'три']


@pytest.fixture
def parts(rng):
    return [rng.normal(size=(T, 6)).astype(np.float32) for T in LENGTHS]


@pytest.fixture
def labels(rng):
    return [rng.integers(0, 4, T) for T in LENGTHS]


@pytest.fixture
def write(tmp_path, parts, labels):
    """write(name, labelled, ...) -> path of a store of three utterances."""
    def write(name='s.h5', labelled=True, speakers=('a', 'b'), **options):
        utterances = Utterances(NAMES, LENGTHS, [0, 0, 1], speakers, TEXTS)
        names = ['p', 'q', 'r', 's', 't'] if labelled else None
        with StoreWriter(tmp_path/name, utterances, 6, target_names=names, **options) as w:
            for x, t in zip(parts, labels, strict=True):
                w.append(x, t if labelled else None)
        return tmp_path/name
    return write


def corpus(parts, labels, **options):
    targets = np.concatenate(labels).astype(np.int32)
    return Corpus(np.concatenate(parts), np.cumsum([0, *LENGTHS]), targets, 5, **options)


@pytest.mark.parametrize('splice', [(0, 0), (3, 2)])
def test_a_store_is_the_corpus_it_was_made_from(write, parts, labels, splice):
    store, memory = Store(write(splice=splice)), corpus(parts, labels, splice=splice)
    assert (store.dim, store.num_frames, store.num_utterances, store.num_targets) == (memory.dim, 46, 3, 5)
    assert [store.name(u) for u in range(3)] == NAMES and [store.text(u) for u in range(3)] == TEXTS
    assert [store.speaker_name(s) for s in store.speakers] == ['a', 'a', 'b']
    assert store.target_names == ['p', 'q', 'r', 's', 't']
    assert store.frames.tobytes() == memory.frames.tobytes()
    np.testing.assert_array_equal(store.counts(), memory.counts())
    for u, T in enumerate(LENGTHS):
        np.testing.assert_array_equal(read(store, u, T)[0], read(memory, u, T)[0])
        np.testing.assert_array_equal(read(store, u, T)[1], labels[u])


def read(c, u, T):
    x, targets = np.zeros((T, c.dim), np.float32), np.zeros(T, np.int32)
    c.prefetch(u, 0, T)
    c.chunk(u, 0, T, x, targets)
    return x, targets


def test_layout(write):
    with h5py.File(write(), 'r') as f:
        assert dict(f.attrs)['format'] == 'hpcasr-store' and f.attrs['version'] == 1
        assert f['frames'].chunks is None and f['frames'].compression is None


def test_half_precision(write, parts):
    store = Store(write(dtype='float16'))
    assert store.frames.dtype == np.float16
    np.testing.assert_allclose(read(store, 2, 40)[0], parts[2], rtol=1e-3, atol=1e-6)


def test_what_float16_cannot_hold(write, parts):
    parts[2][7, 3] = 1e5
    with pytest.raises(BadInput, match='utterance b-1: inf in frame 7, column 3'):
        write(dtype='float16')


def test_the_digest_is_of_the_content(write, parts):
    first = Store(write('1.h5', provenance={'date': 'today'})).digest
    assert Store(write('2.h5', provenance={'date': 'tomorrow'})).digest == first
    assert Store(write('3.h5', splice=(1, 1))).digest != first
    assert Store(write('4.h5', frontend={'cmvn': 'none'})).digest != first
    assert Store(write('5.h5', speakers=['a', 'c'])).digest != first
    parts[0][0, 0] += 1
    assert Store(write('6.h5')).digest != first


def test_targets_later_are_targets_at_once(write, labels):
    path, done = write('1.h5', labelled=False), write('2.h5')
    assert Store(path).targets is None and Store(path).num_targets == 0
    before = Store(path).digest
    write_targets(path, iter(labels), 5, ['p', 'q', 'r', 's', 't'], {'command': 'align'})
    store = Store(path)
    assert store.digest == Store(done).digest != before
    np.testing.assert_array_equal(store.targets, Store(done).targets)
    assert store.provenance['targets'] == {'command': 'align'}
    with pytest.raises(BadInput, match='has targets already; use --force'):
        write_targets(path, iter(labels), 5, ['p', 'q', 'r', 's', 't'], {})
    write_targets(path, iter(labels), 5, ['p', 'q', 'r', 's', 'u'], {}, force=True)
    assert Store(path).digest != store.digest
    write_targets(path, ([0]*T for T in LENGTHS), 1, ['x'], {}, force=True)
    assert Store(path).counts().tolist() == [46] and Store(path).target_names == ['x']


def test_interrupted_alignment(write, labels):
    path = write(labelled=False)

    def interrupted():
        yield labels[0]
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        write_targets(path, interrupted(), 5, list('pqrst'), {})
    with pytest.raises(BadInput, match=r'targets are incomplete.* run the alignment again'):
        Store(path)
    assert Store(path, targets=False).targets is None
    write_targets(path, iter(labels), 5, list('pqrst'), {})
    np.testing.assert_array_equal(Store(path).targets, np.concatenate(labels))


@pytest.mark.parametrize('dataset', ['frames', 'targets'])
def test_a_flipped_bit_is_noticed_at_first_touch(write, dataset):
    path = write()
    with h5py.File(path) as f:
        at = f[dataset].id.get_offset() + f[dataset].nbytes - 2  # in the last utterance
    flip(path, at)
    store = Store(path)
    read(store, 0, 5)
    with pytest.raises(BadInput, match=rf'utterance b-1: checksum of the {dataset} differs.*import it again'):
        store.chunk(2, 0, 1, np.zeros((1, 6), np.float32), np.zeros(1, np.int32))
    Store(path, verify=False).chunk(2, 0, 1, np.zeros((1, 6), np.float32), np.zeros(1, np.int32))


@pytest.fixture
def checked(monkeypatch):
    """What checksums are made of from now on."""
    seen, crc32 = [], zlib.crc32
    monkeypatch.setattr(zlib, 'crc32', lambda x, *args: (seen.append(len(x)), crc32(x, *args))[1])
    return seen


def test_an_utterance_is_verified_once(write, checked):
    store = Store(write())
    del checked[:]
    for _ in range(3):
        read(store, 2, 40)
    assert checked == [40, 40]


class Told:
    """A mapping that is told what will be read."""

    def __init__(self):
        self.asked = []

    def madvise(self, advice, begin, n):
        assert advice == mmap.MADV_WILLNEED
        self.asked.append((begin, begin + n))


def test_prefetch_asks_for_all_of_an_utterance_until_it_is_verified(write):
    path = write()
    with h5py.File(path) as f:
        frames, targets = f['frames'].id.get_offset(), f['targets'].id.get_offset()
    store, told = Store(path), Told()
    store._map = told
    store.prefetch(2, 3, 7)
    store.touch(2)
    store.prefetch(2, 3, 7)
    assert told.asked == [(page(frames + 6*24), frames + 46*24), (page(targets + 6*4), targets + 46*4),
                          (page(frames + 9*24), frames + 13*24), (page(targets + 9*4), targets + 13*4)]


def page(at):
    return at//mmap.PAGESIZE*mmap.PAGESIZE


@pytest.mark.parametrize('name, place, value, problem', [
    ('offsets', 1, 4, 'checksum of the offsets differs'), ('offsets', 3, 2**60, 'offsets'),
    ('offsets', 1, -1, 'offsets'), ('speakers', 1, 1, 'checksum of the speakers differs'),
    ('speakers', 0, 1 << 30, 'speaker'), ('counts', 0, 1 << 40, 'counts'),
    ('counts', slice(5), [-1, 47, 0, 0, 0], 'counts')])
@pytest.mark.parametrize('old', [False, True])
def test_damage_is_noticed_before_anything_is_read(write, name, place, value, problem, old):
    path = write()
    with h5py.File(path, 'r+') as f:
        f[name][place] = value
        if old:
            del f.attrs['layout_crc']
    if old and problem.startswith('checksum'):
        assert Store(path).num_utterances == 3
        return
    with pytest.raises(BadInput, match=rf's\.h5: .*{problem}.*import it again or restore a copy'):
        Store(path)


def test_targets_are_not_given_to_a_damaged_store(write, labels):
    path = write()
    with h5py.File(path, 'r+') as f:
        f['counts'][0] = 1
    assert Store(path, targets=False).targets is None
    with pytest.raises(BadInput, match=r'digest differs.*import it again'):
        write_targets(path, iter(labels), 5, list('pqrst'), {}, force=True)


@pytest.mark.parametrize('name', ['frames', 'targets', 'speakers', 'frames_crc', 'names', 'texts', 'counts'])
def test_datasets_of_other_lengths(write, name):
    path = write()
    with h5py.File(path, 'r+') as f:
        short = f[name][:][:-1]
        del f[name]
        f[name] = short
    with pytest.raises(BadInput, match=r's\.h5: not a store.* \(shape of \w+ is \[.*\], expected \[.*\]\); import'):
        Store(path)


@pytest.fixture
def synced(monkeypatch):
    """Names of the files that were brought to the disk."""
    names, fsync = [], os.fsync
    monkeypatch.setattr(os, 'fsync', lambda fd: (names.append(os.readlink(f'/proc/self/fd/{fd}')), fsync(fd)))
    return names


def test_stores_are_on_the_disk_before_they_are_said_to_be(write, labels, synced):
    path = write(labelled=False)
    assert [name.split('.tmp-')[0] for name in synced] == [str(path)]
    write_targets(path, iter(labels), 5, list('pqrst'), {})
    assert synced[1:] == [str(path)]*3  # incomplete, the targets, complete


def test_a_full_disk_is_told_of_the_store_that_was_asked_for(write, monkeypatch, tmp_path):
    def full(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(BadInput, match=r's\.h5: No space left on device; make room'):
        write()
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_no_files(write, tmp_path):
    with pytest.raises(BadInput, match='name of the file to write is empty'):
        refuse_existing('', True)
    with pytest.raises(BadInput, match='is a directory; give the name of a file in it'):
        write('', force=True)
    with pytest.raises(BadInput, match='the name of a store is empty'):
        Store('')


def flip(path, at):
    with open(path, 'r+b') as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 16]))


@pytest.mark.parametrize('keep', [0, 10, 100, 5000, -1])
def test_truncated(write, tmp_path, keep):
    whole = write().read_bytes()
    path = tmp_path/'cut.h5'
    path.write_bytes(whole[:keep])
    with pytest.raises(BadInput, match=r'cut\.h5: .*trunc.*import it again'):
        Store(path)


def test_not_a_store(tmp_path):
    (tmp_path/'x.txt').write_text('hello')
    with pytest.raises(BadInput, match='not a store'):
        Store(tmp_path/'x.txt')
    with h5py.File(tmp_path/'y.h5', 'w') as f:
        f['x'] = 1
    with pytest.raises(BadInput, match='an HDF5 file, but not a store'):
        Store(tmp_path/'y.h5')
    with pytest.raises(BadInput, match='no such store'):
        Store(tmp_path/'z.h5')
    with pytest.raises(BadInput, match=r'is a directory, not a store; hpcasr data import /.* --out STORE makes one$'):
        Store(tmp_path)


def test_a_newer_version(write):
    path = write()
    with h5py.File(path, 'r+') as f:
        f.attrs['version'] = 2
    with pytest.raises(BadInput, match='store of version 2'):
        Store(path)


def test_nothing_is_left_by_an_exception(write, parts, tmp_path):
    parts[1][0, 0] = np.nan
    with pytest.raises(BadInput, match='utterance a-2: nan in frame 0, column 0'):
        write()
    assert list(tmp_path.iterdir()) == []


def test_existing_files(write, parts):
    path = write()
    before = path.read_bytes()
    with pytest.raises(BadInput, match='exists; use --force'):
        write()
    assert path.read_bytes() == before
    parts[0][0] = 0
    write(force=True)
    assert Store(path).frames[0, 0] == 0


def test_an_open_store_survives_its_replacement(write, parts):
    path = write()
    store, first = Store(path), parts[0].copy()
    parts[0][:] = 0
    write(force=True)
    np.testing.assert_array_equal(read(store, 0, 5)[0], first)


def test_damage_anywhere_is_noticed_or_harmless(write, parts, tmp_path, rng):
    """HDF5 itself crashes on damaged metadata unless they carry checksums."""
    whole, path = write().read_bytes(), tmp_path/'t.h5'
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            if not problems(path):
                assert Store(path).frames.tobytes() == np.concatenate(parts).tobytes()
        except BadInput as e:
            assert str(path) in str(e)


def test_threads_read_the_same(write, parts):
    store = Store(write())
    with ThreadPoolExecutor(4) as pool:
        for u, (x, _) in zip([0, 1, 2]*50, pool.map(lambda u: read(store, u, LENGTHS[u]), [0, 1, 2]*50), strict=True):
            np.testing.assert_array_equal(x, parts[u])
