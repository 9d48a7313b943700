"""Speech of tones, of which every word and its time is known, through the real graph, search and alignment."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import soundfile

from hpcasr import transcribe as module
from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.cli import main
from hpcasr.data.features import Features
from hpcasr.decode.graph import Options as GraphOptions
from hpcasr.decode.graph_directory import Request, make_graph
from hpcasr.errors import BadInput
from hpcasr.transcribe import Options, Transcriber, front_end, pieces

RATE, LENGTH = 16000, 0.12  # Hz; seconds of a phone
TONES = {'SIL': 0, 'A': 400, 'B': 900, 'C': 1800, 'D': 3600}
LEXICON = {'AB': 'A B', 'CD': 'C D', 'BAD': 'B A D', 'DACA': 'D A C A'}
FEATURES = Features(num_mel_bins=20)
MADE = {**FEATURES.describe(), 'static_dim': 20, 'deltas': 0, 'cmvn': 'none', 'cmvn_vars': False}


def tone(phone, rate=RATE):
    """A phone, over noise."""
    n = round(LENGTH*rate)
    noise = 0.001*np.random.default_rng(TONES[phone]).normal(size=n)
    return noise + 0.3*np.sin(2*np.pi*TONES[phone]*np.arange(n)/rate)*(phone != 'SIL')


def speech(words, pause=1, rate=RATE):
    """(samples, [(word, start, end)]) of words with `pause` silent phones around each."""
    phones, times = ['SIL']*pause, []
    for word in words:
        own = LEXICON[word].split()
        times.append((word, len(phones)*LENGTH, (len(phones) + len(own))*LENGTH))
        phones += own + ['SIL']*pause
    return np.concatenate([tone(p, rate) for p in phones]), times


class Model:
    """Every phone is a Gaussian around the features of its tone; all its states are alike."""

    frontend = MADE

    def __init__(self, path, lexicon):
        self.path, self.lexicon = pathlib.Path(path), lexicon
        self.tree = Tree.monophone(lexicon.phones)
        self.num_pdfs = self.tree.num_pdfs
        self.means = np.array([FEATURES(np.float32(32768*np.tile(tone(p), 2))).mean(0) for p in lexicon.phones])

    def loglikes(self, x):
        return np.repeat(-0.5*np.square(x[:, None] - self.means).sum(2), 3, axis=1).astype(np.float32)


@pytest.fixture(scope='module')
def exp(tmp_path_factory):
    """A directory with tree, lexicon and graph; all words alike."""
    path = tmp_path_factory.mktemp('transcribe')/'exp'
    path.mkdir()
    (path/'lexicon.txt').write_text(''.join(f'{w} {p}\n' for w, p in LEXICON.items()))
    (path/'text').write_text(''.join(f'{w}\n' for w in LEXICON) + ' '.join(LEXICON) + '\n')
    lexicon = Lexicon(str(path/'lexicon.txt'))
    (path/'tree.json').write_text(Tree.monophone(lexicon.phones).dumps())
    (path/'lexicon.json').write_text(lexicon.dumps())
    make_graph(Request(str(path), str(path/'graph'), text=str(path/'text')), GraphOptions(), {}, lambda line: None)
    return path


@pytest.fixture
def model(exp, tmp_path, monkeypatch):
    """The model in EXP; audio is written to the working directory."""
    monkeypatch.chdir(tmp_path)
    found = Model(exp, Lexicon(str(exp/'lexicon.txt')))
    monkeypatch.setattr(module, 'open_model', lambda path, checkpoint: found)
    return found


WORDS = ['AB', 'DACA', 'CD', 'BAD', 'AB', 'AB']


def near(found, expected, seconds=0.04):
    """The same words, at the same times to within a window and a frame."""
    assert [w[0] for w in found] == [w[0] for w in expected]
    np.testing.assert_allclose([w[1:] for w in found], [w[1:] for w in expected], atol=seconds)


def test_words_and_times(model, exp):
    x, times = speech(WORDS)
    soundfile.write('talk.wav', x, RATE)
    t = Transcriber(exp, Options())('talk.wav')
    assert t.seconds == pytest.approx(len(x)/RATE)
    near([(w.word, w.start, w.end) for w in t.words], times)


@pytest.mark.parametrize('rate, kind', [(44100, 'wav'), (48000, 'flac'), (16000, 'flac')])
def test_higher_rates_are_resampled(model, exp, rate, kind):
    x, times = speech(WORDS, rate=rate)
    soundfile.write(f'talk.{kind}', x, rate)
    t = Transcriber(exp, Options())(f'talk.{kind}')
    near([(w.word, w.start, w.end) for w in t.words], times)


def test_long_audio_in_pieces(model, exp):
    """Memory is for 30 seconds; words are not cut, their times go on."""
    words = WORDS*12
    x, times = speech(words, 3)
    soundfile.write('long.wav', x, RATE)
    assert len(x)/RATE > 40
    near([(w.word, w.start, w.end) for w in Transcriber(exp, Options())('long.wav').words], times)


@pytest.mark.parametrize('T', [0, 1, 2999, 3000, 3001, 5000, 6001, 30000])
def test_pieces_are_bounded_and_cut_where_it_is_quiet(T):
    energy = np.random.default_rng(T).uniform(1, 2, T)
    energy[::250] = 0.5
    found = pieces(energy)
    assert [a for a, _ in found] == [0, *(b for _, b in found[:-1])] and found[-1][1] == T
    assert all(b - a <= 3000 for a, b in found) and all(b - a >= 2000 for a, b in found[:-1])
    assert all(b % 250 == 0 for _, b in found[:-1])


@pytest.mark.parametrize('T', [3001, 3050, 3100, 6001])
def test_the_last_piece_has_room_for_a_path(T):
    found = pieces(np.arange(T, 0, -1))  # quietest at the end
    assert found[-1][1] - found[-1][0] >= 100 and all(b - a <= 3000 for a, b in found)


@pytest.mark.parametrize('rate, T', [(16000, 1), (16000, 29), (16000, 200), (22050, 200)])
def test_energies_are_sums_over_30_frames(rate, T):
    x = np.random.default_rng(T).normal(size=int((T + 2)*rate*0.01)).astype(np.float32)
    starts = [*(int(t*rate*0.01) for t in range(T)), len(x)]
    own = [np.square(x[a:b]).sum() for a, b in pairwise(starts)]
    sums = [sum(own[min(max(t + k, 0), T - 1)] for k in range(-15, 15)) for t in range(T)]
    np.testing.assert_allclose(module.energies(x, rate, T), sums, rtol=1e-4)


def test_the_three_formats(model, exp, capsys):
    for name, words in ('a.wav', WORDS[:3]), ('b c.wav', WORDS[3:]):
        soundfile.write(name, speech(words)[0], RATE)
    command = ['transcribe', str(exp), 'a.wav', 'b c.wav']
    assert main(command) == 0
    assert capsys.readouterr().out == 'a.wav AB DACA CD\nb_c.wav BAD AB AB\n'
    assert main([*command, '--format', 'ctm']) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [(r[0], r[1], r[4]) for r in rows] == [('a.wav', '1', w) for w in WORDS[:3]] + \
        [('b_c.wav', '1', w) for w in WORDS[3:]]
    near([(r[4], float(r[2]), float(r[2]) + float(r[3])) for r in rows[:3]], speech(WORDS[:3])[1])
    assert main([*command, '--format', 'json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert [t['file'] for t in told] == ['a.wav', 'b c.wav'] and told[0]['seconds'] == pytest.approx(1.44)
    near([(w['word'], w['start'], w['end']) for w in told[1]['words']], speech(WORDS[3:])[1])


def test_silence_has_no_words(model, exp, capsys):
    soundfile.write('hush.wav', np.tile(tone('SIL'), 20), RATE)
    assert main(['transcribe', str(exp), 'hush.wav', '--penalty', '5']) == 0
    assert capsys.readouterr().out == 'hush.wav\n'


def test_without_times_neither_tree_nor_lexicon_is_needed(model, exp, capsys):
    soundfile.write('a.wav', speech(WORDS)[0], RATE)
    model.tree = model.lexicon = None
    assert main(['transcribe', str(exp), 'a.wav']) == 0
    assert capsys.readouterr().out == f'a.wav {" ".join(WORDS)}\n'
    refuses(['transcribe', str(exp), 'a.wav', '--format', 'ctm'], 'has no phonetic tree', capsys)


def test_a_graph_with_more_words(model, exp, tmp_path, capsys):
    """Their pronunciations come from the lexicon that is named."""
    x, times = speech(WORDS)
    soundfile.write('a.wav', x, RATE)
    (tmp_path/'few.txt').write_text('AB A B\nCDD C D C D\n')
    model.lexicon = Lexicon(str(tmp_path/'few.txt'))
    refuses(['transcribe', str(exp), 'a.wav', '--format', 'ctm'],
            r'graph: 3 of its words, first BAD, are not in the lexicon of .*exp; name .* --lexicon', capsys)
    t = Transcriber(exp, Options(lexicon=str(exp/'lexicon.txt')))('a.wav')
    near([(w.word, w.start, w.end) for w in t.words], times)


@pytest.fixture
def recipe(exp, tmp_path):
    """recipe('nnet') -> a directory as hpcasr recipe leaves it: networks and the graph of their tree."""
    def make(*networks):
        for name in networks:
            (tmp_path/'rec'/name).mkdir(parents=True)
            (tmp_path/'rec'/name/'model.json').touch()
        (tmp_path/'rec/tri').mkdir()
        shutil.copytree(exp/'graph', tmp_path/'rec/tri/graph')
        return 'rec'
    return make


@pytest.mark.parametrize('networks, given, taken', [
    (['nnet'], 'rec', 'rec/nnet'), (['nnet-0', 'nnet-1'], 'rec', 'rec/nnet-0'), (['nnet'], 'rec/nnet/', 'rec/nnet/'),
    (['nnet-0', 'nnet-1'], 'rec/nnet-1', 'rec/nnet-1')])
def test_the_directory_of_a_recipe(model, recipe, monkeypatch, networks, given, taken, capsys):
    recipe(*networks)
    opened = []
    monkeypatch.setattr(module, 'open_model', lambda path, checkpoint: opened.append(path) or model)
    soundfile.write('a.wav', speech(WORDS)[0], RATE)
    assert main(['transcribe', given, 'a.wav']) == 0
    assert capsys.readouterr().out == f'a.wav {" ".join(WORDS)}\n' and opened == [taken]


def test_a_graph_of_its_own_comes_first(model, exp, recipe, capsys):
    recipe('nnet')
    os.mkdir('rec/nnet/graph')
    soundfile.write('a.wav', speech(['AB'])[0], RATE)
    refuses(['transcribe', 'rec', 'a.wav'], r'rec/nnet/graph/graph\.json: No such file', capsys)
    os.mkdir('rec/mono')  # mixtures with a tree of their own
    refuses(['transcribe', 'rec/mono', 'a.wav'], r'rec/mono/graph/graph\.json: No such file', capsys)
    assert main(['transcribe', 'rec', 'a.wav', '--graph', str(exp/'graph')]) == 0


def test_names_that_are_not_utf8(model, exp, capsys):
    soundfile.write('a.wav', speech(['AB'])[0], RATE)
    os.rename('a.wav', b'caf\xe9 1.wav')
    assert main(['transcribe', str(exp), os.fsdecode(b'caf\xe9 1.wav')]) == 0
    assert capsys.readouterr().out == 'caf\ufffd_1.wav AB\n'


@pytest.mark.parametrize('option', ['--acwt', '--penalty', '--beam'])
@pytest.mark.parametrize('number', ['nan', 'inf', '1e39'])
def test_numbers_that_are_none(option, number, capsys):
    refuses(['transcribe', 'x', 'a.wav', option, number], f"'{option}': .*is not a finite number", capsys)


def test_as_few_states_as_the_search_takes(model, exp, capsys):
    soundfile.write('a.wav', speech(['AB'])[0], RATE)
    refuses(['transcribe', str(exp), 'a.wav', '--max-active', '20'], 'x>=21', capsys)
    assert main(['transcribe', str(exp), 'a.wav', '--max-active', '21']) == 0


@pytest.fixture
def scored(exp):
    """scored(name, acwt, penalty) writes EXP/NAME/scoring/best.json."""
    made = []

    def write(name, **facts):
        folder = exp/name/'scoring'
        folder.mkdir(parents=True, exist_ok=True)
        made.append(folder/'best.json')
        made[-1].write_text(json.dumps(facts))
        os.utime(made[-1], (len(made), len(made)))
    yield write
    for path in made:
        path.unlink(missing_ok=True)


def test_scale_and_penalty_are_those_found_best(model, exp, scored):
    assert Transcriber(exp, Options()).acwt == 0.1
    scored('decode_test', acwt=0.3, penalty=0.5)
    scored('decode_dev', acwt=0.07, penalty=1.5)
    assert module.best_of(exp) == (0.07, 1.5)
    assert Transcriber(exp, Options()).acwt == 0.07
    assert Transcriber(exp, Options(acwt=0.2)).acwt == 0.2
    scored('decode_new', acwt='x')
    with pytest.raises(BadInput, match=r'decode_new/scoring/best\.json'):
        Transcriber(exp, Options(acwt=0.2))
    assert Transcriber(exp, Options(acwt=0.2, penalty=0)).acwt == 0.2


def test_normalization_is_that_of_the_file(model):
    """Speakers are not known: what was done over a speaker is done over the file; the rest as it was."""
    x = np.random.default_rng(1).normal(3, 2, (200, 20)).astype(np.float32)
    for recorded in 'speaker', 'utterance':
        model.frontend = {**MADE, 'cmvn': recorded, 'deltas': 2, 'cmvn_vars': True}
        features, frontend = front_end(model)
        y = frontend.apply(x, None)
        assert features == FEATURES and y.shape == (200, 60)
        np.testing.assert_allclose([y.mean(0), y.std(0)], [np.zeros(60), np.ones(60)], atol=1e-4)
    model.frontend = {**MADE, 'deltas': 1}
    assert front_end(model)[1].apply(x, None)[:, :20].tobytes() == x.tobytes()


MFCC = Features('mfcc', 23, 12, 8000)


@pytest.mark.parametrize('made, same', [
    (MADE, True), ({**MADE, **MFCC.describe()}, True), ({}, False), ({**MADE, 'dither': 1}, False),
    ({k: v for k, v in MADE.items() if k != 'kind'}, False), ({**MADE, 'frame_shift': 0.02}, False),
    ({**MADE, 'kind': 'plp'}, False), ({'static_dim': 13, 'deltas': 2, 'cmvn': 'speaker', 'cmvn_vars': True}, False)])
def test_only_features_of_known_origin(model, made, same):
    model.frontend = made
    if same:
        assert {**front_end(model)[0].describe(), **made} == made
    else:
        with pytest.raises(BadInput, match=r'audio cannot be transcribed with it; .*hpcasr forward or hpcasr decode'):
            front_end(model)


def refuses(command, says, capsys):
    """Status 2 and one line, nothing on stdout."""
    capsys.readouterr()
    assert main(command) == 2
    out, err = capsys.readouterr()
    assert out == '' and err.startswith('hpcasr: error: ') and err.count('\n') == 1
    assert re.search(says, err), err


def audio(name, x, rate=RATE):
    soundfile.write(name, x, rate)


@pytest.mark.parametrize('make, says', [
    (lambda name: audio(name, np.zeros((9000, 2))), r'bad\.wav: has 2 channels; make it mono'),
    (lambda name: audio(name, np.zeros(9000), 8000), r'bad\.wav: has 8000 Hz, but the model .* 16000 Hz'),
    (lambda name: audio(name, np.zeros(0)), r'bad\.wav: has no samples'),
    (lambda name: audio(name, np.zeros(399)), r'bad\.wav: its 0\.025 s are shorter than a window'),
    (lambda name: pathlib.Path(name).write_bytes(b'RIFF'), r'bad\.wav: not readable as wav, flac'),
    (lambda name: pathlib.Path(name).write_bytes(b''), r'bad\.wav: not readable as wav, flac'),
    (lambda name: soundfile.write(name, np.full(9000, np.nan), RATE, 'FLOAT'), r'bad\.wav: has samples that are not f'),
    (lambda name: audio(name, np.zeros(9000)) or os.truncate(name, 9000), r'bad\.wav: is truncated'),
    (os.mkdir, r'bad\.wav: is no file'), (os.mkfifo, r'bad\.wav: is no file'),
    (lambda name: None, r'bad\.wav: no such file')])
def test_bad_audio(model, exp, make, says, capsys):
    make('bad.wav')
    refuses(['transcribe', str(exp), 'bad.wav'], says, capsys)


def test_pipes_are_not_run(model, exp, capsys):
    soundfile.write('good.wav', speech(['AB'])[0], RATE)
    pathlib.Path('touch ran |').write_bytes(b'')
    refuses(['transcribe', str(exp), 'good.wav', 'touch ran |'], 'is a shell command, which is not run', capsys)
    assert not os.path.exists('ran')


def test_bad_models_and_graphs(model, exp, tmp_path, capsys):
    soundfile.write('a.wav', speech(['AB'])[0], RATE)
    refuses(['transcribe', str(exp), 'a.wav', '--graph', 'none'], r'none/graph\.json: No such file', capsys)
    model.tree = Tree.monophone([*model.tree.phones[:-1], 'X'])
    refuses(['transcribe', str(exp), 'a.wav'], 'made for another phonetic tree', capsys)
    model.tree = Tree.monophone(model.lexicon.phones)
    model.loglikes = lambda x: np.full((len(x), model.num_pdfs), np.nan, np.float32)
    refuses(['transcribe', str(exp), 'a.wav'], r'a\.wav: .* gives nan', capsys)


def test_help_starts_nothing_heavy():
    code = ('import sys; from hpcasr.cli import main; main(["transcribe", "--help"]); '
            'print({"numpy", "h5py", "mpi4py", "kaldiio", "soundfile"} & sys.modules.keys())')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.count('  hpcasr transcribe') == 2 and done.stdout.endswith('set()\n')
