"""Log-likelihoods for Kaldi: what is computed, and that the archive does not depend on the number of ranks."""

import errno
import os
import pathlib
import subprocess
import time

import kaldiio
import numpy as np
import pytest

from hpcasr import forward as module
from hpcasr.comm.base import Comm
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest, ingest
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from hpcasr.forward import FromStore, Part, Request, forward
from tests.conftest import command, environment
from tests.small import store as small_store

LENGTHS = {'a-1': 40, 'a-2': 1, 'b-1': 17, 'b-2': 9, 'b-3': 30, 'c-1': 5}


class Model:
    """An acoustic model that needs no training: linear in the features."""

    path, checkpoint = pathlib.Path('exp/x'), None
    tree = lexicon = None
    splice = 1, 1
    num_pdfs = 3

    def __init__(self, frontend, columns):
        self.frontend, self.columns = frontend, columns
        self.W = np.random.default_rng(5).normal(size=(columns, 3)).astype(np.float32)

    def loglikes(self, x):
        return np.asarray(x, np.float32) @ self.W

    def log_posteriors(self, x):
        return -self.loglikes(x)

    def refuse_other(self, store):
        if (store.frontend, store.frames.shape[1], tuple(store.splice)) != (self.frontend, self.columns, self.splice):
            raise BadInput(f'{store.path}: other features')


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data():
    """The data directory `d`, and the function that makes of it a store and the model that was trained on it."""
    os.mkdir('d')
    rng = np.random.default_rng(1)
    x = {u: rng.normal(5, 3, (T, 4)).astype(np.float32) for u, T in LENGTHS.items()}
    kaldiio.save_ark('d/feats.ark', x, 'd/feats.scp')
    pathlib.Path('d/utt2spk').write_text(''.join(f'{u} {u[0]}\n' for u in x))
    return x


@pytest.fixture
def model(data, monkeypatch):
    """model(deltas, cmvn, variance) -> the store s.h5 of `d` with this front end, and what opens the model of it."""
    def make(*frontend):
        ingest(Ingest('d', Frontend(*frontend)), 's.h5', (1, 1), force=True)
        s = Store('s.h5')
        found = Model(s.frontend, s.frames.shape[1])
        monkeypatch.setattr(module, 'open_model', lambda path, *_: found)
        return s, found
    return make


def test_a_matrix_per_utterance_in_order(model):
    s, m = model(2, 'speaker', True)
    assert forward(Comm(), Request('exp/x', 's.h5', 'y.ark', scp=True)) == (6, 102, 3)
    assert not [name for name in os.listdir() if 'tmp' in name]
    found = dict(kaldiio.load_ark('y.ark'))
    assert list(found) == list(LENGTHS)
    for u, name in enumerate(s.names):
        np.testing.assert_array_equal(found[name], m.loglikes(s.utterance(u)[0]))
        assert found[name].dtype == np.float32
    index = kaldiio.load_scp('y.scp')
    assert list(index) == list(LENGTHS) and all((index[k] == found[k]).all() for k in found)


def test_posteriors_and_compression(model):
    s, m = model(2, 'speaker', True)
    forward(Comm(), Request('exp/x', 's.h5', 'p.ark', 'log-posteriors', compress=True))
    assert not os.path.exists('p.scp')
    for u, (name, y) in enumerate(kaldiio.load_ark('p.ark')):
        assert name == s.names[u]
        np.testing.assert_allclose(y, m.log_posteriors(s.utterance(u)[0]), atol=0.3)


@pytest.mark.parametrize('frontend', [(2, 'speaker', True), (0, 'none', False), (1, 'utterance', True),
                                      (2, 'speaker', False)])
def test_a_directory_gives_what_its_store_gives(model, frontend):
    """The deltas and the normalization of the training data are applied: the same bytes."""
    model(*frontend)
    forward(Comm(), Request('exp/x', 's.h5', 'a.ark'))
    forward(Comm(), Request('exp/x', 'd', 'b.ark'))
    assert pathlib.Path('a.ark').read_bytes() == pathlib.Path('b.ark').read_bytes()


