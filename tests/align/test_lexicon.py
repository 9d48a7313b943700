"""A lexicon as text: what is loaded behaves as the original."""

import json

import pytest

from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.errors import BadInput

LINES = '!SIL 1 SIL\n<UNK> 1 SPN\nTHE 0.3 DH IY0\nTHE 0.7 DH AH0\nTHE 0.1 DH AH1\nÄPFEL 1 EH1 P F AH0 L\n'


@pytest.fixture
def make(tmp_path):
    """make(text, ...) -> the Lexicon of a file with that text."""
    def make(text=LINES, **options):
        (tmp_path/'lexicon.txt').write_text(text)
        return Lexicon(tmp_path/'lexicon.txt', **options)
    return make


@pytest.mark.parametrize('options', [{}, {'states': 1, 'oov': '<UNK>'}, {'stress': False}, {'silence': 'SPN'}])
def test_loaded_is_as_it_was(make, options):
    made = make(**options)
    loaded = Lexicon.loads(made.dumps(), 'x')
    for name in 'states', 'silence', 'oov', 'stress', 'variants', 'pronunciations', 'phones', 'index', 'target_names':
        assert getattr(loaded, name) == getattr(made, name), name
    assert list(loaded.variants) == list(made.variants) and loaded.path == str(made.path)
    assert loaded.dumps() == made.dumps()
    assert loaded.pronounce(['THE', 'ÄPFEL'], 'u') == made.pronounce(['THE', 'ÄPFEL'], 'u')
    assert loaded.pdfs(['DH', 'SIL']) == made.pdfs(['DH', 'SIL'])


def test_loaded_knows_its_own_way_with_other_words(make):
    with pytest.raises(BadInput, match=r'u: QUINCE is not in .*lexicon\.txt; add it'):
        Lexicon.loads(make().dumps(), 'x').lookup('QUINCE', 'u')
    assert Lexicon.loads(make(oov='<UNK>').dumps(), 'x').lookup('QUINCE', 'u') == ['SPN']


def change(**values):
    return lambda d: d | values


@pytest.mark.parametrize('harm', [
    lambda d: [], lambda d: None, lambda d: {}, change(version=2), change(format='hpcasr-tree'), change(variants=None),
    change(variants={'A': None}), change(variants={'A': []}), change(variants={'A': [[1, 2, 3]]}),
    change(variants={'A': [[1, None]]}), lambda d: {k: v for k, v in d.items() if k != 'oov'}])
def test_what_is_no_lexicon(make, harm):
    with pytest.raises(BadInput, match=r'^x: not a lexicon \(.*\); make it again'):
        Lexicon.loads(json.dumps(harm(json.loads(make().dumps()))), 'x')


@pytest.mark.parametrize('text', ['', '{', '[1,'])
def test_what_is_no_json(text):
    with pytest.raises(BadInput, match='x: not a lexicon'):
        Lexicon.loads(text, 'x')


def test_phones_of_another_tree(make):
    lexicon = make()
    lexicon.refuse_other_phones(Tree.monophone([*lexicon.phones, 'ZH']))
    with pytest.raises(BadInput, match=r'lexicon\.txt: THE: the tree has no phone AH1 \(it has 10\)'):
        lexicon.refuse_other_phones(Tree.monophone([*[p for p in lexicon.phones if p != 'AH1'], 'ZH']))
    with pytest.raises(BadInput, match='its silence is SIL, that of the tree is AH1'):
        lexicon.refuse_other_phones(Tree.monophone(sorted(lexicon.phones)[1:]))
