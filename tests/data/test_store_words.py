"""Tree, lexicon and segments of a store: they travel with the targets, and go with them."""

import os
import resource

import h5py
import numpy as np
import pytest

from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.cli import main
from hpcasr.data.check import problems
from hpcasr.data.pack import pack
from hpcasr.data.store import Store, StoreWriter, Utterances, write_targets
from hpcasr.data.summary import summary
from hpcasr.errors import BadInput

TREE = Tree.monophone(['SIL', 'A', 'B'], 1)
SEGMENTS = {'a-1': [[0, 2, 0, -1], [2, 3, 1, 0], [5, 1, 2, 0]], 'b-1': [[0, 4, 2, 0]],
            'b-2': [[0, 1, 2, 0], [1, 7, 1, 1], [8, 2, 0, -1]]}
TEXTS = {'a-1': 'ab', 'b-1': 'b', 'b-2': 'b a'}


def targets(segments):
    return np.repeat([phone for _, _, phone, _ in segments], [n for _, n, _, _ in segments])


@pytest.fixture
def lexicon(tmp_path):
    (tmp_path/'lexicon.txt').write_text('ab A B\na A\nb B\nb A\n')
    return Lexicon(str(tmp_path/'lexicon.txt'), 1)


@pytest.fixture
def write(tmp_path, lexicon, rng):
    """write(name, names, ...) -> path of a store of these utterances, with tree, lexicon and segments."""
    def write(name='s.h5', names=tuple(SEGMENTS), **options):
        T = [len(targets(SEGMENTS[u])) for u in names]
        who = Utterances(names, T, [0]*len(T), ['s'], [TEXTS[u] for u in names])
        options = {'tree': TREE, 'lexicon': lexicon, 'target_names': TREE.target_names} | options
        with StoreWriter(tmp_path/name, who, 2, **options) as w:
            for u, n in zip(names, T, strict=True):
                w.append(np.full((n, 2), n), targets(SEGMENTS[u]), SEGMENTS[u])
        return tmp_path/name
    return write


def plain(path):
    """The store at `path` without tree, lexicon and segments."""
    write_targets(path, all_targets(), 3, TREE.target_names, {}, force=True)
    return path


def all_targets():
    return [targets(segments) for segments in SEGMENTS.values()]


def test_they_come_back(write, lexicon):
    store = Store(write())
    assert store.tree.dumps() == TREE.dumps() and store.lexicon.dumps() == lexicon.dumps()
    for u, segments in enumerate(SEGMENTS.values()):
        assert store.segments(u).tolist() == segments and store.segments(u).dtype == np.int32
    assert problems(store.path) == []


def test_a_store_without(write):
    store = Store(plain(write()))
    assert store.tree is None and store.lexicon is None and store.segments(0) is None
    with h5py.File(store.path) as f:
        assert not {'tree', 'lexicon', 'segments', 'segment_offsets', 'segments_crc'} & f.keys()
    assert problems(store.path) == []


@pytest.mark.parametrize('form', [
    lambda: {'targets': iter(all_targets()), 'segments': iter(SEGMENTS.values())},
    lambda: {'targets': zip(all_targets(), SEGMENTS.values(), strict=True)}])
def test_later_is_at_once(write, lexicon, form):
    whole = Store(write()).digest
    path = plain(write('later.h5'))
    assert Store(path).digest != whole
    write_targets(path, **form(), num_targets=3, target_names=TREE.target_names, provenance={}, force=True, tree=TREE,
                  lexicon=lexicon)
    assert Store(path).digest == whole and problems(path) == []
    assert Store(path).segments(2).tolist() == SEGMENTS['b-2']


def test_the_digest_is_of_them_too(write, tmp_path):
    other = [[[0, len(targets(s)), 0, -1]] for s in SEGMENTS.values()]
    digests = {Store(write('1.h5')).digest, Store(write('2.h5', tree=None)).digest,
               Store(write('3.h5', lexicon=None)).digest}
    path = write('4.h5')
    write_targets(path, all_targets(), 3, TREE.target_names, {}, True, TREE, None, other)
    assert len(digests | {Store(path).digest}) == 4


