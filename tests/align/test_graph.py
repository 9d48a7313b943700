"""The graph of an utterance against all that its transcript allows, written down one by one."""

import tracemalloc
from itertools import combinations, product
from math import isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.align import viterbi
from hpcasr.align.graph import BEGIN, Graphs
from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.align.viterbi import align_words, best_path, columns
from hpcasr.errors import BadInput

PHONES = ['SIL', 'EY', 'IY', 'SPN', 'T']


def triphones(phones, states=2):
    """A tree that tells many contexts apart: T by its left phone, IY by its right one, EY by both."""
    count = iter(range(1000))

    def ask(which, *nodes):
        node = nodes[0] if nodes else next(count)
        for p in range(1, len(phones)):
            node = {'ask': which, 'phones': [p], 'yes': next(count), 'no': node}
        return node
    sides = {'T': ['left'], 'IY': ['right'], 'EY': ['left', 'right']}
    roots = []
    for phone in phones:
        for _ in range(states):
            node = next(count)
            for side in sides.get(phone, []):
                node = ask(side, node)
            roots.append(node)
    return Tree(phones, states, 3, roots, next(count))


def sentences(words, lexicon):
    """[(phones with word positions, log-probability)] of everything the words may be."""
    for chosen in product(*(lexicon.variants[w] for w in words)):
        for silent in product([False, True], repeat=len(words) + 1):
            said, weight = [(0, -1)]*silent[0], 0.0
            for w, ((p, phones), pause) in enumerate(zip(chosen, silent[1:], strict=True)):
                said += [(lexicon.index[q], w) for q in phones] + [(0, -1)]*pause
                weight += np.log(p)
            yield tuple(said), weight


def all_ways(words, lexicon, tree, T):
    """{(pdfs [T], phones and words [T]): log-probability} of every alignment of T frames."""
    found = {}
    for said, weight in sentences(words, lexicon):
        padded = [0, *(p for p, _ in said), 0]
        states = [(pdf, n) for n in range(len(said)) for pdf in tree.pdfs(*padded[n:n + 3])]
        for cuts in combinations(range(1, T), len(states) - 1):
            lengths = np.diff([0, *cuts, T])
            pdfs, phones = zip(*(s for s, k in zip(states, lengths, strict=True) for _ in range(k)), strict=True)
            key = pdfs, tuple((n, *said[n]) for n in phones)
            found[key] = max(weight, found.get(key, -np.inf))
    return found


def ways_of_graph(graph, T):
    """The same of a StateGraph, by walking it."""
    def walk(path, weight):
        if len(path) == T:
            if graph.finals[path[-1]]:
                yield path, weight
            return
        for s in range(len(graph.columns)):
            if path and s == path[-1]:
                yield from walk([*path, s], weight)
            for k in range(graph.starts[s], graph.starts[s+1]):
                if graph.preds[k] == (path[-1] if path else BEGIN):
                    yield from walk([*path, s], weight + graph.weights[k])
    found = {}
    for path, weight in walk([], 0.0):
        segments = graph.segments(np.array(path))
        phones = tuple((n, p, w) for n, (_, k, p, w) in enumerate(segments.tolist()) for _ in range(k))
        key = tuple(graph.alignment(np.array(path)).tolist()), phones
        found[key] = max(weight, found.get(key, -np.inf))
    return found


@pytest.fixture
def weighted(tmp_path):
    path = tmp_path/'lexiconp.txt'
    path.write_text('TEA 0.7 T IY\nTEA 0.3 T EY\nEAT 1.0 IY T\nA 1.0 EY\n<UNK> 1.0 SPN\n')
    return Lexicon(path, states=1)


@pytest.mark.parametrize('words', [['A'], ['TEA'], ['TEA', 'EAT'], ['A', 'A'], ['EAT', 'A', 'TEA']], ids=' '.join)
@pytest.mark.parametrize('tree', ['monophone', 'triphones'])
def test_paths_are_exactly_those_of_the_transcript(weighted, words, tree):
    tree = Tree.monophone(PHONES, 1) if tree == 'monophone' else triphones(PHONES, 1)
    T = 6
    expected, found = all_ways(words, weighted, tree, T), ways_of_graph(Graphs(weighted, tree).of(words, 'u'), T)
    assert expected.keys() == found.keys() and len(found)
    assert all(found[k] == pytest.approx(w, abs=1e-6) for k, w in expected.items())


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), words=st.lists(st.sampled_from(['A', 'TEA', 'EAT']), min_size=1, max_size=2),
       scale=st.sampled_from([0.1, 1.0]))
def test_the_best_alignment_is_the_best_of_all(tmp_path_factory, seed, words, scale):
    path = tmp_path_factory.mktemp('lexicon')/'lexiconp.txt'
    path.write_text('TEA 0.7 T IY\nTEA 0.3 T EY\nEAT 1.0 IY T\nA 1.0 EY\n')
    lexicon = Lexicon(path, states=2)
    tree, T = triphones(lexicon.phones), 8
    loglikes = np.random.default_rng(seed).standard_normal((T, tree.num_pdfs)).astype(np.float32)
    expected = max(sum(loglikes[t, k] for t, k in enumerate(pdfs)) + weight/scale
                   for (pdfs, _), weight in all_ways(words, lexicon, tree, T).items())
    graph = Graphs(lexicon, tree).of(words, 'u')
    score, path = best_path(graph, T, columns(loglikes, graph.pdfs), scale)
    assert score == pytest.approx(expected, abs=1e-4)
    pdfs, segments = align_words(loglikes, words, lexicon, tree, scale=scale)
    assert pdfs.tolist() == graph.alignment(path).tolist()
    assert segments[:, 1].sum() == T and segments.tolist() == graph.segments(path).tolist()


