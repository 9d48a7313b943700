"""What the structure promises: one door per library, one name per kernel, a command line that answers at once."""

import ast
import pathlib
import subprocess
import sys

import pytest

import hpcasr
from hpcasr.cli.wire import COMMANDS as WIRE

ROOT = pathlib.Path(hpcasr.__file__).parent
DOORS = {'mpi4py': ('comm/', 'bench/', 'doctor/'),
         'cupy': ('backend/cuda', 'kernels/cuda/', 'bench/', 'doctor/'),
         'numba': ('kernels/', 'align/'), 'h5py': ('data/store', 'checkpoint.py'), 'click': ('cli/',),
         'torch': ('bench/torch_',), 'pickle': ()}


def sources():
    return [*ROOT.rglob('*.py'), *(ROOT/'kernels').rglob('*.py'), *(ROOT/'jobs').rglob('*.py')]


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name.split('.')[0] for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or '').split('.')[0]


@pytest.mark.parametrize('library', DOORS)
def test_one_door_each(library):
    inside = [str(p.relative_to(ROOT)) for p in sources() if library in imports(p)]
    assert [p for p in inside if not p.startswith(DOORS[library] or ('none',))] == []


def test_kernels_have_one_name():
    code = 'import hpcasr.kernels.reference\ntry:\n    import kernels\nexcept ImportError as e:\n    print(e)'
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT.parent, capture_output=True, text=True)
    assert 'import hpcasr.kernels, not kernels' in done.stdout, done.stderr


def test_kernels_know_no_layer_and_no_mpi():
    for path in (ROOT/'kernels').rglob('*.py'):
        assert 'mpi4py' not in imports(path)
        assert 'hpcasr.model' not in path.read_text().replace('hpcasr/model', '')


COMMANDS = [[], ['algorithms'],
            ['train'], ['report'], ['recipe'], ['bench'], ['bench', 'step'], ['bench', 'data'],
            ['bench', 'algorithms'], ['bench', 'stragglers'], ['bench', 'exchange'], ['bench', 'compress'],
            ['bench', 'links'], ['bench', 'onesided'], ['bench', 'convergence'], ['bench', 'cpu'], ['bench', 'gpu'],
            ['data'],
            ['data', 'import'], ['data', 'features'], ['data', 'synth'], ['data', 'pack'], ['data', 'perturb'],
            ['data', 'info'], ['data', 'check'], ['align'], ['align', 'equal'], ['align', 'flat-start'],
            ['align', 'tree'], ['align', 'force'], ['align', 'export'],
            ['decode'], ['decode', 'graph'], ['decode', 'run'], ['decode', 'score'], ['forward'], ['transcribe'],
            ['doctor'], ['jobs'], ['jobs', 'list'], ['jobs', 'render'], ['jobs', 'submit'], ['jobs', 'status'],
            ['jobs', 'requeue'], *(['bench', name] for name in WIRE)]


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_help_loads_neither_numpy_nor_mpi_and_shows_examples(command):
    code = ('import sys; from hpcasr.cli import main; status = main(sys.argv[1:]); '
            'print([m for m in ("numpy", "mpi4py", "h5py", "kaldiio") if m in sys.modules]); sys.exit(status)')
    done = subprocess.run([sys.executable, '-c', code, *command, '--help'], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('[]\n')
    if command not in (['data'], ['align'], ['bench'], ['decode'], ['jobs']):
        assert done.stdout.split('Examples:')[1].count('hpcasr') >= 2


def test_every_command_is_listed_here():
    from click import Group

    from hpcasr.cli import cli

    def walk(command, path):
        yield path
        if isinstance(command, Group):
            for name, child in command.commands.items():
                yield from walk(child, [*path, name])
    assert sorted(walk(cli, [])) == sorted(COMMANDS)


def test_every_key_of_the_configuration_is_explained():
    from hpcasr import config
    text = config.explain(config.Config())
    assert all(f'{f.name} = ' in text and f.metadata['why'] in text for _, f in config.KEYS.values())


def test_the_readme_names_every_algorithm():
    from hpcasr.algorithms import ALGORITHMS
    readme = ROOT.parent/'README.md'
    if not readme.exists():
        pytest.skip('installed without the README')
    assert all(f'| `{name}` |' in readme.read_text() for name in ALGORITHMS)


@pytest.mark.parametrize('redirect, status', [('| true', None), ('> /dev/full', 2), ('>&-', None)])
def test_output_that_nobody_takes_is_no_traceback(redirect, status):
    line = f'set -o pipefail; {sys.executable} -m hpcasr train --show-config {redirect}'
    done = subprocess.run(['bash', '-c', line], capture_output=True, text=True)
    assert 'Traceback' not in done.stderr and 'Exception' not in done.stderr
    assert status in (done.returncode, None)
