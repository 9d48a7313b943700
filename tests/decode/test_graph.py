import itertools
import json
import math
import os
from functools import cache
from pathlib import Path

import kaldi_decoder
import kaldifst
import numpy as np
import pytest

from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.cli import main
from hpcasr.data.store import StoreWriter, Utterances
from hpcasr.decode.fst import ARC, Fst, from_kaldifst, from_rows, to_kaldifst
from hpcasr.decode.grammar import grammar
from hpcasr.decode.graph import Options, build, self_loops
from hpcasr.decode.kneser_ney import estimate
from hpcasr.decode.lang import Language, disambiguation
from hpcasr.errors import BadInput

PHONES = ['SIL', 'k', 't', 'a']
LEXICON = {'at': [(1, ['a', 't'])], 'a': [(.6, ['a']), (.3, ['t', 'a']), (0, ['k'])], 'att': [(.5, ['a', 't'])],
           'cat': [(1, ['k', 'a', 't'])], '!sil': [(1, ['SIL'])]}
TEXT = [s.split() for s in ('a cat', 'cat at a', 'at att', 'a', 'att a cat', 'cat cat at')]


def random_tree(rng, phones=PHONES, states=2, pdfs=7):
    """Questions about both neighbours; pdfs are dealt out at random, so phones share them."""
    def node(depth):
        if not depth:
            return 0
        ask = rng.choice(['left', 'right'])
        asked = rng.choice(len(phones), rng.integers(1, len(phones)), replace=False).tolist()
        return {'ask': str(ask), 'phones': asked, 'yes': node(depth - 1), 'no': node(depth - 1)}
    roots = [node(2) for _ in range(len(phones)*states)]
    pool = iter(rng.permutation([k % pdfs for k in range(4*len(roots))]).tolist())
    for root in roots:
        for side in root['yes'], root['no']:
            side['yes'], side['no'] = next(pool), next(pool)
    return Tree(phones, states, 3, roots, pdfs)


TREES = [Tree.monophone(PHONES, 1), Tree.monophone(PHONES, 2),
         *(random_tree(np.random.default_rng(seed), states=1 + seed % 2) for seed in range(4))]


