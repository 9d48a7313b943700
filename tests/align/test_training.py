"""Flat start, triphones and forced alignment of made-up speech whose phones are known."""

import json
import pathlib

import numpy as np
import pytest

from hpcasr.align.flat_start import flat_start
from hpcasr.align.force import force_align
from hpcasr.align.gmm import GmmModel
from hpcasr.align.lexicon import Lexicon
from hpcasr.align.passes import Passes
from hpcasr.align.tied import train_tied
from hpcasr.align.training import Request
from hpcasr.align.transform import Transform, choose
from hpcasr.comm.base import Comm
from hpcasr.data.check import problems
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from hpcasr.experiment import LOCKS


@pytest.fixture
def ask(tmp_path):
    """ask(paths, ...) -> training.Request; its lines are in ask.lines."""
    def make(paths, out='ali', passes=6, num_gauss=20, targets=True, force=False):
        while LOCKS:  # of an earlier request: as if its process had ended
            LOCKS.pop().close()
        return Request(paths, str(tmp_path/out), passes, num_gauss, targets, force, {'command': 'test'},
                       make.lines.append)
    make.lines = []
    return make


def phones_of(store):
    """[T] phones of all utterances, from their segments."""
    return [np.repeat(s[:, 2], s[:, 1]) for s in map(store.segments, range(store.num_utterances))]


def agreement(store, spoken):
    return np.mean(np.concatenate(phones_of(store)) == np.concatenate(spoken))


def test_flat_start_finds_the_phones(ask, speech, texts, lexicon):
    (a, said_a), (b, said_b) = speech('a.h5', texts), speech('b.h5', texts[:5], seed=1)
    facts = flat_start(Comm(), ask([a, b]), lexicon)
    assert facts['pdfs'] == 10 and facts['failed'] == {a: 0, b: 0}
    assert agreement(Store(a), said_a) > 0.95 and agreement(Store(b), said_b) > 0.95
    assert not problems(a) and not problems(b)
    out = pathlib.Path(ask([]).out)
    log = [json.loads(line) for line in (out/'log.jsonl').read_text().splitlines()]
    assert [row['pass'] for row in log] == [1, 2, 3, 4, 5, 6] and len([x for x in ask.lines if 'pass' in x]) == 6
    assert log[-1]['loglike_per_frame'] > log[0]['loglike_per_frame'] + 0.5
    assert (out/'DONE').exists() and not (out/'pass.npz').exists()
    assert any('SPN' in line and 'warning' in line for line in ask.lines)


def test_targets_are_the_pdfs_of_the_segments(ask, speech, texts, lexicon):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path]), lexicon)
    store = Store(path)
    for u in range(store.num_utterances):
        targets, segments = store.utterance(u)[1], store.segments(u)
        assert (targets//2 == np.repeat(segments[:, 2], segments[:, 1])).all()
        words = [int(w) for w in segments[:, 3] if w >= 0]
        assert sorted(set(words)) == list(range(len(store.text(u).split()))) and words == sorted(words)


def test_other_stores_never_enter_the_model(ask, speech, texts, lexicon):
    (a, _), (b, _) = speech('a.h5', texts), speech('b.h5', texts[:9], seed=1)
    flat_start(Comm(), ask([a, b], 'both'), lexicon)
    flat_start(Comm(), ask([a], 'one', targets=False), lexicon)
    models = [GmmModel(pathlib.Path(ask([], out).out)) for out in ('both', 'one')]
    assert np.array_equal(*(m.mixtures.means for m in models))


class Killed(Exception):
    pass


def stop_after(monkeypatch, passes):
    step = Passes.step

    def stopping(self, state, align):
        step(self, state, align)
        if state.done == passes:
            raise Killed
    monkeypatch.setattr(Passes, 'step', stopping)


def test_a_stopped_command_goes_on(ask, speech, texts, lexicon, monkeypatch):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path], 'whole', targets=False), lexicon)
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 3)
        flat_start(Comm(), ask([path]), lexicon)
    ask.lines.clear()
    for change in {'num_gauss': 30}, {'passes': 7}:
        with pytest.raises(BadInput, match=f'other arguments or data .{next(iter(change))}.*--force'):
            flat_start(Comm(), ask([path], **change), lexicon)
    lexicon.path = 'elsewhere'
    flat_start(Comm(), ask([path]), lexicon)
    assert [line.split()[1] for line in ask.lines if line.startswith('pass')] == ['4', '5', '6']
    models = [GmmModel(pathlib.Path(ask([], out).out)) for out in ('whole', 'ali')]
    assert np.array_equal(*(m.mixtures.means for m in models))


def test_a_command_stopped_among_its_stores_goes_on(ask, speech, texts, lexicon, monkeypatch):
    from hpcasr.align import label
    (a, _), (b, _) = speech('a.h5', texts), speech('b.h5', texts[:5])
    write, written = label.write, []

    def dies(store, *args):
        if written:
            raise Killed
        written.append(write(store, *args))
    with monkeypatch.context() as m, pytest.raises(Killed):
        m.setattr(label, 'write', dies)
        flat_start(Comm(), ask([a, b]), lexicon)
    assert Store(a).targets is not None and Store(b).targets is None
    assert not list(pathlib.Path(a).parent.glob('.hpcasr-align-*'))
    flat_start(Comm(), ask([a, b]), lexicon)  # a has targets, which this command gave it
    assert Store(b).targets is not None