def test_segments_of_every_utterance_or_of_none(write):
    path = write()
    with pytest.raises(AssertionError, match='some utterances only'):
        write_targets(path, zip(all_targets(), [SEGMENTS['a-1'], None, None], strict=True), 3, TREE.target_names, {},
                      force=True)
    with pytest.raises(BadInput, match='run the alignment again'):
        Store(path)
    interrupted = Store(path, targets=False)
    assert interrupted.tree is None and interrupted.lexicon is None and interrupted.segments(0) is None
    assert Store(plain(path)).segments(0) is None


def test_what_is_replaced_leaves_no_hole(write, lexicon):
    lexicon.take({str(n): [(1, ['A']*9)] for n in range(5000)})
    path, sizes = write(), []
    for _ in range(4):
        write_targets(path, all_targets(), 3, TREE.target_names, {}, True, TREE, lexicon, SEGMENTS.values())
        sizes.append(os.path.getsize(path))
    assert sizes[3] - sizes[1] < len(lexicon.dumps())/4


def test_nothing_is_left_beside_it(write, tmp_path):
    plain(write())
    assert sorted(os.listdir(tmp_path)) == ['lexicon.txt', 's.h5']


@pytest.fixture
def full():
    """full(size): from now on no file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_is_full_of_segments(write, full):
    """Room for all but the segments: the features must survive."""
    path = plain(write())
    before = Store(path).frames.copy()
    long = [[[t, 1, 0, -1] for t in range(len(x))] for x in all_targets()]
    for room in 1 << 19, (1 << 20) + 4000:  # before anything is written; and when targets are
        full(os.path.getsize(path) + room)
        with pytest.raises(BadInput, match=r's\.h5: File too large; make room'):
            write_targets(path, all_targets(), 3, TREE.target_names, {}, True, TREE, Large(), long)
    full(resource.RLIM_INFINITY)
    np.testing.assert_array_equal(Store(path, targets=False).frames, before)
    assert problems(plain(path)) == []


class Large:
    """A lexicon that says a lot."""

    def dumps(self):
        return 'x'*10_000


def test_segments_that_do_not_fit_while_they_are_collected(tmp_path, full):
    who = Utterances(['a'], [50_000], [0], ['s'])
    full(600_000)  # frames and targets fit
    segments = np.stack([np.arange(50_000), np.ones(50_000), np.zeros(50_000), -np.ones(50_000)], 1)
    with pytest.raises(BadInput, match=r's\.h5: File too large; make room'), \
            StoreWriter(tmp_path/'s.h5', who, 1, target_names=['x']) as w:
        w.append(np.zeros((50_000, 1)), np.zeros(50_000), segments)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('place, value, line', [
    ((1, 0), 3, 'utterance a-1: segments do not cover its 6 frames in order'),
    ((1, 1), 4, 'utterance a-1: segments do not cover its 6 frames in order'),
    ((3, 2), 3, 'utterance b-1: segments name phones 3 .. 3, of 3'),
    ((3, 2), -1, 'utterance b-1: segments name phones -1 .. -1, of 3'),
    ((3, 2), 1, 'utterance b-1: the target of frame 0 is not a pdf of its phone in the tree'),
    ((3, 3), 1, 'utterance b-1: segments do not name its 1 words in order'),
    ((3, 3), -2, 'utterance b-1: segments do not name its 1 words in order'),
    ((4, 3), 1, None), ((5, 3), 0, None)])
def test_what_is_wrong_with_segments(write, place, value, line):
    path = write()
    with h5py.File(path, 'r+') as f:
        f['segments'][place] = value
    found = problems(path)
    assert any('checksum of the segments differs' in problem for problem in found)
    assert line is None or any(line in problem for problem in found)
    u = 0 if place[0] < 3 else 1 if place[0] < 4 else 2
    with pytest.raises(BadInput, match=r'checksum of the segments differs.*import it again'):
        Store(path).segments(u)
    assert Store(path, verify=False).segments(u) is not None


def test_a_target_of_another_phone(write):
    path, y = write(), all_targets()
    y[2][9] = 1
    write_targets(path, y, 3, TREE.target_names, {}, True, TREE, None, SEGMENTS.values())
    assert problems(path) == [f'{path}: utterance b-2: the target of frame 9 is not a pdf of its phone in the tree']


@pytest.mark.parametrize('name, value, line', [('tree', '{}', 'checksum of the tree differs'),
                                               ('lexicon', '{}', 'checksum of the lexicon differs')])
def test_other_texts(write, name, value, line):
    path = write()
    with h5py.File(path, 'r+') as f:
        f[name][()] = value
    assert any(line in problem for problem in problems(path))
    with pytest.raises(BadInput, match=rf's\.h5: {line}'):
        getattr(Store(path), name)


@pytest.mark.parametrize('name, line', [('segment_offsets', 'segment_offsets do not grow from 0 to 7'),
                                        ('segments_crc', 'checksum of the segments differs')])
def test_damaged_small_arrays(write, name, line):
    path = write()
    with h5py.File(path, 'r+') as f:
        f[name][1] = 99
    assert any(line in problem for problem in problems(path))


@pytest.mark.parametrize('name', ['segments', 'segment_offsets', 'segments_crc'])
def test_segments_of_other_lengths(write, name):
    path = write()
    with h5py.File(path, 'r+') as f:
        short = f[name][:][..., :-1]
        del f[name]
        f[name] = short
    with pytest.raises(BadInput, match=rf'shape of {name} is'):
        Store(path)


def test_a_lexicon_that_does_not_fit_the_tree(write, lexicon):
    lexicon.take({'c': [(1, ['A', 'C'])]})
    assert any('c: the tree has no phone C' in problem for problem in problems(write()))


def test_a_tree_of_other_size_is_told(write):
    path = write(tree=Tree.monophone(['SIL', 'A', 'B'], 2))
    assert any('its tree has 6 pdfs, but it has 3 targets' in problem for problem in problems(path))


def test_packing_carries_them(write, tmp_path):
    a, b, whole = write('a.h5', ['a-1']), write('b.h5', ['b-1', 'b-2']), write('whole.h5')
    pack([a, b], tmp_path/'out.h5')
    assert Store(tmp_path/'out.h5').digest == Store(whole).digest
    assert Store(tmp_path/'out.h5').segments(1).tolist() == SEGMENTS['b-1']


def test_packing_lexicons_that_lay_elsewhere(write, lexicon, tmp_path):
    a = write('a.h5', ['a-1'])
    lexicon.path = 'elsewhere'
    pack([a, write('b.h5', ['b-1'])], tmp_path/'out.h5')


@pytest.mark.parametrize('options, problem', [
    ({'tree': Tree(['SIL', 'A', 'B'], 1, 3, [0, 1, 2], 3)}, 'tree [0-9a-f]{8}, there [0-9a-f]{8}'),
    ({'tree': None}, 'tree none, there [0-9a-f]{8}'), ({'lexicon': None}, 'lexicon none, there')])
def test_others_are_not_packed(write, tmp_path, options, problem):
    a, b = write('a.h5', ['a-1']), write('b.h5', ['b-1', 'b-2'], **options)
    with pytest.raises(BadInput, match=f'b.h5: cannot be packed with .*a.h5: {problem}'):
        pack([a, b], tmp_path/'out.h5')


def test_summary(write):
    s = summary(Store(write()))
    assert s['tree'] == {'phones': 3, 'states': 1, 'context': 'monophone', 'leaves': 3}
    assert s['words'] == 3 and s['segments'] == 7
    s = summary(Store(plain(write(force=True))))
    assert s['tree'] is None and s['words'] is None and s['segments'] == 0


def test_info(write, capsys):
    assert main(['data', 'info', str(write())]) == 0
    told = capsys.readouterr().out
    assert 'tree       3 phones of 1 states, monophone, 3 leaves\n' in told
    assert 'lexicon    3 words\n' in told and 'segments   7 phones in time\n' in told