def test_every_part_of_a_directory_knows_its_speakers(model):
    """A share that begins in the midst of a speaker normalizes with all utterances of it."""
    s, m = model(2, 'speaker', True)
    source = module.open_source('d', m)
    assert [name for name, _ in source.frames(3, 6)] == list(LENGTHS)[3:]
    for k, (_, x) in enumerate(module.open_source('d', m).frames(3, 6), 3):
        np.testing.assert_array_equal(x, s.utterance(k)[0])


@pytest.mark.parametrize('parts', [1, 2, 3, 5, 6, 9, 40])
def test_shares_are_all_utterances_once(model, parts):
    _, m = model(2, 'speaker', True)
    for source in FromStore('s.h5', m), module.open_source('d', m):
        bounds = source.bounds(parts)
        assert bounds[0] == 0 and bounds[-1] == 6 and len(bounds) == parts + 1 and sorted(bounds) == bounds


def write_nan(m):
    m.loglikes = lambda x: np.full((len(x), 3), np.nan, np.float32)


def forget(m):
    m.frontend = {}


@pytest.mark.parametrize('path, harm, says', [
    ('s.h5', write_nan, r'exp/x: gives nan in frame 0, column 0 of utterance a-1'),
    ('d', forget, r'exp/x: does not say how its features were made'),
    ('s.h5', lambda m: setattr(m, 'columns', 5), r's\.h5: other features'),
    ('d', lambda m: setattr(m, 'columns', 5), r'd: other features'),
    ('none.h5', lambda m: None, r'none\.h5: no such store'),
    ('d', lambda m: os.unlink('d/feats.scp'), r'd: has no feats\.scp'),
    ('d', lambda m: os.truncate('d/feats.ark', 700), r'd/feats\.scp: utterance b-1: .*truncated'),
])
def test_bad_input_leaves_nothing(model, path, harm, says):
    _, m = model(2, 'speaker', True)
    harm(m)
    before = sorted(os.listdir())
    with pytest.raises(BadInput, match=says):
        forward(Comm(), Request('exp/x', path, 'y.ark'))
    assert sorted(os.listdir()) == before


def test_gaussians_have_no_posteriors(model, monkeypatch):
    model(2, 'speaker', True)
    monkeypatch.delattr(Model, 'log_posteriors')
    with pytest.raises(BadInput, match='no log-posteriors; ask for loglikes'):
        forward(Comm(), Request('exp/x', 's.h5', 'y.ark', 'log-posteriors'))


def test_nothing_is_overwritten(model):
    model(2, 'speaker', True)
    pathlib.Path('y.ark').write_text('mine')
    with pytest.raises(BadInput, match=r'y\.ark: exists; use --force'):
        forward(Comm(), Request('exp/x', 's.h5', 'y.ark'))
    pathlib.Path('z.scp').write_text('mine')
    with pytest.raises(BadInput, match=r'z\.scp: exists; use --force'):
        forward(Comm(), Request('exp/x', 's.h5', 'z.ark', scp=True))
    for out in '-', 'y.scp':
        with pytest.raises(BadInput, match='give an archive'):
            forward(Comm(), Request('exp/x', 's.h5', out))
    os.mkfifo('pipe')
    with pytest.raises(BadInput, match='pipe: is no file, and is not replaced'):
        forward(Comm(), Request('exp/x', 's.h5', 'pipe', force=True))
    with pytest.raises(BadInput, match='its folder does not exist'):
        forward(Comm(), Request('exp/x', 's.h5', 'no/y.ark'))
    assert pathlib.Path('y.ark').read_text() == pathlib.Path('z.scp').read_text() == 'mine'
    forward(Comm(), Request('exp/x', 's.h5', 'y.ark', scp=True, force=True))
    assert len(dict(kaldiio.load_ark('y.ark'))) == 6


