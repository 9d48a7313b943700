"""The beam search against dynamic programming; penalties, grids and ranks; what does not fit is refused."""

import dataclasses
import fcntl
import itertools
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.base import Comm
from hpcasr.decode import draft, recognizer, speed
from hpcasr.decode.grid import grid
from hpcasr.decode.run import Request, decode
from hpcasr.decode.search import Graph, Search, penalized
from hpcasr.decode.share import share
from hpcasr.decode.tune import best, edges, label, values, wanted
from hpcasr.errors import BadInput
from hpcasr.lock import hold
from tests.decode import toy

WIDE = 1e4  # a beam that prunes nothing
NUMBERS = {word: k for k, word in enumerate(toy.WORDS, 1)}


def viterbi(x, penalty):
    """The word ids of the cheapest path through the toy graph, by dynamic programming over all states."""
    def follow_epsilons(costs):
        for source, i, _, weight, target in toy.arcs():
            if not i and source in costs:
                costs[target] = min(costs.get(target, (np.inf, ())), (costs[source][0] + weight, costs[source][1]))
        return costs
    costs = {0: (0.0, ())}
    for frame in x:
        after = {}
        for source, i, o, weight, target in toy.arcs():
            if i and source in costs:
                cost, words = costs[source]
                new = cost + weight - frame[i - 1] + penalty*(o > 0), words + (o,)*(o > 0)
                after[target] = min(after.get(target, (np.inf, ())), new)
        costs = follow_epsilons(after)
    return list(costs[0][1])


@given(st.integers(0, 10**6), st.integers(1, 12), st.sampled_from([-2.0, 0.0, 0.5, 3.0]))
@settings(deadline=None, max_examples=60)
def test_the_search_finds_the_cheapest_path(seed, frames, penalty):
    x = np.random.default_rng(seed).normal(size=(frames, 4)).astype(np.float32)
    words, final = Search(penalized(toy.fst(), 4, penalty), WIDE).best(x)
    assert final and words == viterbi(x, penalty)


@given(st.integers(0, 10**6))
@settings(deadline=None, max_examples=30)
def test_more_penalty_never_yields_more_words(seed):
    x = 2*np.random.default_rng(seed).normal(size=(20, 4)).astype(np.float32)
    lengths = [len(Search(penalized(toy.fst(), 4, p), WIDE).best(x)[0]) for p in (-5, -1, 0, 0.5, 1, 2, 5, 100)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] > lengths[-1] == 0


def test_a_path_that_ends_in_the_midst_of_a_word_is_taken_as_it_is():
    assert Search(toy.endless()).best(np.zeros((5, 4), np.float32)) == ([NUMBERS['cab']], False)
    assert Search(toy.fst()).best(np.zeros((0, 4), np.float32)) == ([], False)


def test_other_layouts_of_the_matrix_are_taken():
    x = toy.speech(['cab', 'a'], np.random.default_rng(1))
    expected = Search(toy.fst()).best(x)
    assert expected == (viterbi(x, 0), True)
    assert Search(toy.fst()).best(np.asfortranarray(x.astype(np.float64))) == expected


@pytest.fixture
def graph(tmp_path):
    return toy.graph(tmp_path/'graph')


def test_a_graph_knows_its_words(graph):
    g = Graph(graph)
    assert g.num_pdfs == 4 and g.word(3) == 'ab'
    g.refuse_other(toy.Model())
    with pytest.raises(BadInput, match='no word 9'):
        g.word(9)


@pytest.mark.parametrize('name, content, words', [
    ('graph.json', None, 'No such file.*hpcasr decode graph'), ('graph.json', '{', 'not the description'),
    ('graph.json', '[]', 'not the description'), ('graph.json', '{"num_pdfs": "4"}', 'num_pdfs is not a number'),
    ('words.txt', None, 'No such file'), ('words.txt', 'a b c\n', 'line 1: expected a word and its number'),
    ('words.txt', 'a x\n', "line 1: .*'a x'"), ('HCLG.fst', None, 'No such file'),
    ('HCLG.fst', '', 'empty or damaged'), ('HCLG.fst', 'text', 'empty or damaged')])
