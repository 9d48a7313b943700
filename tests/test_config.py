"""Configuration: precedence, types, nearest names."""

import pytest

from hpcasr import config
from hpcasr.errors import BadInput
from hpcasr.experiment import toml


def test_defaults_then_file_then_set_then_options(tmp_path):
    file = tmp_path/'run.toml'
    file.write_text('[optim]\nlr = 0.5\nmomentum = 0.1\n[data]\nbatch = 7\n')
    c = config.resolve(str(file), ['optim.lr=0.25', 'data.batch=8'], {'data.batch': '9'})
    assert (c.optim.momentum, c.optim.lr, c.data.batch, c.data.chunk) == (0.1, 0.25, 9, 21)


def test_the_written_configuration_repeats_the_run(tmp_path):
    c = config.resolve(None, ['optim.lr=1e-3', 'report.tensorboard=false', 'checkpoint.every=3K', 'model.preset=mid'])
    (tmp_path/'config.toml').write_text(toml(c))
    assert config.resolve(str(tmp_path/'config.toml')) == c
    assert c.checkpoint.every == 3000


def test_explain_is_toml_that_reads_back(tmp_path):
    (tmp_path/'c.toml').write_text(config.explain(config.Config()))
    assert config.resolve(str(tmp_path/'c.toml')) == config.Config()


@pytest.mark.parametrize('values, message', [
    ({'optim.lrr': 1}, 'unknown key optim.lrr; did you mean optim.lr?'),
    ({'momentum': 1}, 'unknown key momentum'),
    ({'optim.lr': 'fast'}, "'fast' is not a finite float"),
    ({'data.batch': 1.5}, 'is not of type int'),
    ({'data.batch': True}, 'is not of type int'),
    ({'data.batch': ''}, 'is not of type int'),
    ({'report.tensorboard': 'maybe'}, 'is not of type bool'),
    ({'train.dtype': 'float16'}, 'choose one of float32, float64'),
    ({'optim.lr': -1}, 'smallest that makes sense'),
    ({'optim.lr': 'nan'}, "'nan' is not a finite float"),
    ({'optim.lr': '1e400'}, 'not a finite float'),
    ({'train.epochs': 'infK'}, 'is not of type int'),
    ({'train.epochs': float('inf')}, 'is not of type int'),
    ({'optim.beta1': 1}, 'must be less than 1'),
])
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(BadInput, match=message.replace('?', r'\?')):
        config.Config().with_values(values, 'test')


@pytest.mark.parametrize('text', [b'[optim\nlr=1', b'optim = 3', b'[optim.lr]\na = 1', b'[train]\nalgo = "\xe9"'])
def test_files_that_are_no_configuration(tmp_path, text):
    (tmp_path/'c.toml').write_bytes(text)
    with pytest.raises(BadInput, match=r'c\.toml'):
        config.resolve(str(tmp_path/'c.toml'))
