"""Job scripts: what they were (golden files), what a shell says of them, and that no value becomes code."""

import pathlib
import shlex
import shutil
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.errors import BadInput
from hpcasr.jobs import site as sites
from hpcasr.jobs.job import Job
from hpcasr.jobs.render import TEMPLATES, get_template, render

GOLDEN = pathlib.Path(__file__).parent/'golden'
CLUSTERS = {'single-node': 'mpich-pmi2', 'gpu': 'openmpi-pmix', 'apptainer': 'cray', 'array': 'cray'}
ARGUMENTS = {'bench-wire': ('--baseline', 'old wire.json', '--tolerance', '10%')}


def job(template, **values):
    """A Job of a template with its defaults."""
    defaults = {n: getattr(TEMPLATES[template], n) for n in ('nodes', 'tasks', 'gpus', 'time', 'grace')}
    varied = {'over': 'seed', 'values': ('0', '1', '2'), 'at_once': 2} if template == 'array' else {}
    argv = ARGUMENTS.get(template, ('train.h5', '--dev', "it's dev.h5", '--model', 'mid'))
    return Job(**defaults | varied | {'out': 'exp/mid', 'argv': argv} | values)


def scripts():
    return {name: render(name, job(name), sites.find(CLUSTERS.get(name, ''))) for name in TEMPLATES}


@pytest.mark.parametrize('name', TEMPLATES)
def test_golden(name):
    """After a wanted change: python -m tests.jobs.test_render"""
    assert scripts()[name] == (GOLDEN/f'{name}.sbatch').read_text()