@pytest.mark.parametrize('options', [Options(), Options(.2, .7, .5), Options(0, .4)], ids=str)
@pytest.mark.parametrize('order', [1, 2, 3])
@pytest.mark.parametrize('tree', TREES, ids=lambda tree: f'{tree.width}-{tree.states}-{tree.roots[-1]}'[:6])
def test_the_best_path_is_the_best_of_all(tree, order, options):
    """Against all sequences of words, pronunciations, silences and all alignments of a few frames."""
    rng = np.random.default_rng(order)
    language = Language(LEXICON, PHONES, 'lexicon')
    model = estimate(TEXT, language.words, order)
    graph = build(tree, language, model, options)
    G = grammar_of(model, language)
    for T in 4, 5, 6:
        scores = 2*rng.standard_normal((T, tree.num_pdfs)).astype(np.float32)
        found, words, pdfs = decode(graph, scores)
        sentences = every_sentence(T//tree.states, options.silence_probability)
        costs = sorted(((G(words) + cost + align(tree, phones, scores, options), words)
                        for words, phones, cost in sentences))
        assert found == pytest.approx(costs[0][0], abs=.02)  # minimization rounds every cost to 1/1024
        near = {words for cost, words in costs if cost < costs[0][0] + .02}
        assert tuple(language.words[i - 1] for i in words) in near
        assert len(pdfs) == T and 0 < min(pdfs) and max(pdfs) <= tree.num_pdfs


def decode(graph, scores):
    """Cost, words and pdfs + 1 of the best path."""
    decoder = kaldi_decoder.FasterDecoder(graph, kaldi_decoder.FasterDecoderOptions(beam=1e4, max_active=10**6))
    decoder.decode(kaldi_decoder.DecodableCtc(scores))
    assert decoder.reached_final()
    _, lattice = decoder.get_best_path()
    _, pdfs, words, weight = kaldifst.get_linear_symbol_sequence(lattice)
    return weight.value1 + weight.value2, words, pdfs


def every_sentence(most, silence):
    """(words, phones, cost) with at most so many phones, silence anywhere."""
    pause = [([], -math.log(1 - silence)), *([(['SIL'], -math.log(silence))] if silence else [])]
    open_ = [((), phones, cost) for phones, cost in pause]
    while open_:
        words, phones, cost = open_.pop()
        if len(phones) > most:
            continue
        if phones:
            yield words, phones, cost
        for word, variants in LEXICON.items():
            for (p, spoken), (after, pay) in itertools.product(variants, pause):
                if p and word != '!sil':
                    extra = pay - math.log(p/max(q for q, _ in variants))
                    open_.append(((*words, word), phones + spoken + after, cost + extra))


def grammar_of(model, language):
    """words → their cost: the cheapest way through the grammar."""
    G = to_kaldifst(grammar(model, language.backoff_word))
    kaldifst.arcsort(G, sort_type='ilabel')
    back = language.backoff_word

    @cache
    def cost(words):
        rows = ''.join(f'{i} {i + 1} {language.word[w]} {language.word[w]}\n' for i, w in enumerate(words))
        loops = ''.join(f'{i} {i} {back} {back}\n' for i in range(len(words), -1, -1))
        line = kaldifst.compile(f'{rows or loops}{loops}{len(words)}\n', acceptor=False)
        kaldifst.arcsort(line, sort_type='olabel')
        return kaldifst.get_linear_symbol_sequence(kaldifst.shortest_path(kaldifst.compose(line, G)))[3].value
    return cost


def align(tree, phones, scores, options):
    """Cost of the best alignment of all frames to the states of the phones."""
    p = [-1, *map(PHONES.index, phones), -1]
    pdfs = [pdf for left, phone, right in zip(p, p[1:], p[2:], strict=False) for pdf in tree.pdfs(left, phone, right)]
    if len(pdfs) > len(scores):
        return math.inf
    stay, go = (-options.transition_scale*math.log(q) for q in (options.self_loop, 1 - options.self_loop))
    best = np.full(len(pdfs), np.inf)
    best[0] = go - scores[0, pdfs[0]]
    for frame in scores[1:]:
        best = np.minimum(best + stay, np.append(np.inf, best[:-1]) + go) - frame[pdfs]
    return best[-1]


def test_arrays_and_transducers_are_the_same():
    rng = np.random.default_rng(0)
    rows = [(int(rng.integers(7)), *rng.integers(0, 5, 2).tolist(), float(rng.random()), int(rng.integers(7)))
            for _ in range(40)]
    ours = from_rows(rows, 7, 3, {2: .5, 6: 0.})
    theirs = to_kaldifst(ours)
    assert theirs.start == 3 and theirs.num_states == 7
    for q in range(7):
        wanted = [(i, o, np.float32(w), t) for s, i, o, w, t in rows if s == q]
        arcs = [(a.ilabel, a.olabel, a.weight.value, a.nextstate) for a in kaldifst.ArcIterator(theirs, q)]
        assert arcs == wanted
        assert theirs.final(q).value == {2: .5, 6: 0.}.get(q, math.inf)
    again = from_kaldifst(theirs)
    order = np.argsort(ours.source, kind='stable')
    assert again.start == 3 and (again.arcs == ours.arcs[order]).all() and (again.finals == ours.finals).all()
    assert (again.source == ours.source[order]).all()
    nothing = Fst(-1, np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0, ARC))
    assert to_kaldifst(nothing).num_states == 0