@pytest.mark.launch
@pytest.mark.timeout(180)
def test_any_number_of_ranks_writes_the_same_bytes(hpcasr, tmp_path):
    small_store(tmp_path/'small.h5', utterances=7)
    hpcasr('train', 'small.h5', '--model', 'tiny', '--set', 'model.cells=8', '--epochs', '1', '--out', 'exp/x',
           '--set', 'report.tensorboard=false')
    done = hpcasr('forward', 'exp/x', 'small.h5', '--out', '0.ark')
    frames = Store(tmp_path/'small.h5').num_frames
    assert done.stdout == f'0.ark: 7 utterances, {frames} frames of 7 loglikes\n'
    for ranks in 1, 3, 9:  # the last: more than there are utterances
        hpcasr('forward', 'exp/x', 'small.h5', '--out', f'{ranks}.ark', '--scp', ranks=ranks)
        assert (tmp_path/f'{ranks}.ark').read_bytes() == (tmp_path/'0.ark').read_bytes()
        index = kaldiio.load_scp(str(tmp_path/f'{ranks}.scp'))
        assert [index[k].tobytes() for k in index] == [y.tobytes() for _, y in kaldiio.load_ark(str(tmp_path/'0.ark'))]
    assert not list(tmp_path.glob('*tmp*'))
    done = hpcasr('forward', 'exp/x', 'small.h5', '--out', '3.ark', ranks=3, status=2)
    assert done.stderr == 'hpcasr: error: 3.ark: exists; use --force to replace it\n'
    small_store(tmp_path/'wide.h5', utterances=7, dim=9)
    done = hpcasr('forward', 'exp/x', 'wide.h5', '--out', 'w.ark', ranks=2, status=2)
    assert done.stderr.count('\n') == 1 and 'wide.h5: 9 columns' in done.stderr


@pytest.mark.parametrize('verb', ['os.fsync', 'hpcasr.data.kaldi.save_ark', 'os.replace'])
def test_a_full_disk(model, monkeypatch, verb):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    model(2, 'speaker', True)
    before = sorted(os.listdir())
    monkeypatch.setattr(verb, full)
    with pytest.raises(BadInput, match=r'y\.ark: No space left on device; nothing was written'):
        forward(Comm(), Request('exp/x', 's.h5', 'y.ark'))
    assert sorted(os.listdir()) == before


def test_a_folder_that_ranks_do_not_share(model, monkeypatch):
    model(2, 'speaker', True)
    monkeypatch.setattr(Comm, 'allgather', lambda self, value: [value, Part('elsewhere', 1)]
                        if isinstance(value, Part) else [value])
    with pytest.raises(BadInput, match=r'elsewhere-0001\.ark: is not seen by rank 0'):
        forward(Comm(), Request('exp/x', 's.h5', 'y.ark'))
    assert not [name for name in os.listdir() if name.startswith('y')]


@pytest.mark.launch
@pytest.mark.timeout(120)
def test_sigterm_leaves_nothing(model, tmp_path):
    small_store(tmp_path/'small.h5', utterances=3)
    before = sorted(os.listdir())
    slow = tmp_path.parent/f'{tmp_path.name}.py'
    slow.write_text(SLOW)
    job = subprocess.Popen(command(2, [slow]), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 60
    while len(list(tmp_path.glob('*.tmp-*.ark'))) < 2:
        assert time.monotonic() < end
        time.sleep(0.05)
    job.terminate()
    said = job.communicate(timeout=30)[1]
    assert job.returncode and 'Traceback' not in said
    assert sorted(os.listdir()) == before


SLOW = '''
import sys, time, types
import hpcasr.acoustic, hpcasr.cli
def slow(x):
    time.sleep(60)
hpcasr.acoustic.open_model = lambda *_: types.SimpleNamespace(path='x', loglikes=slow, num_pdfs=3,
                                                              refuse_other=lambda store: None)
sys.exit(hpcasr.cli.main(['forward', 'x', 'small.h5', '--out', 'y.ark']))
'''