@pytest.mark.parametrize('name', TEMPLATES)
def test_a_shell_reads_it(name, tmp_path):
    path = tmp_path/'job.sbatch'
    path.write_text(scripts()[name])
    subprocess.run(['bash', '-n', path], check=True)
    if not shutil.which('shellcheck'):
        pytest.skip('no shellcheck here: it is in the extra `test`')
    unseen = '--exclude=SC1091'  # what a site's venv sources
    done = subprocess.run(['shellcheck', unseen, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_step_ends_with_a_rank_that_fails():
    for text in scripts().values():
        steps = [line for line in text.splitlines() if line.startswith('srun ')]
        assert len(steps) == 1 and '--kill-on-bad-exit=1' in steps[0]
        assert '--gpus-per-task' not in text and ('--gpus-per-node' in text) == ('--gpu-bind=none' in text)


TEXT = st.text(st.characters(blacklist_categories=('Cs',), blacklist_characters='\0'), min_size=1, max_size=20)
HOSTILE = st.one_of(TEXT, st.sampled_from(['$(touch hit)', '`touch hit`', "'; touch hit; '", '"$(touch hit)"', '-', '~',
                                           '\ntouch hit\n', '\n#SBATCH --wrap=x', '*', '$HOME', 'a\\',
                                           '&& touch hit #']))


@settings(max_examples=15)
@given(argument=HOSTILE, out=HOSTILE, value=HOSTILE, image=HOSTILE)
def test_values_arrive_as_they_were_given(tmp_path_factory, argument, out, value, image):
    """The script runs with a stand-in for srun: the words that it gets are the values, and nothing else ran."""
    folder = tmp_path_factory.mktemp('run')
    site = sites.Site(environment={'VALUE': value}, container=sites.Container(image=image))
    try:
        wanted = Job(out=out, argv=(argument,), name='name')
    except BadInput:
        assert out.startswith('-') or not out.isprintable()
        return
    (folder/'srun').write_text('#!/bin/bash\nprintf "%s\\0" "$VALUE" "$@" > "$HERE/words"\n')
    (folder/'srun').chmod(0o755)
    (folder/'job').write_text(render('apptainer', wanted, site))
    subprocess.run(['bash', 'job'], cwd=folder, capture_output=True, timeout=20,
                   env={'PATH': f'{folder}:/usr/bin:/bin', 'HERE': str(folder), 'SLURM_JOB_ID': '1',
                        'SLURM_JOB_NODELIST': 'n1', 'HOME': '/'})
    assert not (folder/'hit').exists()
    if not (folder/'words').exists():  # a file is in the place of the directory
        return
    words = (folder/'words').read_bytes().decode(errors='surrogateescape').split('\0')
    assert words[0] == value
    assert words[words.index('exec') + 1:-1] == [image, 'hpcasr', 'train', argument, '--out', wanted.base, '--resume',
                                                 'auto']


@pytest.mark.parametrize('name', ['name', 'log', 'account', 'partition', 'mpi', 'sbatch', 'values'])
@pytest.mark.parametrize('value', ['a b', 'x\n#SBATCH --uid=0', '$(x)', 'a;b', '"', '', '#'])
def test_directives_hold_plain_words_alone(name, value):
    if value == '' and name not in ('values', 'sbatch'):
        return  # not given
    with pytest.raises(BadInput) as e:
        if name in ('name', 'log'):
            job('multi-node', **{name: value})
        elif name == 'values':
            job('array', values=('a', value))
        else:
            slurm = sites.Slurm(**{name: (value,) if name == 'sbatch' else value})
            sites.Site(slurm=slurm)
    assert 'cannot stand in a job script' in str(e.value)


@pytest.mark.parametrize('name, values, says', [
    ('array', {'values': ()}, '--algos'), ('array', {'values': ('1', '1')}, 'names one twice'),
    ('multi-node', {'over': 'seed', 'values': ('1',)}, 'use the template array'),
    ('gpu', {'gpus': 0}, 'gpu needs some'), ('single-node', {'nodes': 2}, 'multi-node'), ('apptainer', {}, '--image')])
def test_what_does_not_fit_is_refused(name, values, says):
    with pytest.raises(BadInput, match=says):
        render(name, replace(job(name), **values), sites.Site())


@pytest.mark.parametrize('time, grace, seconds', [
    ('90', 120, 5400), ('5:30', 0, 330), ('8:00:00', 1, 28800), ('1-2', 9, 93600), ('1-00:30', 9, 88200),
    ('2-12:00:00', 9, 216000)])
def test_time_limits(time, grace, seconds):
    from hpcasr.jobs.words import seconds as of
    assert of('--time', time) == seconds and job('chain', time=time, grace=grace).time == time


@pytest.mark.parametrize('time', ['', 'x', '1:2:3:4', '0', '00:00', '1-', '-1', '1h', '2'])
def test_time_limits_that_cannot_be(time):
    with pytest.raises(BadInput):
        job('chain', time=time, grace=120)


@pytest.mark.parametrize('text, says', [
    ('modles = []', 'did you mean modules'), ('slurm = 3', 'must be a table'), ('modules = "a"', 'must be a list'),
    ('[slurm]\nmpi = ["a"]', 'slurm.mpi must be a text'), ('[environment]\n"A B" = "x"', 'no name of a variable'),
    ('x', 'not TOML'), ('setup = ["a\\nb"]', 'one line'), ('[environment]\nA = [1]', 'environment.A'),
    ('[slurm]\npartiton = "x"', 'slurm.partition')])
def test_sites_that_cannot_be(tmp_path, text, says):
    (tmp_path/'s.toml').write_text(text)
    with pytest.raises(BadInput, match=says) as e:
        sites.find(str(tmp_path/'s.toml'))
    assert str(e.value).startswith(str(tmp_path/'s.toml'))


def test_names_are_looked_up():
    assert sites.find('') == sites.Site() and sites.find('cray').slurm.mpi == 'cray_shasta'
    with pytest.raises(BadInput, match='did you mean cray'):
        sites.find('crya')
    with pytest.raises(BadInput, match='did you mean multi-node'):
        get_template('multinode')


def test_quoting_is_undone_by_a_shell():
    assert shlex.split(render('multi-node', job('multi-node'), sites.Site()).split('hpcasr train ')[1].split('\n')[0]
                       .rstrip('\\'))[:3] == ['train.h5', '--dev', "it's dev.h5"]


if __name__ == '__main__':
    GOLDEN.mkdir(exist_ok=True)
    for name, text in scripts().items():
        (GOLDEN/f'{name}.sbatch').write_text(text)
