"""Where compiled kernels are kept, and what happens where they cannot be."""

import os
import pathlib
import subprocess
import sys

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
    assert folder_of(tmp_path, NUMBA_CACHE_DIR='mine') == 'mine'
    (tmp_path/'file').write_text('')
    temporary = folder_of(tmp_path, XDG_CACHE_HOME=f'{tmp_path}/file', TMPDIR=str(tmp_path))
    assert temporary.startswith(f'{tmp_path}/hpcasr-')


def test_other_sources_are_another_folder(monkeypatch, tmp_path):
    from hpcasr.kernels import cpu
    before = cpu.state()
    monkeypatch.setattr(cpu, 'processor', lambda: 'another')
    assert cpu.state() != before


def test_nobody_elses_folder_is_taken(tmp_path):
    where = {'HOME': '/proc/none', 'TMPDIR': str(tmp_path)}
    mine = tmp_path/f'hpcasr-{os.getuid()}'
    assert folder_of(tmp_path, **where).startswith(f'{mine}/numba/') and mine.stat().st_mode & 0o777 == 0o700
    mine.chmod(0o777)
    assert folder_of(tmp_path, **where) == 'None'
    assert end(start(tmp_path, **where)) == '6 0.5 0' and not list(tmp_path.rglob('__pycache__'))


def test_kernels_are_compiled_once(tmp_path):
    assert [end(start(tmp_path)) for _ in range(2)] == ['6 0.5 0', '6 0.5 2']


def test_kernels_compiled_by_several_processes_at_once(tmp_path):
    assert {end(process)[:5] for process in [start(tmp_path) for _ in range(4)]} == {'6 0.5'}
    assert end(start(tmp_path)) == '6 0.5 2'


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
