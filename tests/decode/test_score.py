"""Word errors against a brute-force Levenshtein, intervals against the binomial, files as Kaldi writes them."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.cli import main
from hpcasr.decode import bootstrap, details
from hpcasr.decode.results import best_point, score_directory, score_files
from hpcasr.decode.score import Counts, align, count, count_all, operation, total
from hpcasr.decode.texts import read_texts, write_texts
from hpcasr.errors import BadInput

SENTENCE = st.lists(st.sampled_from(['a', 'A', 'bc', '*', '<eps>', 'é']), max_size=7)


def levenshtein(ref, hyp):
    """The fewest edits, by the definition."""
    rows = [list(range(len(hyp) + 1))]
    for i, r in enumerate(ref, 1):
        row = [i]
        for j, h in enumerate(hyp, 1):
            row.append(min(row[-1] + 1, rows[-1][j] + 1, rows[-1][j - 1] + (r != h)))
        rows.append(row)
    return rows[-1][-1]


@given(SENTENCE, SENTENCE)
def test_errors_are_the_fewest_edits(ref, hyp):
    c = count(ref, hyp)
    assert c.errors == levenshtein(ref, hyp)
    assert c.ins - c.dels == len(hyp) - len(ref)
    assert c.correct == len(ref) - c.dels - c.sub >= 0
    assert (c.words, c.utterances, c.wrong, c.missing) == (len(ref), 1, ref != hyp, 0)


@given(SENTENCE, SENTENCE)
def test_an_alignment_holds_both_sentences(ref, hyp):
    pairs = align(ref, hyp)
    assert [r for r, _ in pairs if r != ' '] == ref and [h for _, h in pairs if h != ' '] == hyp
    assert sum(operation(*pair) != 'C' for pair in pairs) == levenshtein(ref, hyp)


def test_case_counts():
    assert count(['Word'], ['word']).sub == 1


def test_a_missing_hypothesis_is_deleted_and_an_empty_reference_takes_insertions():
    counts = count_all({'u': ['a', 'b'], 'v': []}, {'v': ['c']}, 'hyp')
    assert counts == {'u': Counts(0, 2, 0, 2, 1, 1, 1), 'v': Counts(1, 0, 0, 0, 1, 1, 0)}
    assert math.isnan(Counts().wer) and math.isnan(Counts().ser)
    both = total(counts.values())
    assert both.lines() == ('%WER 150.00 [ 3 / 2, 1 ins, 2 del, 0 sub ]\n%SER 100.00 [ 2 / 2 ]\n'
                            'Scored 2 sentences, 1 not present in hyp.\n')


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(BadInput, match=r'hyp.txt: utterance w is not in the reference'):
        count_all({'u': ['a']}, {'w': ['a']}, 'hyp.txt')
    with pytest.raises(BadInput, match='no words'):
        count_all({'u': []}, {'u': ['a']}, 'hyp.txt')


def test_texts_there_and_back(tmp_path):
    write_texts(tmp_path/'t', {'b': 'x y', 'a': '', 'é': 'z'})
    assert (tmp_path/'t').read_text() == 'a\nb x y\né z\n'
    assert read_texts(tmp_path/'t') == {'a': [], 'b': ['x', 'y'], 'é': ['z']}
    with pytest.raises(BadInput, match='none/t: No such file'):
        write_texts(tmp_path/'none'/'t', {})


# bootstrap

def test_the_interval_of_independent_words_is_that_of_the_binomial():
    """400 utterances of one word, 80 errors: the replicates are Binomial(400, 0.2)/400."""
    errors = np.repeat([1, 0], [80, 320])
    low, high = bootstrap.interval(errors, np.ones(400, int), 20_000)
    sd = 100*math.sqrt(0.2*0.8/400)
    assert low == pytest.approx(20 - 1.96*sd, abs=0.3) and high == pytest.approx(20 + 1.96*sd, abs=0.3)


def test_drawing_equal_rows_together_is_drawing_rows():
    rows = np.random.default_rng(0).integers(0, 4, (30, 2))
    sums = bootstrap.resampled(rows, 40_000, np.random.default_rng(1))
    draws = rows[np.random.default_rng(2).integers(0, 30, (40_000, 30))].sum(1)
    np.testing.assert_allclose(sums.mean(0), draws.mean(0), rtol=0.01)
    np.testing.assert_allclose(np.cov(sums.T), np.cov(draws.T), atol=0.05*np.var(draws, 0).max())


def test_blocks_do_not_change_the_sums(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 9, (50, 2))
    whole = bootstrap.resampled(rows, 1001, np.random.default_rng(0))
    monkeypatch.setattr(bootstrap, 'CELLS', 500)
    assert (bootstrap.resampled(rows, 1001, np.random.default_rng(0)) == whole).all() and len(whole) == 1001


def test_a_seed_repeats_an_interval_and_all_equal_units_have_none():
    errors, words = np.arange(20) % 3, np.full(20, 5)
    assert bootstrap.interval(errors, words, seed=3) == bootstrap.interval(errors, words, seed=3)
    assert bootstrap.interval(np.ones(9, int), np.full(9, 4)) == (25.0, 25.0)
    assert bootstrap.interval(np.array([1, 0]), np.array([0, 2]), 100)[0] == 0  # replicates without words do not count


def test_comparisons_are_paired():
    words, base = np.full(100, 10), np.random.default_rng(0).integers(0, 5, 100)
    same = bootstrap.compare(base, base, words)
    assert same == {'difference': 0.0, 'interval': [0.0, 0.0], 'improves': 0.0}
    better = bootstrap.compare(base, base + 1, words)  # unpaired there would be an interval of several points
    assert better == {'difference': pytest.approx(-10), 'interval': pytest.approx([-10, -10]), 'improves': 1.0}
    noise = np.random.default_rng(1).permutation(np.repeat([-1, 1], 50))
    even = bootstrap.compare(base + noise, base, words)
    assert 0.3 < even['improves'] < 0.7 and even['interval'][0] < 0 < even['interval'][1]


# details, in the words of Kaldi's own examples

REF = {'UTT-A': 'word-A word-B word-C word-D word-E'.split()}
HYP = {'UTT-A': 'word-A word-A word-B word-D word-X'.split()}


def test_per_utt_as_kaldi_prints_it():
    ref, hyp, op, csid = details.per_utterance({'UTT-A': ['aa', 'b']}, {'UTT-A': ['aa', 'c', 'b']})
    assert ref == 'UTT-A ref  aa  <eps>  b' and hyp.split() == ['UTT-A', 'hyp', 'aa', 'c', 'b']
    assert op.split() == ['UTT-A', 'op', 'C', 'I', 'C'] and csid == 'UTT-A #csid 2 0 1 0'
    assert hyp.index('c') == ref.index('<eps>') + 2


def test_utterances_without_words_have_details():
    assert list(details.per_utterance({'u': []}, {})) == ['u ref', 'u hyp', 'u op', 'u #csid 0 0 0 0']


def test_per_spk_as_kaldi_prints_it():
    counts = count_all(REF, HYP, 'hyp')
    assert counts['UTT-A'].errors == 3
    table = list(details.speaker_table(details.by_speaker({'UTT-A': Counts(1, 1, 1, 5, 1, 1)}, {'UTT-A': 'A'})))
    assert table == [
        'SPEAKER         id       #SENT      #WORD       Corr        Sub        Ins        Del        Err      S.Err',
        'A               raw          1          5          3          1          1          1          3          1',
        'A               sys          1          5      60.00      20.00      20.00      20.00      60.00     100.00',
        'SUM             raw          1          5          3          1          1          1          3          1',
        'SUM             sys          1          5      60.00      20.00      20.00      20.00      60.00     100.00']


def test_the_most_frequent_confusions_come_first():
    lines = [line.split() for line in details.operations({'u': ['a', 'b', 'a'], 'v': ['a', 'c']},
                                                         {'u': ['x', 'b', 'x'], 'v': ['x']})]
    assert lines == [['substitution', 'a', 'x', '3'], ['deletion', 'c', '<eps>', '1'], ['correct', 'b', 'b', '1']]


# directories

@pytest.fixture
def directory(tmp_path):
    """Ten utterances of two words by two speakers; 0.08_0 has two errors, 0.1_0 and 0.1_0.5 one."""
    scoring = tmp_path/'dev'/'scoring'
    scoring.mkdir(parents=True)
    right = {f'u{u}': 'one two' for u in range(10)}
    write_texts(scoring/'ref.txt', right)
    write_texts(scoring/'utt2spk', {name: f's{k % 2}' for k, name in enumerate(right)})
    write_texts(scoring/'0.08_0.txt', right | {'u1': 'one too', 'u2': 'one'})
    write_texts(scoring/'0.1_0.txt', right | {'u1': 'one too'})
    write_texts(scoring/'0.12_0.txt', right | {'u1': 'one', 'u2': 'one', 'u3': ''})
    return tmp_path/'dev'


def test_a_directory_gets_kaldis_files(directory):
    result = score_directory(directory)
    assert result.facts == {'acwt': 0.1, 'penalty': 0.0} and result.notes == []
    assert (directory/'wer_0.08_0').read_text().splitlines() == [
        '%WER 10.00 [ 2 / 20, 0 ins, 1 del, 1 sub ]', '%SER 20.00 [ 2 / 10 ]',
        'Scored 10 sentences, 0 not present in hyp.']
    best = (directory/'scoring'/'best_wer').read_text()
    assert best == f'%WER 5.00 [ 1 / 20, 0 ins, 0 del, 1 sub ] {directory}/wer_0.1_0\n'
    found = json.loads((directory/'scoring'/'best.json').read_text())
    assert (found['acwt'], found['wer'], found['errors'], found['words']) == (0.1, 5.0, 1, 20)
    assert best_point(directory) == (0.1, 0.0)
    assert 'u1 #csid 1 1 0 0' in (directory/'scoring'/'per_utt').read_text().splitlines()
    assert 'SUM' in (directory/'scoring'/'per_spk').read_text()
    assert (directory/'scoring'/'ops').read_text().split()[:4] == ['substitution', 'two', 'too', '1']
    assert not list(directory.rglob('*.tmp*'))
    score_directory(directory)  # again: the same


def test_files_with_other_names_are_no_hypotheses(directory):
    for name in '0.1.2_0.txt', '..._1.txt', '0.1_0.txt.bak':
        (directory/'scoring'/name).write_text('x y\n')
    write_texts(directory/'scoring'/'1e-05_-0.5.txt', {'u1': 'one'})
    score_directory(directory)
    assert (directory/'wer_1e-05_-0.5').exists() and len(list(directory.glob('wer_*'))) == 4


def test_a_best_scale_at_the_edge_is_noted(directory):
    (directory/'scoring'/'0.12_0.txt').unlink()
    assert ['the best acwt, 0.1, is the largest' in note for note in score_directory(directory).notes] == [True]


@pytest.mark.parametrize('name, content, words', [
    ('ref.txt', None, 'no scoring/ref.txt'), ('ref.txt', '', 'utterance u0 is not in the reference'),
    ('ref.txt', 'u0 a\nu0 b\n', 'u0 appears twice'), ('utt2spk', 'u0 s\n', 'u1 has no speaker'),
    ('utt2spk', None, 'utt2spk'), ('0.1_0.txt', 'x y\n', '0.1_0.txt: utterance x is not in the reference')])
def test_damaged_directories_are_refused(directory, name, content, words):
    file = directory/'scoring'/name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(BadInput, match=words):
        score_directory(directory)
    assert not list(directory.glob('scoring/best*'))


def test_directories_without_hypotheses_or_a_best_are_refused(tmp_path):
    with pytest.raises(BadInput, match='holds no hypotheses'):
        score_directory(tmp_path)
    with pytest.raises(BadInput, match='hpcasr decode score'):
        best_point(tmp_path)
    (tmp_path/'scoring').mkdir()
    (tmp_path/'scoring'/'best.json').write_text('{"acwt": null}')
    with pytest.raises(BadInput, match='names no acwt'):
        best_point(tmp_path)


def test_files_without_speakers_are_scored_by_utterance(directory):
    scoring = directory/'scoring'
    (scoring/'0.1_0.txt').write_text('u1 one two\n')
    result = score_files(scoring/'ref.txt', scoring/'0.1_0.txt')
    assert result.total.missing == 9 and '9 utterances' in result.notes[0]
    with pytest.raises(BadInput, match='--utt2spk'):
        result.units(by_speaker=True)
    known = score_files(scoring/'ref.txt', scoring/'0.1_0.txt', scoring/'utt2spk')
    assert [c.words for c in known.units(by_speaker=True)] == [10, 10]


# the command

def test_the_command_prints_an_interval(directory, capsys):
    assert main(['decode', 'score', str(directory), '--per-speaker']) == 0
    line, *table = capsys.readouterr().out.splitlines()
    assert line == f'%WER 5.00 [ 1 / 20, 0 ins, 0 del, 1 sub ]  [0.0, 15.0]  {directory} acwt 0.1 penalty 0'
    assert table[0].startswith('SPEAKER') and len(table) == 7


def test_the_command_compares_with_a_baseline(directory, capsys):
    scoring = directory/'scoring'
    files = ['--ref', str(scoring/'ref.txt'), '--hyp', str(scoring/'0.1_0.txt')]
    assert main(['decode', 'score', *files, '--baseline', str(scoring/'0.12_0.txt')]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith('0.1_0.txt') and second.startswith('-15.')
    assert 'against %WER 20.00' in second
    assert main(['decode', 'score', *files, '--baseline', str(scoring/'0.12_0.txt'), '--utt2spk',
                 str(scoring/'utt2spk'), '--by', 'speaker', '--json', '--per-speaker']) == 0
    found, = json.loads(capsys.readouterr().out)
    assert found['wer'] == 5 and found['resampled'] == 'speakers' and set(found['speakers']) == {'s0', 's1'}
    assert found['baseline']['errors'] == 4 and len(found['baseline']['interval']) == 2


def test_a_baseline_that_is_a_copy_of_the_transcripts_is_noted(directory, capsys):
    ref = str(directory/'scoring'/'ref.txt')
    assert main(['decode', 'score', str(directory), '--baseline', ref]) == 0
    assert f'note: {ref}: word for word its reference' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', [[], ['--ref', 'a'], ['--hyp', 'a'], ['dir', '--ref', 'a', '--hyp', 'b'],
                                       ['none'], ['--ref', 'none', '--hyp', 'none'], ['x', '--replicates', '1']])
def test_the_command_refuses_in_one_line(arguments, capsys):
    assert main(['decode', 'score', *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == '' and captured.err.count('error') == 1 and len(captured.err.splitlines()) == 1
