"""From speech to a word error rate, in small: the commands of `make demo`; AN4 where it is."""

import json
import os
import pathlib
import signal
import subprocess
import time

import numpy as np
import pytest

from hpcasr.decode.texts import read_texts
from tests.conftest import command, environment

pytestmark = [pytest.mark.launch, pytest.mark.timeout(300)]
DATA = pathlib.Path(os.environ.get('HPCASR_DATA', pathlib.Path(__file__).parents[3]/'shared'/'data'))/'an4-mfcc'
QUICK = ('--model', 'tiny', '--epochs', 2, '--ranks', 2, '--more', 'flat-start=--passes 8', '--more', 'tree=--passes 4',
         '--more', 'decode=--acwt 0.1 --penalty 0', '--systems')


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """A folder with synthetic speech, and a recipe that was interrupted in training and then went on."""
    pytest.importorskip('espeakng_loader', reason='no espeak-ng: pip install "hpcasr[demo]"')
    folder = tmp_path_factory.mktemp('demo')
    run(folder, 'data', 'synth', 'speech', '--hours', 0.1, '--speakers', 8)
    interrupt(folder, QUICK, after='exp/nnet/checkpoints')
    run(folder, 'recipe', 'speech', '--out', 'exp', *QUICK)
    return folder


def run(folder, *args, status=0):
    done = subprocess.run(command(0, None, *args), cwd=folder, env=environment(), capture_output=True, text=True,
                          timeout=250)
    assert done.returncode == status, done.stderr
    return done


def interrupt(folder, options, after):
    """Start the recipe, end it by SIGTERM when the path `after` exists; everything it started must end with it."""
    process = subprocess.Popen(command(0, None, 'recipe', 'speech', '--out', 'exp', *options), cwd=folder,
                               env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((folder/after).glob('*')):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode not in (0, None), errors
    assert 'Traceback' not in errors


def times(path):
    """{utterance: [(start, end, word)]} of a ctm file."""
    found = {}
    for line in path.read_text().splitlines():
        name, _, start, seconds, word = line.split()[:5]
        found.setdefault(name, []).append((float(start), float(start) + float(seconds), word))
    return found


def test_it_recognizes_and_goes_on_where_it_stopped(demo):
    text = (demo/'exp/RESULTS').read_text()
    assert 'tiny, tree' in text and 'test' in text
    best = {name: json.loads((demo/f'exp/{name}/decode_test/scoring/best.json').read_text())
            for name in ('mono', 'tri', 'nnet')}
    words = sum(map(len, read_texts(demo/'speech/test/text').values()))
    assert all(found['words'] == words for found in best.values())
    assert best['mono']['wer'] < 60  # the network has seen too little for an assertion
    assert (demo/'exp/nnet/DONE').exists()


def test_what_is_done_is_not_done_again(demo):
    before = {p: p.stat().st_mtime_ns for p in (demo/'exp').rglob('*')
              if p.is_file() and p.name not in ('RESULTS', '.lock')}
    done = run(demo, 'recipe', 'speech', '--out', 'exp', *QUICK)
    assert 'hpcasr ' not in done.stderr and 'tiny, tree' in done.stdout
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_forced_alignment_finds_the_true_times(demo):
    """Against the times at which espeak spoke: half of the words' boundaries are right within two frames or so."""
    run(demo, 'align', 'export', 'exp/train.h5', '--out', 'ali')
    found, true = times(demo/'ali/ctm'), times(demo/'speech/train/ctm')
    assert found.keys() == true.keys()
    assert all([w for *_, w in found[u]] == [w for *_, w in true[u]] for u in true)
    errors = [abs(a - b) for u in true for x, y in zip(found[u], true[u], strict=True) for a, b in zip(x[:2], y[:2],
                                                                                                      strict=True)]
    assert np.median(errors) < 0.025


def test_transcribing_a_file_is_recognizing_it(demo):
    """Words of a test file are in the vocabulary, in order, inside the file."""
    wav = sorted((demo/'speech/audio').rglob('*.wav'))[-1]
    done = run(demo, 'transcribe', 'exp', wav, '--format', 'json')
    spoken = json.loads(done.stdout)[0]
    edges = [t for word in spoken['words'] for t in (word['start'], word['end'])]
    assert edges == sorted(edges) and (not edges or edges[-1] <= spoken['seconds'] + 0.01)


@pytest.mark.skipif(not DATA.is_dir(), reason='no AN4 here: set HPCASR_DATA to a folder with an4-mfcc')
def test_an4_by_monophones(tmp_path):
    """Real speech, no network: the flat start, the graph, the search and the scoring must all be right for this."""
    for name in 'train', 'dev':
        run(tmp_path, 'data', 'import', DATA/name, '--out', f'{name}.h5')
    run(tmp_path, 'align', 'flat-start', 'train.h5', '--lexicon', DATA/'local/dict/lexicon.txt', '--out', 'mono')
    run(tmp_path, 'decode', 'graph', 'mono', '--out', 'graph', '--kaldi-text', '--text', DATA/'train/text')
    run(tmp_path, 'decode', 'run', 'mono', 'graph', 'dev.h5', '--out', 'dev', '--acwt', 0.1, '--penalty', 0)
    found = json.loads(run(tmp_path, 'decode', 'score', 'dev', '--json').stdout)[0]
    assert found['words'] == 605 and found['wer'] < 12  # 7.3 when this was written
