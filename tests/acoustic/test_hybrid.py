import json
import shutil

import click
import numpy as np
import pytest

from hpcasr.acoustic import hybrid, open_model
from hpcasr.acoustic.hybrid import Hybrid
from hpcasr.backend import get_backend
from hpcasr.cli.window import parse_window
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from hpcasr.kernels.cpu import processor
from tests import small
from tests.conftest import launch


@pytest.fixture(scope='module')
def experiment(tmp_path_factory):
    """A folder with a store, and with exp/x trained on it for two epochs."""
    folder = tmp_path_factory.mktemp('hybrid')
    small.store(folder/'s.h5')
    launch(folder, 'train', 's.h5', '--model', 'tiny', '--epochs', 2, '--batch', 4, '--out', 'exp/x')
    return folder


def test_scaled_likelihoods(experiment):
    model, store = open_model(experiment/'exp/x'), Store(experiment/'s.h5')
    model.refuse_other(store)
    frames, _ = store.utterance(3)
    p = np.exp(model.log_posteriors(frames).astype(float))
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    prior = (store.counts() + 1)/(store.counts() + 1).sum()
    np.testing.assert_allclose(model.loglikes(frames), np.log(p/prior), atol=1e-4)
    assert model.tree is None and model.lexicon is None and model.num_pdfs == store.num_targets


def test_it_is_the_network_that_was_scored(experiment):
    """Frame errors of whole utterances agree roughly with the held-out score: the parameters are the trained ones."""
    model, store = Hybrid(experiment/'exp/x', window=0), Store(experiment/'s.h5')
    wrong = sum((model.log_posteriors(x).argmax(1) != y).sum() for x, y in map(store.utterance, range(30)))
    scored = json.loads((experiment/'exp/x/DONE').read_text())['fer']
    assert abs(wrong/store.num_frames - scored) < 0.25 and wrong/store.num_frames < 0.8


def test_windows_hardly_matter(experiment):
    store = Store(experiment/'s.h5')
    frames = store.frames[:400]
    a, b = (Hybrid(experiment/'exp/x', window=w, context=w//2).log_posteriors(frames) for w in (0, 64))
    assert np.abs(a - b).max() < 0.05


def test_long_audio_is_computed_in_batches(experiment, monkeypatch):
    model, frames = Hybrid(experiment/'exp/x', window=16, context=8), Store(experiment/'s.h5').frames[:405]
    expected = model.log_posteriors(frames)
    monkeypatch.setattr(hybrid, 'AT_ONCE', 79)
    inside, log_posteriors = [], model.network.log_posteriors
    monkeypatch.setattr(model.network, 'log_posteriors', lambda x, m: inside.append(x.shape[1]) or log_posteriors(x, m))
    np.testing.assert_allclose(model.log_posteriors(frames), expected, atol=1e-5)
    assert inside == [4]*6 + [2]


@pytest.mark.parametrize('window', [0, 16])
def test_no_frames(experiment, window):
    model = Hybrid(experiment/'exp/x', window=window)
    assert model.loglikes(np.zeros((0, 5), np.float32)).shape == (0, model.num_pdfs)


@pytest.mark.parametrize('spoil, line', [
    (lambda x: (x/'model.json').unlink(), 'no acoustic model'),
    (lambda x: (x/'model.json').write_text('{'), r'model\.json: not the description of a model'),
    (lambda x: (x/'model.json').write_text('{"format": "hpcasr-model", "version": 1}'), 'says nothing of columns, co'),
    (lambda x: next(x.glob('checkpoints/*/shared.h5')).write_bytes(b'x'), 'does not match its checksum'),
    (lambda x: (x/'config.toml').write_text((x/'config.toml').read_text().replace('tiny', 'small')), 'do not fit'),
])
def test_damaged_experiments(tmp_path, spoil, line):
    small.store(tmp_path/'s.h5')
    launch(tmp_path, 'train', 's.h5', '--model', 'tiny', '--epochs', 1, '--out', 'x')
    spoil(tmp_path/'x')
    with pytest.raises(BadInput, match=line):
        open_model(tmp_path/'x')


@pytest.mark.parametrize('text, found', [(None, (512, 21)), ('whole', (0, 0)), ('64,32', (64, 32)), ('1,0', (1, 0))])
def test_windows_of_the_command_line(experiment, text, found):
    """The default is that of a model trained on chunks of 21 frames."""
    model = open_model(experiment/'exp/x', 'best', parse_window(None, None, text))
    assert (model.window, model.context) == found


@pytest.mark.parametrize('text', ['', '64', '0,3', '-1,2', '3,x', '1,2,3', '99999999,1'])
def test_windows_that_are_none(text):
    with pytest.raises(click.BadParameter, match='give FRAMES,CONTEXT'):
        parse_window(None, None, text)


def test_the_average_of_checkpoints(experiment):
    path = experiment/'exp/x'
    each = [Hybrid(path, c).network.params.data.astype(float) for c in sorted((path/'checkpoints').iterdir())]
    assert len(each) == 2
    np.testing.assert_allclose(Hybrid(path, 'average').network.params.data, np.mean(each, 0), rtol=1e-6, atol=1e-8)
    assert (Hybrid(path, 'last').network.params.data == each[-1]).all()


def test_other_features_are_refused(experiment, tmp_path):
    other = Store(small.store(tmp_path/'o.h5', dim=6))
    with pytest.raises(BadInput, match=r'o\.h5: 6 columns, but .* trained on 5'):
        open_model(experiment/'exp/x').refuse_other(other)
    other = Store(experiment/'s.h5')
    other.splice = 1, 1
    with pytest.raises(BadInput, match=r's\.h5: spliced \(1, 1\), but .* \(0, 0\)'):
        open_model(experiment/'exp/x').refuse_other(other)


@pytest.mark.parametrize('trained', ['reference', 'cpu'])
def test_the_kernels_are_those_of_this_machine(experiment, tmp_path, trained, monkeypatch):
    """Not those of the training: they may be slow ones, or of another processor."""
    folder = shutil.copytree(experiment/'exp/x', tmp_path/'x')
    text = (folder/'config.toml').read_text()
    assert "backend = 'auto'" in text.replace('"', "'")
    (folder/'config.toml').write_text(text.replace('"auto"', f'"{trained}"').replace("'auto'", f"'{trained}'"))
    frames = Store(experiment/'s.h5').frames[:50]
    model = Hybrid(folder)
    assert model.network.ops.name == get_backend('auto').name
    monkeypatch.setattr(processor, 'SUPPORTED', False)
    plain = Hybrid(folder)
    assert plain.network.ops.name == 'reference'
    np.testing.assert_allclose(model.log_posteriors(frames), plain.log_posteriors(frames), atol=1e-4)
