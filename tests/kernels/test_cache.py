"""Where compiled kernels are kept, who compiles them, and what happens where they cannot be kept."""

import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import time

import hpcasr
from hpcasr.kernels import cpu
from hpcasr.kernels.cpu import compiled

KERNEL = """
import resource, sys
from hpcasr.kernels.cpu.compiled import compiled
if sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))

@compiled('i8(i8)', 'f8(f8)')
def twice(x):
    return 2*x

print(twice(3), twice(0.25), sum(twice.stats.cache_hits.values()))
"""


def start(tmp_path, *args, code=None, **environment):
    """python -c code, or a file with a kernel, in an environment of its own."""
    (tmp_path/'kernel.py').write_text(KERNEL)
    return subprocess.Popen([sys.executable, *(['-c', code] if code else [tmp_path/'kernel.py']), *args], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={'PATH': '', 'HOME': str(tmp_path), 'PYTHONPATH': ':'.join(sys.path), **environment})


def end(process):
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out.strip()


def folder_of(tmp_path, code='', **environment):
    """NUMBA_CACHE_DIR after an import of the compiled kernels, and what else the code prints."""
    script = f'{code}\nimport os, hpcasr.kernels.cpu\nprint(os.environ.get("NUMBA_CACHE_DIR"))'
    return end(start(tmp_path, code=script, **environment))


def test_compiled_kernels_are_kept_in_a_folder_of_their_own(tmp_path):
    home = folder_of(tmp_path)
    assert home.startswith(f'{tmp_path}/.cache/hpcasr/numba/')
    assert folder_of(tmp_path, XDG_CACHE_HOME=f'{tmp_path}/x') == home.replace('.cache', 'x')
    assert folder_of(tmp_path, NUMBA_CACHE_DIR='mine') == f'mine/{cpu.state()}'
    assert folder_of(tmp_path, NUMBA_CACHE_DIR='mine/0123456789abcdef') == f'mine/{cpu.state()}'  # of older sources
    (tmp_path/'file').write_text('')
    temporary = folder_of(tmp_path, XDG_CACHE_HOME=f'{tmp_path}/file', TMPDIR=str(tmp_path))
    assert temporary.startswith(f'{tmp_path}/hpcasr-')


def test_another_processor_is_another_folder(monkeypatch):
    states = [cpu.state(), cpu.state()]
    monkeypatch.setenv('NUMBA_CPU_NAME', 'haswell')
    states.append(cpu.state())
    monkeypatch.setattr(cpu, 'cpuinfo', lambda: 'another')
    states.append(cpu.state())
    assert [states.index(s) for s in states] == [0, 0, 2, 3]


HELPER = """
import numba

@numba.njit
def number(x):
    return x + {}
"""
CALLER = """
from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.helper import number

@compiled('i8(i8)')
def caller(x):
    return number(x)

print(caller(1), sum(caller.stats.cache_hits.values()))
"""


def test_an_edited_helper_in_another_file_is_seen(tmp_path):
    """Numba alone would look at the file of the caller, which is the same."""
    tree = tmp_path/'tree'
    shutil.copytree(pathlib.Path(hpcasr.__file__).parent, tree/'hpcasr', ignore=shutil.ignore_patterns('__pycache__'))
    kernels = tree/'hpcasr'/'kernels'/'cpu'
    (kernels/'caller.py').write_text(CALLER)
    results = []
    for number in 1, 1, 2, 1:
        (kernels/'helper.py').write_text(HELPER.format(number))
        os.utime(kernels/'helper.py', (0, 0))  # an editor that keeps the time does not hide what it did
        where = {'PYTHONPATH': ':'.join([str(tree), *sys.path]), 'PYTHONDONTWRITEBYTECODE': '1',
                 'PYTHONSAFEPATH': '1'}
        results.append(end(start(tmp_path, code='import hpcasr.kernels.cpu.caller', **where)))
    assert results == ['2 0', '2 1', '3 0', '2 1']


def test_nobody_elses_folder_is_taken(tmp_path):
    where = {'HOME': '/proc/none', 'TMPDIR': str(tmp_path)}
    mine = tmp_path/f'hpcasr-{os.getuid()}'
    assert folder_of(tmp_path, **where).startswith(f'{mine}/numba/') and mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o777)
    assert folder_of(tmp_path, **where) == 'None'
    assert end(start(tmp_path, **where)) == '6 0.5 0' and not list(tmp_path.rglob('__pycache__'))


def test_kernels_are_compiled_once(tmp_path):
    assert [end(start(tmp_path)) for _ in range(2)] == ['6 0.5 0', '6 0.5 2']


def test_of_several_processes_at_once_one_compiles(tmp_path):
    results = [end(process) for process in [start(tmp_path) for _ in range(3)]]
    assert sorted(results) == ['6 0.5 0', '6 0.5 2', '6 0.5 2']


HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], 'w')
fcntl.flock(file, fcntl.LOCK_EX)
print(flush=True)
time.sleep(99)
"""


def lock_of(tmp_path):
    """The file that whoever compiles in there has locked."""
    folder = pathlib.Path(folder_of(tmp_path))
    folder.mkdir(parents=True)
    return folder/'.lock'


def test_whoever_is_killed_loses_the_turn(tmp_path):
    lock = lock_of(tmp_path)
    holder = start(tmp_path, str(lock), code=HOLD)
    holder.stdout.readline()
    waiting = start(tmp_path)
    time.sleep(1)
    assert waiting.poll() is None
    holder.kill()
    assert end(waiting) == '6 0.5 0' and end(start(tmp_path)) == '6 0.5 2'
    holder.communicate()


def test_nobody_waits_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, 'PATIENCE', 0.1)
    with open(tmp_path/'.lock', 'w') as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with compiled.turn(tmp_path/'mark'):
            pass
    assert (tmp_path/'mark').exists()


def test_a_kernel_that_does_not_compile_leaves_its_turn_and_no_mark(tmp_path):
    for _ in range(2):
        try:
            with compiled.turn(tmp_path/'mark'):
                raise OSError
        except OSError:
            assert not (tmp_path/'mark').exists()


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path/'file').write_text('')
    done = end(start(tmp_path, NUMBA_CACHE_DIR=f'{tmp_path}/file/below'))
    assert done == '6 0.5 0'


def test_a_full_disk(tmp_path):
    assert end(start(tmp_path, '100')) == '6 0.5 0'


def test_a_damaged_cache(tmp_path):
    end(start(tmp_path))
    kept = [path for path in pathlib.Path(tmp_path).rglob('*.nb?')]
    assert len(kept) == 3
    for path in kept:
        whole = path.read_bytes()
        for damage in b'', whole[:100], b'x'*100:
            path.write_bytes(damage)
            assert end(start(tmp_path)).startswith('6 0.5')
        path.write_bytes(whole)