def test_self_loops():
    """A state that is entered by one label keeps it; one that is entered by more, or where paths begin, does not."""
    fst = from_rows([(0, 3, 7, 0., 1), (1, 4, 0, 0., 2), (0, 0, 0, 0., 2), (2, 5, 8, 0., 0)], 3, 0, {0: 1.})
    looped = self_loops(fst, Options(self_loop=.25))
    stay, go = -math.log(.25), -math.log(.75)
    rows = {(s, *(round(float(x), 4) for x in a)) for s, a in zip(looped.source.tolist(), looped.arcs.tolist(),
                                                                  strict=True)}
    at4, at5 = (next(t for _, i, _, w, t in rows if i == label and w == round(go, 4)) for label in (4, 5))
    wanted = [(0, 3, 7, go, 1), (1, 3, 0, stay, 1), (1, 4, 0, go, at4), (at4, 4, 0, stay, at4), (at4, 0, 0, 0, 2),
              (0, 0, 0, 0, 2), (2, 5, 8, go, at5), (at5, 5, 0, stay, at5), (at5, 0, 0, 0, 0)]
    assert {at4, at5} == {3., 4.} and rows == {(*row[:3], round(row[3], 4), row[4]) for row in wanted}
    assert looped.finals.tolist() == [1, math.inf, math.inf, math.inf, math.inf]


def test_marks_tell_homophones_and_beginnings_apart():
    pronunciations = [tuple(p.split()) for p in ('a t', 'a', 'a t', 't', 'k a t', 'a')]
    marks = disambiguation(pronunciations)
    assert marks == [1, 1, 2, 0, 0, 2]
    spoken = [(*p, f'#{mark}') if mark else p for p, mark in zip(pronunciations, marks, strict=True)]
    assert not any(p[:k] == q for p in spoken for q in spoken for k in range(len(q), len(p) + 1) if p is not q)


def test_symbol_tables():
    language = Language(LEXICON, PHONES, 'lexicon')
    assert language.words_table() == ['<eps>', 'a', 'at', 'att', 'cat', '#0', '<s>', '</s>']
    assert language.phones_table() == ['<eps>', *PHONES, '#0', '#1', '#2', '#3']
    assert language.disambiguations == [5, 6, 7, 8]


@pytest.mark.parametrize('variants, message', [
    ({'b': [(1, ['b'])]}, 'lexicon: b: the phonetic tree has no phone b; it has 4: SIL k t a'),
    ({'<s>': [(1, ['a'])]}, '<s> has a meaning of its own'),
    ({'!sil': [(1, ['SIL'])]}, 'has no words'),
    ({'a': [(0, ['a'])]}, 'has no words')])
def test_lexicons_that_cannot_be_used(variants, message):
    with pytest.raises(BadInput, match=message):
        Language(variants, PHONES, 'lexicon')


@pytest.fixture
def ali(tmp_path):
    """A directory as hpcasr align makes it, a text, a lexicon."""
    folder = tmp_path/'ali'
    folder.mkdir()
    (tmp_path/'lexicon.txt').write_text('at a t\natt a t\na a\na t a\ncat k a t\n')
    lexicon = Lexicon(tmp_path/'lexicon.txt', 2)
    (folder/'tree.json').write_text(random_tree(np.random.default_rng(0), lexicon.phones).dumps())
    (folder/'lexicon.json').write_text(lexicon.dumps())
    (tmp_path/'text').write_text(''.join(' '.join(sentence) + '\n' for sentence in TEXT))
    return folder


def make(ali, *options, text='text', out='graph'):
    words = ['--text', str(ali.parent/text)] if text else []
    return main(['decode', 'graph', str(ali), '--out', str(ali.parent/out), *words, *map(str, options)])


def test_the_command(ali, capsys):
    (ali.parent/'test').write_text('a dog\n')
    assert make(ali, '--test-text', ali.parent/'test') == 0
    line, test = capsys.readouterr().out.splitlines()
    assert line.startswith('graph     HCLG ') and '4 words, bigram, perplexity of the text ' in line
    assert test.endswith('1 of 2 words are unknown (50.00 %)')
    out = ali.parent/'graph'
    assert sorted(os.listdir(out)) == ['HCLG.fst', 'graph.json', 'lm.arpa', 'phones.txt', 'words.txt']
    facts = json.loads((out/'graph.json').read_text())
    assert (facts['num_pdfs'], facts['self_loop'], facts['order'], facts['words']) == (7, .5, 2, 4)
    graph = kaldifst.StdVectorFst.read(str(out/'HCLG.fst'))
    assert graph.num_states == facts['states']
    assert [row.split() for row in (out/'words.txt').read_text().splitlines()][:2] == [['<eps>', '0'], ['a', '1']]
    assert make(ali, '--arpa', out/'lm.arpa', '--json', text=None, out='again') == 0
    again = json.loads(capsys.readouterr().out)
    assert (again['states'], again['arcs'], again['tree']) == (facts['states'], facts['arcs'], facts['tree'])