def test_a_directory_that_is_no_graph_is_refused(graph, name, content, words):
    (graph/name).unlink()
    if content is not None:
        (graph/name).write_text(content)
    with pytest.raises(BadInput, match=words):
        Graph(graph)


def test_a_truncated_graph_is_refused(graph):
    content = (graph/'HCLG.fst').read_bytes()
    (graph/'HCLG.fst').write_bytes(content[:-20])
    with pytest.raises(BadInput, match=r'HCLG.fst: .*damaged'):
        Graph(graph)


def test_another_transducer_in_its_place_is_refused(graph):
    """Such as Kaldi's HCLG.fst, whose input labels are others."""
    facts = json.loads((graph/'graph.json').read_text())
    (graph/'graph.json').write_text(json.dumps(facts | {'states': toy.fst().num_states}))
    Graph(graph)
    toy.endless().write(str(graph/'HCLG.fst'))
    with pytest.raises(BadInput, match=r'HCLG.fst: not the graph that graph.json describes'):
        Graph(graph)


def test_a_graph_of_another_tree_is_refused(graph):
    model = toy.Model()
    model.tree = toy.Tree.monophone(['SIL', 'A', 'B', 'D'], 1)
    with pytest.raises(BadInput, match='another phonetic tree'):
        Graph(graph).refuse_other(model)
    model.num_pdfs = 5
    with pytest.raises(BadInput, match='made for 4 pdfs, but toy has 5'):
        Graph(graph).refuse_other(model)


def tried(surface, scales, penalties):
    """All points that a search of the grid tries, given the errors at each of them."""
    errors = {}
    while todo := wanted(errors, scales, penalties):
        assert not set(todo) & set(errors)
        errors |= {point: surface(*point) for point in todo}
    return errors


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7, unique=True),
       st.lists(st.integers(-3, 5), min_size=1, max_size=5, unique=True), st.integers(0, 40), st.integers(-3, 5))
def test_the_best_of_a_bowl_is_found(scales, penalties, a, p):
    scales, penalties = sorted(scales), sorted(penalties)
    errors = tried(lambda x, y: (x - a)**2 + 3*(y - p)**2, scales, penalties)
    everywhere = [(x - a)**2 + 3*(y - p)**2 for x, y in itertools.product(scales, penalties)]
    assert min(errors.values()) == min(everywhere)
    assert len(errors) <= len(everywhere)


def test_nothing_beside_the_point_found_is_better():
    rng = np.random.default_rng(0)
    scales, penalties = [0.06, 0.08, 0.1, 0.12, 0.15], [0.0, 0.5, 1.0]
    for _ in range(50):
        table = {(a, p): int(rng.integers(10)) for a in scales for p in penalties}
        errors = tried(lambda *point, table=table: table[point], scales, penalties)
        (a, p), k = best(errors), scales.index(best(errors)[0])
        near = [(a, q) for q in penalties] + [(b, p) for b in scales[max(k - 1, 0):k + 2]]
        assert all(point in errors and errors[a, p] <= errors[point] for point in near)


def test_of_equals_the_middle_is_taken():
    assert best({(a, 0.0): 5 for a in (0.06, 0.08, 0.1, 0.12, 0.15)}) == (0.1, 0.0)
    assert best({(1, 0.0): 5, (2, 0.0): 4, (3, 0.0): 4, (4, 0.0): 9, (5, 0.0): 9}) == (3, 0.0)


def test_the_edge_of_the_grid_is_remarked():
    points = [(a, p) for a in (0.06, 0.1) for p in (0.0, 1.0)]
    assert 'acwt, 0.06, is the smallest' in next(edges(points, (0.06, 0.0)))
    assert len(list(edges(points, (0.06, 0.0)))) == 1  # a penalty of 0 is no edge
    assert ['largest' in line for line in edges(points, (0.1, 1.0))] == [True, True]
    assert list(edges([(0.1, 0.0)], (0.1, 0.0))) == []


