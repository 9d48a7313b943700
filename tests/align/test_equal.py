import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.align.equal import align_equal, equal
from hpcasr.align.lexicon import Lexicon
from hpcasr.data.store import Store, StoreWriter, Utterances
from hpcasr.errors import BadInput


@given(st.integers(1, 300), st.integers(1, 60))
def test_shares_are_equal(T, S):
    t = equal(np.arange(S), T)
    assert t.tolist() == [int(k*S/T + 1e-9) for k in range(T)]
    assert (np.diff(t) >= 0).all() and t[0] == 0
    if T >= S:
        assert set(t) == set(range(S))
        assert np.ptp(np.bincount(t)) <= 1


@pytest.fixture
def lexicon(tmp_path):
    path = tmp_path/'lexicon.txt'
    path.write_text('TEA T IY\nTEA T EY\nEAT IY T\n<UNK> SPN\n')
    return path


def test_phones_are_numbered_by_the_lexicon(lexicon):
    words = Lexicon(lexicon, states=2)
    assert words.phones == ['SIL', 'EY', 'IY', 'SPN', 'T']
    assert words.target_names[:4] == ['SIL_0', 'SIL_1', 'EY_0', 'EY_1']
    assert words.pronounce(['TEA', 'EAT'], 'u') == ['SIL', 'T', 'IY', 'IY', 'T', 'SIL']
    assert words.pdfs(['SIL', 'T']) == [0, 1, 8, 9]


def test_words_that_the_lexicon_lacks(lexicon, tmp_path):
    with pytest.raises(BadInput, match=r's\.h5: utterance u: COFFEE is not in .*lexicon.txt; .*--oov'):
        Lexicon(lexicon).pronounce(['COFFEE'], 's.h5: utterance u')
    assert Lexicon(lexicon, oov='<UNK>').pronounce(['COFFEE'], 'u') == ['SIL', 'SPN', 'SIL']
    with pytest.raises(BadInput, match='--oov UNK is not in the lexicon'):
        Lexicon(lexicon, oov='UNK')
    lexicon.write_text('TEA T IY\nEAT\n')
    with pytest.raises(BadInput, match='line 2: EAT has no pronunciation'):
        Lexicon(lexicon)


@pytest.mark.parametrize('text, first', [
    ('TEA 0.3 T IY\nTEA 0.7 T EY\nEAT 1.0 IY T\n', ['T', 'EY']),
    ('TEA 0.7 0.2 1.1 0.9 T IY\nTEA 0.3 0.2 1.1 0.9 T EY\nEAT 1 1 1 1 IY T\n', ['T', 'IY']),
    ('TEA T IY\nTEA T EY\nEAT IY T\n', ['T', 'IY'])])
def test_the_most_probable_pronunciation(lexicon, text, first):
    lexicon.write_text(text)
    words = Lexicon(lexicon)
    assert words.pronunciations == {'TEA': first, 'EAT': ['IY', 'T']}
    assert words.phones == ['SIL', 'EY', 'IY', 'T']


def test_numbers_without_phones(lexicon):
    lexicon.write_text('TEA 1 2\nEAT 2 1\n')
    assert Lexicon(lexicon).pronunciations['EAT'] == ['2', '1']
    lexicon.write_text('TEA 1.0 T\nEAT 0.5\n')
    with pytest.raises(BadInput, match='line 2: EAT has no pronunciation'):
        Lexicon(lexicon)
    lexicon.write_text('TEA 0.5 T\nEAT 1e999 IY T\n')
    with pytest.raises(BadInput, match='line 2: EAT has the probability 1e999'):
        Lexicon(lexicon)
    lexicon.write_text('\n')
    with pytest.raises(BadInput, match='has no words'):
        Lexicon(lexicon)


def test_silence_that_the_lexicon_lacks(lexicon):
    for silence in '', 'sil':
        with pytest.raises(BadInput, match=f"no phone is '{silence}'; .*likely SIL, which is added"):
            Lexicon(lexicon, silence=silence)
    lexicon.write_text('<sil> sil\nTEA T IY\n')
    with pytest.raises(BadInput, match=r"no phone is 'SIL'; .* likely sil"):
        Lexicon(lexicon)
    assert Lexicon(lexicon, silence='sil').phones == ['sil', 'IY', 'T']


@pytest.fixture
def store(tmp_path):
    """store(name, texts, lengths) -> path of a store without targets."""
    def write(name, texts, lengths):
        who = Utterances([f'u{i}' for i in range(len(texts))], lengths, [0]*len(texts), ['s'], texts)
        with StoreWriter(tmp_path/name, who, 2) as w:
            for T in lengths:
                w.append(np.zeros((T, 2)))
        return tmp_path/name
    return write


def test_stores_get_the_same_targets(store, lexicon):
    a, b = store('a.h5', ['TEA', 'EAT TEA'], [24, 5]), store('b.h5', ['EAT'], [12])
    assert align_equal([a, b], Lexicon(lexicon), {'command': 'x'}) == [1, 0]
    assert Store(a).target_names == Store(b).target_names and Store(a).num_targets == 15
    silence, iy, t = [0, 1, 2], [6, 7, 8], [12, 13, 14]
    np.testing.assert_array_equal(Store(a).utterance(0)[1], np.repeat(silence + t + iy + silence, 2))
    np.testing.assert_array_equal(Store(b).utterance(0)[1], silence + iy + t + silence)


@pytest.mark.parametrize('text, line', [('TEA COFFEE', 'utterance u0: COFFEE'), ('', 'u0: has no transcript')])
def test_nothing_is_changed_before_all_words_are_found(store, lexicon, text, line):
    a, b = store('a.h5', ['TEA'], [24]), store('b.h5', [text], [12])
    with pytest.raises(BadInput, match=line):
        align_equal([a, b], Lexicon(lexicon), {})
    assert Store(a).targets is None


def test_a_store_named_twice(store, lexicon):
    path = store('a.h5', ['TEA'], [24])
    with pytest.raises(BadInput, match=r'a\.h5: is named twice'):
        align_equal([path, path.parent/'.'/'a.h5'], Lexicon(lexicon), {})
    assert Store(path).targets is None


def test_existing_targets_need_force(store, lexicon):
    path = store('a.h5', ['TEA'], [24])
    align_equal([path], Lexicon(lexicon), {})
    with pytest.raises(BadInput, match='has targets already; use --force'):
        align_equal([path], Lexicon(lexicon, states=1), {})
    align_equal([path], Lexicon(lexicon, states=1), {}, force=True)
    assert Store(path).num_targets == 5