def test_nothing_is_replaced_without_force(ali, capsys):
    assert make(ali) == 0
    before = (ali.parent/'graph/graph.json').read_bytes()
    (ali.parent/'graph/mine').write_text('kept')
    assert make(ali, '--order', 3) == 2
    assert 'has HCLG.fst already; use --force' in capsys.readouterr().err
    assert (ali.parent/'graph/graph.json').read_bytes() == before
    assert make(ali, '--order', 3, '--force') == 0
    assert json.loads((ali.parent/'graph/graph.json').read_text())['order'] == 3
    assert (ali.parent/'graph/mine').read_text() == 'kept'
    assert not [name for name in os.listdir(ali.parent) if 'tmp' in name]


def test_an_experiment_and_another_lexicon(ali, capsys):
    exp = ali.parent/'exp'
    exp.mkdir()
    card = {'format': 'hpcasr-model', 'version': 1, 'columns': 1, 'splice': [0, 0], 'frontend': {}, 'window': 64,
            'context': 0, 'counts': [1]*7, 'tree': (ali/'tree.json').read_text(),
            'lexicon': (ali/'lexicon.json').read_text()}
    (exp/'model.json').write_text(json.dumps(card))
    assert make(exp, out='of-exp') == 0
    (ali.parent/'big.txt').write_text('at a t\ntack t a k\ncat k a t\n!SIL SIL\n')
    assert make(exp, '--lexicon', ali.parent/'big.txt', out='big') == 0
    streams = capsys.readouterr()
    assert '3 words' in streams.out.splitlines()[1]
    assert 'words are not in the lexicon, first a' in streams.err
    (exp/'model.json').write_text(json.dumps(card | {'lexicon': None}))
    assert make(exp, out='none') == 2
    assert 'knows no lexicon; name one with --lexicon' in capsys.readouterr().err
    (exp/'model.json').write_text(json.dumps(card | {'tree': None}))
    assert make(exp, out='none') == 2
    assert 'knows no phonetic tree' in capsys.readouterr().err


def test_a_store(ali, capsys):
    tree = Tree.loads((ali/'tree.json').read_text(), 'tree')
    lexicon = Lexicon.loads((ali/'lexicon.json').read_text(), 'lexicon')
    store = ali.parent/'train.h5'
    utterances = Utterances(['u'], [3], [0], ['s'], ['at'])
    with StoreWriter(store, utterances, 1, target_names=tree.target_names, tree=tree, lexicon=lexicon) as f:
        f.append(np.zeros((3, 1), np.float32), np.zeros(3, np.int32))
    assert main(['decode', 'graph', str(store), '--out', str(ali.parent/'of-store'), '--text',
                 str(ali.parent/'text')]) == 0
    assert make(ali) == 0
    one, other = ((ali.parent/name/'HCLG.fst').read_bytes() for name in ('graph', 'of-store'))
    assert one == other


def test_stress_is_dropped_for_a_tree_without_it(ali, capsys):
    tree = random_tree(np.random.default_rng(0), ['SIL', 'AH', 'T'])
    (ali/'tree.json').write_text(tree.dumps())
    (ali.parent/'lexicon.txt').write_text('at AH0 T\na AH1\na AH0\n')
    assert make(ali, '--lexicon', ali.parent/'lexicon.txt') == 0
    assert '2 words' in capsys.readouterr().out