def test_lists_of_numbers():
    assert values('0.1,0.06,0.1', '--acwt') == [0.06, 0.1]
    assert label((0.1, 0.0)) == '0.1_0' and label((1/12, -0.5)) == '0.0833333_-0.5'
    for text in 'a', '', '0.1,', 'nan', 'inf':
        with pytest.raises(BadInput, match='--penalty'):
            values(text, '--penalty')
    with pytest.raises(BadInput, match='above 0'):
        values('0,1', '--acwt', positive=True)
    with pytest.raises(BadInput, match='leave --acwt and --penalty out'):
        grid('0.1', None, 'dev')


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 5))
def test_shares_are_a_balanced_partition(lengths, size):
    shares = [share(lengths, r, size) for r in range(size)]
    assert sorted(u for part in shares for u in part) == list(range(len(lengths)))
    loads = [sum(lengths[u] for u in part) for part in shares]
    assert max(loads) <= sum(lengths)/size + max(lengths, default=0)


@pytest.fixture
def request_(graph, tmp_path):
    return Request(str(graph), str(toy.store(tmp_path/'s.h5')), str(tmp_path/'out'), [0.05, 0.1, 0.2], [0.0, 1.0], 50.0)


def contents(out):
    return {p.name: p.read_text() for p in sorted((pathlib.Path(out)/'scoring').iterdir())}


def test_everything_is_written_sorted_and_in_kaldis_form(request_):
    facts = decode(Comm(), request_, toy.Model)
    found = contents(request_.out)
    assert {'0.05_0.txt', '0.1_0.txt', '0.2_0.txt', 'ref.txt', 'utt2spk'} < set(found)
    names = [line.split()[0] for line in found['ref.txt'].splitlines()]
    assert names == sorted(names) and len(names) == 12
    assert all([line.split()[0] for line in text.splitlines()] == names for text in found.values())
    assert not any(line.endswith(' ') for line in found['ref.txt'].splitlines())
    log = json.loads((pathlib.Path(request_.out)/'log.json').read_text())
    assert log == json.loads(json.dumps(facts)) and log['beam'] == 50 and log['frames'] > 0
    rate = log['times_real_time']
    assert rate['all'] == pytest.approx(1/(1/rate['network'] + 1/rate['search']))
    assert 'acwt 0.05-0.2, penalty 0-1' in speed.summary(facts)
    assert min(p['errors'] for p in log['points']) < log['points'][0]['words']/2


def test_log_likelihoods_are_computed_once_or_as_memory_allows(request_, monkeypatch):
    models = [toy.Model(), toy.Model()]
    decode(Comm(), request_, lambda: models[0])
    expected = contents(request_.out)
    monkeypatch.setattr(recognizer, 'KEEP', 1000)
    decode(Comm(), dataclasses.replace(request_, force=True), lambda: models[1])
    assert contents(request_.out) == expected
    assert models[0].calls == 12 < models[1].calls


def test_hypotheses_are_not_overwritten(request_):
    decode(Comm(), request_, toy.Model)
    before = contents(request_.out)
    with pytest.raises(BadInput, match=r'holds scoring.*--force'):
        decode(Comm(), request_, toy.Model)
    assert contents(request_.out) == before
    (pathlib.Path(request_.out)/'wer_9_9').write_text('old')
    once = dataclasses.replace(request_, scales=[0.1], penalties=[0.0], force=True)
    decode(Comm(), once, toy.Model)
    assert set(contents(request_.out)) == {'0.1_0.txt', 'ref.txt', 'utt2spk'}
    assert not (pathlib.Path(request_.out)/'wer_9_9').exists()


def test_one_job_at_a_time_recognizes_into_a_directory(request_):
    out = pathlib.Path(request_.out)
    out.mkdir()
    with hold(out, 'busy'), pytest.raises(BadInput, match='another job is recognizing there'):
        decode(Comm(), request_, toy.Model)
    (out/'.scoring.tmp-1').mkdir()  # of a job that was killed
    decode(Comm(), request_, toy.Model)
    assert {p.name for p in out.iterdir()} == {'.lock', 'scoring', 'log.json'}


