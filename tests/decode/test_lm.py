import itertools
import math
from collections import Counter, defaultdict

import kaldifst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.decode.arpa import read_arpa, write_arpa
from hpcasr.decode.fst import to_kaldifst
from hpcasr.decode.grammar import grammar
from hpcasr.decode.kneser_ney import FIXED, discounts, estimate
from hpcasr.decode.sentences import Text
from hpcasr.errors import BadInput

VOCABULARY = ['a', 'b', 'c', 'd', 'never']
sentences = st.lists(st.lists(st.sampled_from(['a', 'b', 'c', 'd', 'x']), max_size=6), min_size=1, max_size=12).filter(
    lambda text: any(word != 'x' for sentence in text for word in sentence))
orders = st.integers(1, 4)


def probability(model, *words):
    """p(last | those before)."""
    return math.exp(model.log_probability(np.array([[model.index[word] for word in words]]))[0])


def some_histories(model):
    """All that the model knows, and some that it does not."""
    yield from (tuple(model.words[i] for i in row) for table in model.grams[:-1] for row in table)
    yield from itertools.product(['<s>', 'a', 'never'], repeat=model.order - 1)


@settings(deadline=None, max_examples=50)
@given(sentences, orders)
def test_probabilities_sum_to_one_after_every_history(text, order):
    model = estimate(text, VOCABULARY, order)
    assert model.words == [*VOCABULARY, '<s>', '</s>'] and model.order == order
    for history in {(), *some_histories(model)}:
        p = [probability(model, *history, word) for word in model.words]
        assert sum(p) == pytest.approx(1) and p[-2] == 0 and min(p[:-2] + p[-1:]) > 0


class Slow:
    """Kneser-Ney as the paper says it, with dictionaries."""

    def __init__(self, text, order):
        grams = [Counter() for _ in range(order + 1)]
        for sentence in text:
            s = ['<s>', *sentence, '</s>']
            for n in range(1, order + 1):
                grams[n].update(g for i in range(len(s) - n + 1) if 'x' not in (g := tuple(s[i:i + n])))
        self.counts, self.order = [None]*(order + 1), order
        for n in range(1, order + 1):
            before = defaultdict(set)
            for gram in grams[n + 1] if n < order else ():
                before[gram[1:]].add(gram[0])
            self.counts[n] = {g: c if n == order or g[0] == '<s>' else len(before[g]) for g, c in grams[n].items()
                              if g != ('<s>',)}
        self.D = [None] + [discounts(np.array(list(c.values()) or [0])) for c in self.counts[1:]]

    def p(self, history, word):
        n = len(history) + 1
        lower = self.p(history[1:], word) if history else 1/(len(VOCABULARY) + 1)
        here = {g[-1]: c for g, c in self.counts[n].items() if g[:-1] == history}
        total = sum(here.values())
        if not total:
            return lower
        D = {w: self.D[n][min(c, 3)] for w, c in here.items()}
        return (here.get(word, 0) - D.get(word, 0) + sum(D.values())*lower)/total


@settings(deadline=None, max_examples=50)
@given(sentences, orders)
def test_kneser_ney_is_what_the_paper_says(text, order):
    model, slow = estimate(text, VOCABULARY, order), Slow(text, order)
    for history in itertools.product(['<s>', 'a', 'b', 'never'], repeat=order - 1):
        if '<s>' in history[1:]:
            continue
        for word in [*VOCABULARY, '</s>']:
            assert probability(model, *history, word) == pytest.approx(slow.p(history, word))


def test_discounts():
    counts = np.repeat([1, 2, 3, 4, 9], [400, 150, 80, 45, 60])
    Y = 400/700
    np.testing.assert_allclose(discounts(counts), [0, Y, 2 - 3*Y*80/150, 3 - 4*Y*45/80])
    np.testing.assert_allclose(discounts(np.array([1, 1, 2])), [0, .5, 2, 1.5][:2] + [.5, .5])  # nothing occurs thrice
    np.testing.assert_allclose(discounts(np.repeat([1, 2, 3], [10, 1, 10])), [0, *3*[10/12]])  # D(2) would be below 0
    np.testing.assert_allclose(discounts(np.array([3, 3])), FIXED)


