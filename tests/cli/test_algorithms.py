"""`hpcasr algorithms` as a user meets it."""

import json
import os
import subprocess
import sys

import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.algorithms.about import readme_table
from hpcasr.cli import main
from hpcasr.compress.takes import METHODS, markdown


def told(capsys, *arguments):
    assert main(['algorithms', *arguments]) == 0
    return capsys.readouterr().out


def test_the_table_names_every_algorithm_in_100_columns(capsys, monkeypatch):
    monkeypatch.delenv('COLUMNS', raising=False)
    lines = told(capsys, '--ranks', '8', '--model', 'mid').splitlines()
    assert all(any(line.startswith(f'{name} ') for line in lines) for name in ALGORITHMS)
    assert max(map(len, lines)) <= 100
    assert lines[-1].startswith('V = ') and lines[-1].endswith('L = 8')


def test_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '20')
    assert max(map(len, told(capsys).splitlines())) <= 80


@pytest.mark.parametrize('name', ALGORITHMS)
def test_everything_about_one(capsys, name):
    text, about = ' '.join(told(capsys, name).split()), ALGORITHMS[name].about
    for part in (name, about.rule, about.cites, about.exchanges, about.bytes_text, about.messages_text, about.use,
                 about.avoid, *about.options):
        assert part in text


def test_json(capsys):
    found = json.loads(told(capsys, '--json'))
    assert [a['name'] for a in found['algorithms']] == list(ALGORITHMS) and 'ranks' not in found
    found = json.loads(told(capsys, 'sync-allreduce', '--ranks', '4', '--model', 'tiny', '--dim', '9', '--targets', '5',
                            '--set', 'train.dtype=float64', '--json'))
    algorithm, = found['algorithms']
    assert (found['ranks'], found['model'], found['dim'], found['targets']) == (4, 'tiny', 9, 5)
    assert algorithm['bytes'] == 2*found['model_bytes']*3/4 and algorithm['messages'] == 6


def test_the_papers_model_has_the_papers_features(capsys):
    found = json.loads(told(capsys, '--ranks', '2', '--model', 'swb2000', '--json'))
    assert (found['dim'], found['targets'], found['model_bytes']) == (260, 32000, 4*43130368)


def test_what_can_be_compressed(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    lines = told(capsys, '--compress').splitlines()
    assert lines[0].split() == list(METHODS) and max(map(len, lines)) <= 80
    cells = {line.split()[0]: line.split()[1:] for line in lines[1:] if not line.startswith(' ')}
    assert cells == {name: ['yes' if m in cls.compression.methods else 'no' for m in METHODS]
                     for name, cls in ALGORITHMS.items()}
    text = ' '.join(' '.join(lines).split())
    assert all(cls.compression.why in text and cls.compression.what in text for cls in ALGORITHMS.values())
    assert told(capsys, 'bmuf', '--compress').splitlines()[1].startswith('bmuf')
    assert told(capsys, '--compress', '--markdown') == markdown(ALGORITHMS.values()) + '\n'


def test_markdown(capsys):
    assert told(capsys, '--markdown') == readme_table(ALGORITHMS.values()) + '\n'


@pytest.mark.parametrize('arguments, line', [
    (['sync-alreduce'], 'did you mean sync-allreduce?'),
    (['--model', 'mid'], 'numbers need the ranks as well: --ranks L'),
    (['--set', 'train.bucket=7'], 'numbers need the ranks as well: --ranks L'),
    (['--ranks', '2', '--model', 'huge'], "no preset 'huge'"),
    (['--ranks', '2', '--set', 'exchange.periods=3'], 'did you mean exchange.period?'),
    (['--ranks', '2', '--set', 'model.cells=-4'], 'model.cells = -4'),
    (['--ranks', '0'], '--ranks'),
    (['--ranks', '2', '--dim', '0'], '--dim'),
    (['--markdown', '--json'], '--markdown prints the table of the README and takes nothing else'),
    (['--compress', '--json'], '--compress prints a table and takes a NAME or --markdown'),
    (['sync-allreduce', '--markdown'], 'takes nothing else'),
])
def test_bad_input_is_one_line(capsys, arguments, line):
    assert main(['algorithms', *arguments]) == 2
    error = capsys.readouterr().err
    assert line in error and error.count('\n') == 1


def test_a_terminal_without_these_letters():
    done = subprocess.run([sys.executable, '-m', 'hpcasr', 'algorithms', 'sync-allreduce'], capture_output=True,
                          env=os.environ | {'PYTHONIOENCODING': 'ascii'}, text=True)
    assert done.returncode == 0 and done.stderr == '' and 'w ? w ? a' in done.stdout
