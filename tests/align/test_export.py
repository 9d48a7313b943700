"""Kaldi's tools' view of an alignment."""

import json
import resource
from collections import defaultdict

import kaldiio
import numpy as np
import pytest

from hpcasr.align.export import OWN, Seconds, export
from hpcasr.align.tree import Tree
from hpcasr.cli import main
from hpcasr.data.alignment import open_alignment
from hpcasr.data.store import Store, StoreWriter, Utterances, write_targets
from hpcasr.errors import BadInput
from tests import small

TREE = Tree.monophone(['SIL', 'A', 'Ö'], 2)
SEGMENTS = {'a-1': [[0, 4, 0, -1], [4, 3, 1, 0], [7, 5, 2, 0], [12, 2, 0, -1], [14, 6, 1, 1]],
            'a-2': [[0, 2, 2, 0]], 'b-1': [[0, 30, 0, -1]]}
TEXTS = 'aö a', 'ö', ''


def targets(segments):
    return np.concatenate([phone*2 + np.arange(n)*2//n for _, n, phone, _ in segments])


@pytest.fixture
def store(tmp_path, rng):
    """store(...) -> path of a store with tree and segments, or without."""
    def store(tree=TREE, segmented=True, texts=TEXTS, shift=0.01):
        y = [targets(s) for s in SEGMENTS.values()]
        who = Utterances(list(SEGMENTS), [len(t) for t in y], [0, 0, 1], ['a', 'b'], texts)
        with StoreWriter(tmp_path/'s.h5', who, 2, target_names=TREE.target_names, frontend={'frame_shift': shift},
                         tree=tree, force=True) as w:
            for t, s in zip(y, SEGMENTS.values(), strict=True):
                w.append(rng.normal(size=(len(t), 2)), t, s if segmented else None)
        return tmp_path/'s.h5'
    return store


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rows(path):
    """{utterance: [(start, duration, label)]}."""
    found = defaultdict(list)
    for line in path.read_text('utf-8').splitlines():
        utterance, channel, start, duration, label = line.split(' ')
        assert channel == '1'
        found[utterance].append((float(start), float(duration), label))
    return found


def test_kaldiio_reads_the_targets(store, tmp_path):
    path, out = store(), tmp_path/'ali'
    assert export(path, out) == {}
    assert sorted(p.name for p in out.iterdir()) == sorted(OWN)
    read = kaldiio.load_scp(str(out/'pdf.scp'))
    assert list(read) == list(SEGMENTS)
    for u, segments in SEGMENTS.items():
        assert read[u].dtype == np.int32 and read[u].tolist() == targets(segments).tolist()
    assert {u: x.tolist() for u, x in kaldiio.load_ark(str(out/'pdf.ark'))} == {u: x.tolist() for u, x in read.items()}


def test_our_own_import_reads_them(store, tmp_path):
    export(store(), tmp_path/'ali')
    alignment = open_alignment(str(tmp_path/'ali'/'pdf.scp'))
    assert alignment.get('a-1').tolist() == targets(SEGMENTS['a-1']).tolist()
    alignment.scp.close()


def test_totals(store, tmp_path):
    path, out = store(), tmp_path/'ali'
    export(path, out)
    assert (out/'ali_train_pdf.counts').read_text() == f'[ {" ".join(map(str, Store(path).counts()))} ]\n'
    assert (out/'num_pdfs').read_text() == '6\n'
    assert (out/'phones.txt').read_text('utf-8') == '<eps> 0\nSIL 1\nA 2\nÖ 3\n'
    assert Tree.loads((out/'tree.json').read_text(), 'x').dumps() == TREE.dumps()


@pytest.mark.parametrize('shift', [0.01, 0.0125, 0.1, 1, 1e-5])
def test_the_times_add_up(store, tmp_path, shift):
    path, out = store(shift=shift), tmp_path/'ali'
    export(path, out)
    phones, words = rows(out/'phones.ctm'), rows(out/'ctm')
    for u, segments in SEGMENTS.items():
        start, duration, label = zip(*phones[u], strict=True)
        ends = np.cumsum(duration)
        np.testing.assert_allclose(start, ends - duration, atol=1e-9)
        assert ends[-1] == pytest.approx(len(targets(segments))*shift, rel=1e-9)
        assert list(label) == [TREE.phones[p] for _, _, p, _ in segments]
    expected = {'a-1': [(4, 8, 'aö'), (14, 6, 'a')], 'a-2': [(0, 2, 'ö')]}
    assert words.keys() == expected.keys()
    for u, found in words.items():
        assert found == [(pytest.approx(a*shift), pytest.approx(n*shift), word) for a, n, word in expected[u]]


def test_seconds():
    assert [Seconds(0.01)(n) for n in (0, 7, 12345678)] == ['0.00', '0.07', '123456.78']
    assert Seconds(0.0125)(3) == '0.0375' and Seconds(1)(np.int32(3)) == '3.00' and Seconds(1e-05)(7) == '0.00007'


@pytest.mark.parametrize('options, missing', [
    ({'tree': None}, {'tree.json', 'phones.txt', 'phones.ctm'}), ({'segmented': False}, {'ctm', 'phones.ctm'}),
    ({'tree': None, 'segmented': False}, {'tree.json', 'phones.txt', 'ctm', 'phones.ctm'}),
    ({'texts': None}, {'ctm'})])
def test_what_can_be_written_is(store, tmp_path, options, missing):
    options = options | ({'texts': ['']*3} if 'texts' in options else {})
    export(store(), tmp_path/'ali')
    found = export(store(**options), tmp_path/'ali', force=True)  # and the others' files go
    assert found.keys() == missing
    assert {p.name for p in (tmp_path/'ali').iterdir()} == set(OWN) - missing


def test_any_store_with_targets(tmp_path):
    path = small.store(tmp_path/'s.h5')
    export(path, tmp_path/'ali')
    read = kaldiio.load_scp(str(tmp_path/'ali'/'pdf.scp'))
    np.testing.assert_array_equal(np.concatenate([read[u] for u in Store(path).names]), Store(path).targets)


def test_what_is_there_stays(store, tmp_path):
    path, out = store(), tmp_path/'ali'
    out.mkdir()
    (out/'mine').write_text('mine')
    (out/'ctm').write_text('mine')
    with pytest.raises(BadInput, match='ali: has ctm already; use --force'):
        export(path, out)
    assert sorted(p.name for p in out.iterdir()) == ['ctm', 'mine'] and (out/'ctm').read_text() == 'mine'
    export(path, out, force=True)
    assert (out/'mine').read_text() == 'mine' and len(rows(out/'ctm')) == 2
    with pytest.raises(BadInput, match='is not a directory'):
        export(path, path, force=True)


def test_a_store_without_targets(tmp_path):
    who = Utterances(['a'], [3], [0], ['s'])
    with StoreWriter(tmp_path/'s.h5', who, 1) as w:
        w.append(np.zeros((3, 1)))
    with pytest.raises(BadInput, match=r's\.h5: has no targets to export; align it first'):
        export(tmp_path/'s.h5', tmp_path/'ali')
    assert not (tmp_path/'ali').exists()


@pytest.mark.parametrize('row', [[0, 2, 3, 0], [0, 2, 2, 1]])
def test_segments_of_other_words(store, tmp_path, row):
    path = store()
    y, s = [targets(s) for s in SEGMENTS.values()], list(SEGMENTS.values())
    write_targets(path, y, 6, TREE.target_names, {}, True, TREE, None, [s[0], [row], s[2]])
    with pytest.raises(BadInput, match=r's\.h5: a-2: its segments do not fit'):
        export(path, tmp_path/'ali')
    assert not (tmp_path/'ali').exists()


def test_a_full_disk(store, tmp_path):
    path = store()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))
    try:
        with pytest.raises(BadInput, match='ali: File too large; nothing was written'):
            export(path, tmp_path/'ali')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in tmp_path.iterdir()] == ['s.h5']


def test_the_command(store, tmp_path, capsys):
    assert main(['align', 'export', str(store()), '--out', str(tmp_path/'ali')]) == 0
    out, err = capsys.readouterr()
    assert out == f'{tmp_path}/ali/pdf.scp: 3 utterances, 52 frames, 6 pdfs\n' and err == ''
    assert main(['align', 'export', str(store(tree=None)), '--out', str(tmp_path/'ali')]) == 2
    assert main(['align', 'export', str(store(tree=None)), '--out', str(tmp_path/'ali'), '--force']) == 0
    assert 'without tree.json, phones.txt: the store has no tree\n' in capsys.readouterr().err
    assert main(['align', 'export', str(store()), '--out', '']) == 2
    assert json.loads(json.dumps(capsys.readouterr().err)).count('\n') == 1
