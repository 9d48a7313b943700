"""A cluster, as a TOML file describes it: how programs are found there, and how srun starts ranks.

SITE.toml
    modules = ['mpich/4.2']                     loaded in this order, after `module purge`
    venv = '/home/me/venv'                      activated
    setup = ['ulimit -l unlimited']             lines of shell, taken as they are
    [slurm]
    account partition qos constraint reservation    directives of sbatch
    mpi = 'pmi2'                                of srun; `srun --mpi=list` shows what there is
    sbatch = ['--exclusive']                    further directives
    srun = ['--cpu-bind=cores']                 further options of srun
    [environment]
    NAME = 'value'                              exported, literally: $ has no meaning
    [container]
    image = '/images/hpcasr.sif'
    command = 'apptainer'                       or singularity
    bind = ['/data']
    options = ['--cleanenv']
"""

import difflib
import pathlib
import re
import tomllib
from dataclasses import dataclass, field, fields

from hpcasr.errors import BadInput
from hpcasr.jobs.words import plain

EXAMPLES = pathlib.Path(__file__).parent/'sites'


@dataclass(frozen=True)
class Slurm:
    account: str = ''
    partition: str = ''
    qos: str = ''
    constraint: str = ''
    reservation: str = ''
    mpi: str = ''
    sbatch: tuple = ()
    srun: tuple = ()


@dataclass(frozen=True)
class Container:
    image: str = ''
    command: str = 'apptainer'
    bind: tuple = ()
    options: tuple = ()


@dataclass(frozen=True)
class Site:
    """`source` is the file it was read from, for messages; '': no file, what SLURM does by itself."""

    source: str = ''
    modules: tuple = ()
    venv: str = ''
    setup: tuple = ()
    slurm: Slurm = Slurm()
    environment: dict = field(default_factory=dict)
    container: Container = Container()

    def __post_init__(self):
        where = self.source or 'command line'
        for name in 'account', 'partition', 'qos', 'constraint', 'reservation', 'mpi':
            if value := getattr(self.slurm, name):
                plain(f'{where}: slurm.{name}', value)
        for option in self.slurm.sbatch:
            plain(f'{where}: slurm.sbatch', option)
        for name in self.environment:
            if not re.fullmatch(r'[A-Za-z_][A-Za-z0-9_]*', name):
                raise BadInput(f'{where}: environment.{name}: is no name of a variable')


def examples():
    """The names of the sites that come along."""
    return sorted(path.stem for path in EXAMPLES.glob('*.toml'))


def find(name):
    """The Site called `name`: a file, or one of the examples; '' is a cluster that needs nothing.  Raises BadInput."""
    if not name:
        return Site()
    if name in examples():
        return read(EXAMPLES/f'{name}.toml')
    if '/' not in name and not name.endswith('.toml'):
        near = difflib.get_close_matches(name, examples(), 1, 0)[0]
        raise BadInput(f'--site {name}: is no example (did you mean {near}?); give one of '
                       f'{", ".join(examples())}, or a file: --site ./mine.toml')
    return read(name)


def read(path):
    """The Site in a TOML file.  Raises BadInput."""
    try:
        with open(path, 'rb') as file:
            content = tomllib.load(file)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    except ValueError as e:  # not TOML, or not even text
        raise BadInput(f'{path}: not TOML: {e}') from None
    parts = {name: part(path, kind, content.pop(name, {}), f'{name}.')
             for name, kind in (('slurm', Slurm), ('container', Container))}
    environment = content.pop('environment', {})
    if not isinstance(environment, dict):
        raise BadInput(f'{path}: environment must be a table of NAME = "value"')
    parts['environment'] = {k: text(path, f'environment.{k}', v) for k, v in environment.items()}
    return part(path, Site, content, source=str(path), **parts)


def part(path, kind, content, prefix='', **given):
    """A dataclass `kind` of the entries of a table, each of the type of its default."""
    if not isinstance(content, dict):
        raise BadInput(f'{path}: {prefix.rstrip(".")} must be a table')
    known = {f.name: f.default for f in fields(kind) if f.name not in ('source', *given)}
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0)[0]
            raise BadInput(f'{path}: {prefix}{name}: there is no such key; did you mean {prefix}{near}?')
    return kind(**given, **{name: value(path, prefix + name, known[name], v) for name, v in content.items()})


def value(path, name, default, found):
    """`found`, a text, or the tuple of a list of texts."""
    if isinstance(default, str):
        return text(path, name, found)
    if not isinstance(found, list):
        raise BadInput(f'{path}: {name} must be a list of texts')
    return tuple(text(path, name, v) for v in found)


def text(path, name, found):
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        raise BadInput(f'{path}: {name} must be a text, not {type(found).__name__}')
    if any(c in str(found) for c in '\n\r\0'):
        raise BadInput(f'{path}: {name} must be one line')
    return str(found)


def about(name):
    """The first line of an example, a comment."""
    return (EXAMPLES/f'{name}.toml').read_text().splitlines()[0].lstrip('# ')