def test_a_word_that_never_occurs_has_a_share_and_unknown_words_are_counted():
    model = estimate([['a', 'b', 'a'], ['b']], VOCABULARY, 2)
    assert probability(model, 'a', 'never') == probability(model, 'a', 'd') > 0
    found = model.perplexity([['a', 'x', 'b'], []])
    p = [probability(model, *g) for g in (('<s>', 'a'), ('b',), ('b', '</s>'), ('<s>', '</s>'))]
    assert found.value == pytest.approx(math.exp(-np.log(p).mean()))
    assert (found.sentences, found.words, found.unknown, found.unknown_rate) == (2, 3, 1, 1/3)


def test_a_text_without_known_words_is_refused():
    with pytest.raises(BadInput, match='no word of the lexicon'):
        estimate([['x', 'y'], ['x']], VOCABULARY, 2)


@settings(deadline=None, max_examples=25)
@given(sentences, orders, sentences)
def test_arpa_and_grammar_say_the_same_as_the_model(tmp_path_factory, text, order, others):
    kaldilm = pytest.importorskip('kaldilm')
    folder = tmp_path_factory.mktemp('lm')
    model = estimate(text, VOCABULARY, order)
    write_arpa(model, folder/'lm.arpa')
    again, dropped = read_arpa(folder/'lm.arpa', VOCABULARY)
    assert dropped == [] and again.perplexity(others).value == pytest.approx(model.perplexity(others).value, rel=1e-5)
    table = ['<eps>', *VOCABULARY, '#0', '<s>', '</s>']
    (folder/'words.txt').write_text(''.join(f'{w} {i}\n' for i, w in enumerate(table)))
    kaldis = kaldifst.compile(kaldilm.arpa2fst(input_arpa=str(folder/'lm.arpa'), disambig_symbol='#0',
                                               read_symbol_table=str(folder/'words.txt')), acceptor=False)
    ours = to_kaldifst(grammar(model, table.index('#0')))
    for sentence in others:
        if 'x' not in sentence:
            ids = [table.index(word) for word in sentence]
            assert cost(ours, ids) == pytest.approx(cost(kaldis, ids), abs=1e-3)
            assert walk(grammar(model, table.index('#0')), ids) == pytest.approx(chain(model, sentence), abs=1e-4)


def cost(G, ids):
    """Of the best way through a grammar, back-off arcs as ε."""
    back = len(VOCABULARY) + 1
    rows = ''.join(f'{i} {i + 1} {word} {word}\n' for i, word in enumerate(ids))
    loops = ''.join(f'{i} {i} {back} {back}\n' for i in range(len(ids) + 1))
    line = kaldifst.compile(f'{rows}{loops}{len(ids)}\n' if ids else f'0 0 {back} {back}\n0\n', acceptor=False)
    kaldifst.arcsort(line, sort_type='olabel')
    kaldifst.arcsort(G, sort_type='ilabel')
    return kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(kaldifst.compose(line, G)))[3].value


def walk(G, ids):
    """Cost of the way that backs off only where it must."""
    arcs = {(q, a['ilabel']): (a['weight'], a['next']) for q, a in zip(G.source.tolist(), G.arcs, strict=True)}
    q, total = G.start, 0.
    for word in ids:
        while (q, word) not in arcs:
            weight, q = arcs[q, len(VOCABULARY) + 1]
            total += weight
        weight, q = arcs[q, word]
        total += weight
    while not np.isfinite(G.finals[q]):
        weight, q = arcs[q, len(VOCABULARY) + 1]
        total += weight
    return total + G.finals[q]


def chain(model, sentence):
    words = ['<s>', *sentence, '</s>']
    return -sum(math.log(probability(model, *words[max(0, i - 3):i + 1])) for i in range(1, len(words)))


ARPA = r"""made by hand
\data\
ngram 1=5
ngram 2=3
ngram 3=1

\1-grams:
-99 <s> -0.2
-0.6 </s>
-0.5 a -0.3
-0.7 b 0.1
-0.9 zebra

\2-grams:
-0.1 <s> a -0.05
-0.4 a b
-0.2 b zebra

\3-grams:
-0.05 a b </s>

\end\
"""