@pytest.mark.parametrize('T', [40, 41, 100, 1000])
def test_a_long_utterance_is_aligned_in_blocks(lexicon, T, monkeypatch):
    tree = triphones(PHONES)
    graph = Graphs(lexicon, tree).of(['TEA', 'EAT', 'A', 'TEA'], 'u')
    loglikes = np.random.default_rng(T).standard_normal((T, tree.num_pdfs)).astype(np.float32)
    whole, asked = best_path(graph, T, columns(loglikes, graph.pdfs)), []

    def parts(a, b):
        asked.append((a, b))
        return columns(loglikes, graph.pdfs)(a, b)
    monkeypatch.setattr(viterbi, 'ROOM', 0)
    score, path = best_path(graph, T, parts)
    assert score == whole[0] and np.array_equal(path, whole[1])
    assert max(b - a for a, b in asked) == isqrt(8*T) < T and len(asked) == 2*-(-T//isqrt(8*T)) - 1


def test_a_long_utterance_without_a_path(lexicon, monkeypatch):
    graph = Graphs(lexicon, Tree.monophone(PHONES, 2)).of(['TEA']*30, 'u')
    monkeypatch.setattr(viterbi, 'ROOM', 0)
    score, path = best_path(graph, 100, lambda a, b: np.zeros((b - a, len(graph.pdfs)), np.float32))
    assert score == -np.inf and path.shape == (100,) and not path.any()


def test_memory_does_not_grow_as_frames_times_states(lexicon, monkeypatch):
    graph, T = Graphs(lexicon, triphones(PHONES)).of(['TEA', 'EAT', 'A']*100, 'u'), 8000
    assert T*len(graph.columns) > 20e6
    monkeypatch.setattr(viterbi, 'ROOM', 1 << 20)
    tracemalloc.start()
    score, path = best_path(graph, T, lambda a, b: np.zeros((b - a, len(graph.pdfs)), np.float32))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert score > -np.inf and graph.segments(path)[:, 1].sum() == T and most < 4e6


def test_a_context_that_does_not_matter_is_not_told_apart(lexicon):
    graph = Graphs(lexicon, Tree.monophone(PHONES, 2)).of(['TEA', 'TEA'], 'u')
    assert len(graph.columns) == 2*len(graph.phones) and len(graph.phones) == 3 + 2*4
    context = Graphs(lexicon, triphones(PHONES)).of(['TEA', 'TEA'], 'u')
    silences = np.count_nonzero(context.phones[context.nodes] == 0)
    assert silences == 3 and len(context.columns) > len(graph.columns)


def test_too_few_frames_have_no_path(lexicon):
    tree = Tree.monophone(PHONES, 2)
    assert align_words(np.zeros((3, 10), np.float32), ['TEA'], lexicon, tree) is None
    pdfs, segments = align_words(np.zeros((4, 10), np.float32), ['TEA'], lexicon, tree)
    assert pdfs[:2].tolist() == [8, 9] and segments[:, 3].tolist() == [0, 0]


def test_words_that_the_lexicon_lacks(lexicon_file, lexicon):
    tree = Tree.monophone(PHONES, 2)
    with pytest.raises(BadInput, match=r's\.h5: utterance u: COFFEE is not in'):
        Graphs(lexicon, tree).of(['COFFEE'], 's.h5: utterance u')
    other = Lexicon(lexicon_file, states=2, stress=False, oov='<UNK>')
    assert 3 in Graphs(other, tree).of(['COFFEE'], 'u').phones
    with pytest.raises(BadInput):
        Graphs(lexicon, Tree.monophone(['SIL', 'T'], 2))


def test_an_impossible_pronunciation_is_not_considered(tmp_path):
    path = tmp_path/'lexiconp.txt'
    path.write_text('TEA 1.0 T IY\nTEA 0.0 T EY\nA 0.0 EY\n')
    lexicon = Lexicon(path, states=1)
    graphs = Graphs(lexicon, Tree.monophone(lexicon.phones, 1))
    assert [phones for _, phones in graphs.variants('TEA', 'u')] == [['T', 'IY']]
    assert graphs.variants('A', 'u') == [(1.0, ['EY'])]


def test_an_equal_start(lexicon):
    graph = Graphs(lexicon, Tree.monophone(PHONES, 2)).chain(['TEA', 'EAT'], 'u')
    path = graph.equal(24)
    assert graph.alignment(path).tolist() == np.repeat([0, 1, 8, 9, 4, 5, 4, 5, 8, 9, 0, 1], 2).tolist()
    assert graph.segments(path).tolist() == [[4*k, 4, p, w] for k, (p, w) in
                                             enumerate([(0, -1), (4, 0), (2, 0), (2, 1), (4, 1), (0, -1)])]
    assert graph.context(path)[0].tolist() == [0, 0, 4, 2, 2, 4]


def test_as_wide_as_the_predecessors_need(tmp_path):
    path = tmp_path/'lexicon.txt'
    path.write_text(''.join(f'W P{k}\n' for k in range(300)) + 'V Q\n')
    lexicon = Lexicon(path, states=1)
    graph = Graphs(lexicon, Tree.monophone(lexicon.phones, 1)).of(['W', 'V'], 'u')
    assert graph.choices(3).dtype == np.uint16
    _, found = best_path(graph, 3, lambda a, b: np.zeros((b - a, len(graph.pdfs)), np.float32))
    assert len(graph.segments(found)) > 1