def test_nothing_is_replaced_without_force(ask, speech, texts, lexicon):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path]), lexicon)
    with pytest.raises(BadInput, match='has targets already; use --force'):
        flat_start(Comm(), ask([path], 'other'), lexicon)
    with pytest.raises(BadInput, match=r'ali: holds an alignment; .*--force'):
        flat_start(Comm(), ask([path], targets=False), lexicon)
    flat_start(Comm(), ask([path], passes=2, force=True), lexicon)
    assert not pathlib.Path(ask([], 'other').out).exists()


def test_a_damaged_pass(ask, speech, texts, lexicon, monkeypatch):
    path, _ = speech('a.h5', texts)
    with monkeypatch.context() as m, pytest.raises(Killed):
        stop_after(m, 2)
        flat_start(Comm(), ask([path]), lexicon)
    saved = pathlib.Path(ask([]).out)/'pass.npz'
    saved.write_bytes(saved.read_bytes()[:500])
    with pytest.raises(BadInput, match=r'pass\.npz: damaged'):
        flat_start(Comm(), ask([path]), lexicon)
    flat_start(Comm(), ask([path], force=True), lexicon)
    assert Store(path).targets is not None


def test_an_experiment_is_not_written_over(ask, speech, texts, lexicon, tmp_path):
    path, _ = speech('a.h5', texts)
    (tmp_path/'ali').mkdir()
    (tmp_path/'ali'/'model.json').write_text('{}')
    with pytest.raises(BadInput, match=r'holds model\.json'):
        flat_start(Comm(), ask([path], force=True), lexicon)


def test_most_utterances_too_short(ask, speech, texts, lexicon):
    path, _ = speech('a.h5', texts)
    cut, _ = speech('c.h5', ['TEA EAT', 'EAT TEA EAT'], length=1)
    flat_start(Comm(), ask([path]), lexicon)
    with pytest.raises(BadInput, match=r'c\.h5: 2 of 2 utterances cannot be aligned, first u000'):
        force_align(Comm(), ask([]).out, [cut], 0.1, {}, False, ask.lines.append)
    assert Store(cut).targets is None


def test_one_utterance_in_three_too_short(ask, speech, texts, lexicon, monkeypatch):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path]), lexicon)
    other, _ = speech('d.h5', ['TEA', 'EAT A', 'A'])
    monkeypatch.setattr(Store, 'text', lambda self, u: ['TEA', 'EAT ' + 'TEA '*30, 'A'][u])
    ask.lines.clear()
    tallies = force_align(Comm(), ask([]).out, [other], 0.1, {}, False, ask.lines.append)
    assert tallies[0].failed == 1 and tallies[0].aligned == 2
    assert len(ask.lines) == 1 and '1 utterances have no path, first u001' in ask.lines[0]
    assert Store(other).segments(1)[:, 1].sum() == Store(other).length(1)


@pytest.mark.parametrize('text, line', [('TEA COFFEE', r'b\.h5: utterance u000: COFFEE'),
                                        ('', r'b\.h5: utterance u000: has no transcript')])
def test_all_words_are_looked_up_first(ask, speech, texts, lexicon, text, line, monkeypatch):
    (a, _), (b, _) = speech('a.h5', texts), speech('b.h5', ['A'])
    real = Store.text
    monkeypatch.setattr(Store, 'text', lambda self, u: text if self.path == b else real(self, u))
    with pytest.raises(BadInput, match=line):
        flat_start(Comm(), ask([a, b]), lexicon)
    assert not pathlib.Path(ask([]).out).exists() and Store(a).targets is None


def test_a_model_that_gives_no_numbers(ask, speech, texts, lexicon, monkeypatch):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path], targets=False), lexicon)
    monkeypatch.setattr(GmmModel, 'some', lambda self, x, pdfs: np.full((len(x), len(pdfs)), np.nan, np.float32))
    with pytest.raises(BadInput, match=r'a\.h5: utterance u000: .*ali gives nan in frame 0, column 0; train it again'):
        force_align(Comm(), ask([]).out, [path], 0.1, {}, False, ask.lines.append)
    assert Store(path).targets is None


def test_triphones_after_monophones(ask, speech, texts, lexicon):
    path, spoken = speech('a.h5', texts*3)
    flat_start(Comm(), ask([path], 'mono'), lexicon)
    facts = train_tied(Comm(), ask([path], 'tri', force=True), ask([], 'mono').out, leaves=16, min_count=20)
    store = Store(path)
    assert store.tree.width == 3 and store.num_targets == facts['pdfs'] <= 16
    assert agreement(store, spoken) > 0.95 and not problems(path)
    before = store.utterance(0)[1].copy()
    force_align(Comm(), ask([], 'tri').out, [path], 0.1, {}, True, ask.lines.append)
    assert np.array_equal(Store(path).utterance(0)[1], before)