@pytest.fixture
def arpa(tmp_path):
    path = tmp_path/'lm.arpa'
    path.write_text(ARPA)
    return path


def test_arpa_by_hand(arpa):
    model, dropped = read_arpa(arpa, ['a', 'b', 'unseen'])
    assert dropped == ['zebra'] and model.order == 3
    for gram, log10 in ({'a': -.5, '<s> a': -.1, '<s> b': -.9, 'a b </s>': -.05, '<s> a b': -.05 - .4,
                         '<s> a a': -.05 - .3 - .5, 'b b </s>': .1 - .6, 'b a': .1 - .5}).items():
        assert math.log10(probability(model, *gram.split())) == pytest.approx(log10), gram
    assert probability(model, 'a', 'unseen') == 0 == probability(model, '<s>')


def test_a_pruned_model_is_completed_without_a_change(arpa):
    arpa.write_text(ARPA.replace('ngram 2=3', 'ngram 2=2').replace('-0.4 a b\n', ''))  # the history of `a b </s>`
    model, _ = read_arpa(arpa, ['a', 'b'])
    for gram, log10 in ({'a b </s>': -.05, 'a b': -.3 - .7, '<s> a b': -.05 - .3 - .7, 'a b b': .1 - .7}).items():
        assert math.log10(probability(model, *gram.split())) == pytest.approx(log10), gram


@pytest.mark.parametrize('old, new, message', [
    ('\\data\\', 'data', 'not an ARPA file'),
    ('\\end\\', '', r'ends without \\end\\'),
    ('-0.05 a b </s>\n\n\\end\\\n', '', '0 of 1 3-grams'),
    ('-0.2 b zebra\n', '', r'line 18: 2 of 3 2-grams'),
    ('\\2-grams:', '\\3-grams:', r'line 14: \\3-grams: where \\2-grams: is expected'),
    ('-0.4 a b\n', '-0.4 a\n', 'line 16: expected log10 probability, 2 words'),
    ('-0.4 a b\n', 'nan a b\n', 'line 16'),
    ('-0.4 a b\n', '0.4 a b\n', 'line 16'),
    ('-0.4 a b\n', '-0.4 a b inf\n', 'line 16'),
    ('ngram 2=3', 'ngram 3=3', 'line 4: expected `ngram 2=NUMBER`'),
    ('ngram 1=5\nngram 2=3\nngram 3=1\n', '', 'announces no n-grams'),
    ('-0.6 </s>', '-0.6 stop', 'has no </s>'),
    ('-99 <s>', '-99 start', 'has no <s>'),
    ('a', 'A', r'not an ARPA file')])
def test_bad_arpa(arpa, old, new, message):
    arpa.write_text(ARPA.replace(old, new))
    with pytest.raises(BadInput, match=message):
        read_arpa(arpa, ['a', 'b'])


def test_an_arpa_without_our_words(arpa):
    with pytest.raises(BadInput, match='no word of the lexicon'):
        read_arpa(arpa, ['A', 'B'])
    arpa.write_bytes(b'\x80\x81')
    with pytest.raises(BadInput, match='not UTF-8'):
        read_arpa(arpa, ['a'])
    with pytest.raises(BadInput, match='No such file'):
        read_arpa(arpa.parent/'none.arpa', ['a'])


def test_sentences(tmp_path):
    path = tmp_path/'text'
    path.write_text('u1 a b\n\nu2\nu3 <s> b x </s>\n')
    text = Text(path, kaldi=True)
    assert text.sentences == [['a', 'b'], ['b', 'x']]
    assert text.known_as({'a', 'b', 'spn'}, 'spn') == [['a', 'b'], ['b', 'spn']]
    assert text.known_as({'a', 'b'}, None) == text.sentences
    assert '1 of 4 words are not in the lexicon, first x' in text.unknown({'a', 'b'})
    assert 'add --kaldi-text' in Text(path).unknown({'a', 'b'}) and Text(path).sentences[1] == ['u2']
    path.write_text('u1\nu2\n\n')
    with pytest.raises(BadInput, match='has no sentences'):
        Text(path, kaldi=True)