def test_where_there_are_no_locks_the_first_of_two_stays(request_, monkeypatch):
    def none(*_):
        raise OSError('no locks available')
    monkeypatch.setattr(fcntl, 'flock', none)
    monkeypatch.setattr(draft.os, 'getpid', itertools.count().__next__)
    inner = dataclasses.replace(request_, scales=[0.1], penalties=[0.0])

    def watch(items):
        if not pathlib.Path(request_.out, 'scoring').exists():
            decode(Comm(), inner, toy.Model)
        return items
    with pytest.raises(BadInput, match='holds scoring'):
        decode(Comm(), request_, toy.Model, watch=watch)
    assert set(contents(request_.out)) == {'0.1_0.txt', 'ref.txt', 'utt2spk'}


def test_without_texts_there_are_hypotheses_only(request_, tmp_path):
    silent = dataclasses.replace(request_, store=str(toy.store(tmp_path/'silent.h5', texts=False)))
    with pytest.raises(BadInput, match=r'no texts to choose a scale by.*--like'):
        decode(Comm(), silent, toy.Model)
    assert not pathlib.Path(silent.out).exists()
    decode(Comm(), dataclasses.replace(silent, scales=[0.1], penalties=[0.0]), toy.Model)
    assert set(contents(silent.out)) == {'0.1_0.txt', 'utt2spk'}


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_likelihoods_that_are_not_finite_are_refused_and_nothing_is_left(request_, value):
    model = toy.Model()
    model.loglikes = lambda frames: np.full((len(frames), 4), value, np.float32)
    with pytest.raises(BadInput, match=r'utterance .* not finite'):
        decode(Comm(), request_, lambda: model)
    assert not pathlib.Path(request_.out).exists()
    model.loglikes = lambda frames: np.zeros((len(frames), 3), np.float32)
    with pytest.raises(BadInput, match='expected 4 each'):
        decode(Comm(), request_, lambda: model)


def test_features_of_another_kind_are_refused(request_, tmp_path):
    other = dataclasses.replace(request_, store=str(toy.store(tmp_path/'wide.h5', columns=8)))
    with pytest.raises(BadInput, match='other features'):
        decode(Comm(), other, toy.Model)


def test_a_directory_that_cannot_be_written_is_refused(request_, tmp_path):
    (tmp_path/'file').write_text('')
    with pytest.raises(BadInput, match='choose another --out'):
        decode(Comm(), dataclasses.replace(request_, out=str(tmp_path/'file'/'x')), toy.Model)


def test_unfinished_utterances_are_told_in_one_line(request_, graph):
    toy.endless().write(str(graph/'HCLG.fst'))
    facts = decode(Comm(), request_, toy.Model)
    assert '12 of 12 utterances ended in no final state' in speed.remark(facts)
    assert set(line.split()[1] for line in contents(request_.out)['0.1_0.txt'].splitlines()) == {'cab'}


@pytest.mark.launch
def test_the_same_files_for_any_number_of_ranks(hpcasr, graph, tmp_path):
    toy.store(tmp_path/'s.h5', utterances=7)
    for ranks in 0, 2, 3:
        hpcasr(ranks=ranks, script=[toy.__file__, graph, 's.h5', f'out{ranks}'])
    assert contents(tmp_path/'out0') == contents(tmp_path/'out2') == contents(tmp_path/'out3')
    logs = [json.loads((tmp_path/f'out{ranks}'/'log.json').read_text()) for ranks in (0, 2, 3)]
    assert [log['ranks'] for log in logs] == [1, 2, 3]
    assert logs[0]['points'] == logs[1]['points'] == logs[2]['points']


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2])
@pytest.mark.parametrize('arguments, words', [
    (['--acwt', 'x'], '--acwt x: expected numbers'), (['--like', 'none'], 'find the best scale first'),
    (['--like', 'none', '--acwt', '1'], 'leave --acwt'), (['--beam', 'nan'], 'not a finite number'), ([], 's.h5')])
def test_the_command_refuses_in_one_line(hpcasr, graph, ranks, arguments, words):
    done = hpcasr('decode', 'run', 'model', graph, 's.h5', '--out', 'out', *arguments, ranks=ranks, status=2)
    lines = [line for line in done.stderr.splitlines() if 'error' in line]
    assert len(lines) == 1 and words in lines[0]