def test_the_model_to_begin_with_is_not_replaced(ask, speech, texts, lexicon):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path], targets=False), lexicon)
    out = pathlib.Path(ask([]).out)
    with pytest.raises(BadInput, match='ali: would be replaced by what is made from it; choose another --out'):
        train_tied(Comm(), ask([path], force=True), out/'..'/'ali')
    assert (out/'gmm.npz').exists()


def test_other_features_are_refused(ask, speech, texts, lexicon):
    (a, _), (b, _) = speech('a.h5', texts), speech('b.h5', texts[:5], dim=5)
    with pytest.raises(BadInput, match=r'b\.h5: 5 columns, but .*ali was trained on 4'):
        flat_start(Comm(), ask([a, b]), lexicon)
    c, _ = speech('c.h5', texts[:5], frontend={'kind': 'mfcc'})
    with pytest.raises(BadInput, match=r'c\.h5: front end: kind is mfcc, but'):
        force_align(Comm(), ask([]).out, [c], 0.1, {}, False, ask.lines.append)


def test_a_damaged_model(ask, speech, texts, lexicon):
    path, _ = speech('a.h5', texts)
    flat_start(Comm(), ask([path], targets=False), lexicon)
    out = pathlib.Path(ask([]).out)
    whole = (out/'gmm.npz').read_bytes()
    for damage in whole[:1000], b'', b'PK', whole.replace(b'hpcasr-gmm', b'hpcasr-gmn'):
        (out/'gmm.npz').write_bytes(damage)
        with pytest.raises(BadInput, match=r'gmm\.npz: '):
            GmmModel(out)
    (out/'gmm.npz').write_bytes(whole)
    (out/'tree.json').unlink()
    with pytest.raises(BadInput, match=r'tree\.json: No such file'):
        GmmModel(out)


def test_stress_and_unknown_words(ask, speech, texts, lexicon, lexicon_file):
    path, _ = speech('a.h5', texts)
    strict = Lexicon(lexicon_file, states=2)
    facts = flat_start(Comm(), ask([path]), strict)
    assert facts['pdfs'] == 2*6 and 'IY0' in Store(path).tree.phones


@pytest.mark.parametrize('kind, name, dim', [('fbank', 'auto', 39), ('fbank', 'none', 60), ('mfcc', 'auto', 60),
                                             ('mfcc', 'dct', 39)])
def test_filterbanks_are_decorrelated(kind, name, dim):
    matrix = choose(name, {'kind': kind, 'deltas': 2}, 60, 's.h5')
    assert matrix.shape == (60, dim)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(dim), atol=1e-12)
    if dim == 39:  # of a straight line along the frequencies only odd cosines are left, and the mean
        line = np.concatenate([np.arange(20), np.zeros(40)]) @ matrix
        np.testing.assert_allclose(line[2:13:2], 0, atol=1e-10)
        assert not line[13:].any() and abs(line[1]) > 1


def test_blocks_that_do_not_fit():
    with pytest.raises(BadInput, match=r's\.h5: 61 columns are not 3 blocks'):
        choose('dct', {'deltas': 2}, 61, 's.h5')


def test_columns_are_normalized_and_constant_ones_centred():
    x = np.random.default_rng(0).standard_normal((1000, 3))*[1, 100, 0] + [5, -300, 7]
    t = Transform.of_statistics(np.eye(3), len(x), x.sum(0), (x*x).sum(0))
    y = t(x)
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(y.std(0), [1, 1, 0], atol=1e-4)


@pytest.mark.mpi
def test_ranks_find_what_one_finds(lexicon, texts, speech):
    """One rank alone makes the data and the expected result; then all do the same together."""
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    path = comm.first(lambda: speech('a.h5', texts)[0])
    folder = pathlib.Path(path).parent
    expected = comm.first(alone, path, folder, lexicon)
    request = Request([path], str(folder/'together'), 6, 20, True, True, {}, print)
    flat_start(comm, request, lexicon)
    comm.barrier()
    found = GmmModel(folder/'together').mixtures.means.tolist()
    np.testing.assert_allclose(found, expected[0], atol=1e-6)
    assert np.mean(Store(path).targets == np.array(expected[1])) > 0.999
    comm.barrier()


@pytest.mark.mpi
def test_ranks_that_were_asked_for_different_things(lexicon, texts, speech):
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    path = comm.first(lambda: speech('a.h5', texts)[0])
    folder = pathlib.Path(path).parent
    request = Request([path], str(folder/'ali'), 1 + comm.rank, 20, False, False, {}, print)
    if comm.size > 1:
        with pytest.raises(BadInput, match=r'the ranks do not agree: passes: 1 \(rank 0\), 2 \(rank 1\)'):
            flat_start(comm, request, lexicon)
        assert not (folder/'ali').exists()
    comm.barrier()


def alone(path, folder, lexicon):
    flat_start(Comm(), Request([path], str(folder/'alone'), 6, 20, True, True, {}, print), lexicon)
    return GmmModel(folder/'alone').mixtures.means.tolist(), Store(path).targets.tolist()