@pytest.mark.parametrize('spoil, message', [
    (lambda d: (d/'ali/tree.json').unlink(), 'neither a store nor a directory with tree.json'),
    (lambda d: (d/'ali/tree.json').write_text('{}'), 'not a phonetic tree'),
    (lambda d: (d/'ali/tree.json').write_bytes(b'\xff'), 'not UTF-8'),
    (lambda d: (d/'ali/lexicon.json').write_text('[]'), 'not a lexicon'),
    (lambda d: (d/'text').write_text('\n'), 'text: has no sentences'),
    (lambda d: (d/'text').write_text('u1 dog\nu2 dog\n'), 'text: the text has no word of the lexicon'),
    (lambda d: (d/'text').unlink(), 'text: No such file'),
    (lambda d: (d/'graph').write_text(''), 'graph: is not a directory')])
def test_what_cannot_be_used_leaves_nothing_behind(ali, capsys, spoil, message):
    spoil(ali.parent)
    there = sorted(os.listdir(ali.parent))
    assert make(ali) == 2
    error = capsys.readouterr().err
    assert message in error and 'Traceback' not in error
    assert sorted(os.listdir(ali.parent)) == there


def test_no_name_to_write(ali, capsys):
    assert main(['decode', 'graph', str(ali), '--out', '', '--text', str(ali.parent/'text')]) == 2
    assert 'is empty; name what to write' in capsys.readouterr().err


@pytest.mark.parametrize('options', [['--self-loop', 'nan'], ['--transition-scale', 'inf'], ['--sil-prob', 'nan']])
def test_numbers_that_are_none(ali, capsys, options):
    assert make(ali, *options) == 2
    assert 'is not a finite number' in capsys.readouterr().err


def test_an_arpa_without_an_end(ali, capsys):
    (ali.parent/'lm').write_text('\\data\\\nngram 1=3\n\\1-grams:\n-99 <s>\n-99 </s>\n-.3 cat\n\\end\\\n')
    assert make(ali, '--arpa', ali.parent/'lm', text=None) == 2
    assert 'lm: the language model accepts no sentence' in capsys.readouterr().err
    assert not (ali.parent/'graph').exists()


def test_words_of_an_arpa_that_the_lexicon_lacks(ali, capsys):
    (ali.parent/'lm').write_text(
        '\\data\\\nngram 1=4\n\n\\1-grams:\n-1 <unk>\n-99 <s>\n-.3 </s>\n-.3 cat\n\n\\end\\\n')
    assert make(ali, '--arpa', ali.parent/'lm', '--test-text', ali.parent/'text', text=None) == 0
    streams = capsys.readouterr()
    assert '1 of its words are not in the lexicon and left out, first <unk>' in streams.err
    assert 'unigram\n' in streams.out and 'perplexity 2.0; 9 of 14 words are unknown' in streams.out


@pytest.mark.parametrize('options', [[], ['--arpa', 'x', '--text', 'y']])
def test_text_or_arpa(ali, capsys, options):
    assert make(ali, *options, text=None) == 2
    assert 'give either --text or --arpa' in capsys.readouterr().err


def test_real_lexicon_and_text(tmp_path, capsys):
    data = Path(os.environ.get('HPCASR_DATA', Path(__file__).parents[3]/'shared'/'data'))/'an4-mfcc'
    if not data.exists():
        pytest.skip('no AN4 here: set HPCASR_DATA to a folder with an4-mfcc')
    lexicon = Lexicon(data/'local/dict/lexicon.txt')
    (tmp_path/'tree.json').write_text(Tree.monophone(lexicon.phones).dumps())
    (tmp_path/'lexicon.json').write_text(lexicon.dumps())
    assert main(['decode', 'graph', str(tmp_path), '--out', str(tmp_path/'graph'), '--text', str(data/'train/text'),
                 '--kaldi-text', '--test-text', str(data/'test/text'), '--json']) == 0
    facts = json.loads(capsys.readouterr().out)
    assert 18 < facts['test_perplexity']['value'] < 23 and facts['test_perplexity']['unknown'] == 0
