"""Memory, limits, files, the kernels' cache, clocks and SLURM's variables, each with its fault."""

import fcntl
import os
import resource

import pytest

from hpcasr import cgroup
from hpcasr.doctor import clock, files, kernels, limits, memory, slurm, versions
from hpcasr.doctor.job import Job, first_here, ranges
from hpcasr.kernels import cpu

MB = 10**6


# memory

def test_64_mb_of_shared_memory_are_named():
    f = memory.judge_shm(64 << 20, 64 << 20, 2)
    assert f.level == 'warning' and f.found.startswith('64 MiB of 64 MiB free, but windows of 2 ranks with swb2000')
    assert '--shm-size' in f.advice and 'remount' in f.advice
    f = memory.judge_shm(16*MB, 64*MB, 2)
    assert f.level == 'error' and 'with mid need' in f.found
    assert memory.judge_shm(10**9, 10**9, 2).level == 'ok'


def test_shared_memory_counts_the_ranks_of_a_machine(monkeypatch):
    monkeypatch.setattr(memory.shutil, 'disk_usage', lambda path: Usage(64 << 20))
    assert '8 ranks' in memory.shm(Job(size=16, here=8)).found
    assert '2 ranks' in memory.shm(Job()).found  # alone: as if there were another one
    assert memory.shm(Job(first=False)) == []


class Usage:
    def __init__(self, free):
        self.free = self.total = free


def test_no_shared_memory_at_all(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, 'SHM', str(tmp_path/'none'))
    assert memory.shm(Job()).level == 'error' and 'tmpfs' in memory.shm(Job()).advice


def test_the_windows_of_presets():
    assert memory.vector('swb2000') == pytest.approx(172e6, rel=0.01)
    assert memory.vector('mid') == pytest.approx(15.3e6, rel=0.01)


def test_memory():
    assert memory.judge_memory(30*MB, 1).level == 'error' and '--mem' in memory.judge_memory(30*MB, 1).advice
    assert memory.judge_memory(10**9, 2).level == 'warning' and memory.judge_memory(10**10, 2).level == 'ok'


@pytest.mark.parametrize(('group', 'path'), [('0::/slurm/job_7/step_0', 'slurm/job_7/memory.max'),
                                             ('9:cpu:/x\n4:memory:/slurm/job_7', 'memory/slurm/memory.limit_in_bytes')])
def test_the_limit_of_a_job_is_that_of_a_group_around_it(monkeypatch, tmp_path, group, path):
    (tmp_path/'own').write_text(group + '\n')
    monkeypatch.setattr(cgroup, 'GROUP', str(tmp_path/'own'))
    monkeypatch.setattr(cgroup, 'GROUPS', str(tmp_path/'all'))
    assert cgroup.limit() == float('inf')
    (tmp_path/'all'/path).parent.mkdir(parents=True)
    (tmp_path/'all'/path).write_text('max\n')
    assert cgroup.limit() == float('inf')
    (tmp_path/'all'/path).write_text('1000\n')
    assert cgroup.limit() == 1000


# limits

def limited(monkeypatch, soft, hard=resource.RLIM_INFINITY):
    monkeypatch.setattr(limits.resource, 'getrlimit', lambda which: (soft, hard))


def test_open_files(monkeypatch):
    limited(monkeypatch, 256)
    f = limits.open_files(Job(size=128))
    assert f.level == 'error' and '256 allowed; 128 ranks may need 768' in f.found and 'ulimit -n' in f.advice
    limited(monkeypatch, 500, 600)
    f = limits.open_files(Job(size=128))
    assert f.level == 'warning' and 'administrator' in f.advice
    limited(monkeypatch, 1024)
    assert limits.open_files(Job(size=128)).level == 'ok'


def test_stack_and_locked_memory(monkeypatch):
    limited(monkeypatch, 64 << 10)
    assert limits.stack(Job()).level == 'warning' and 'ulimit -s' in limits.stack(Job()).advice
    monkeypatch.setattr(limits.glob, 'glob', lambda pattern: ['/sys/class/infiniband/mlx5_0'])
    f = limits.locked_memory(Job())
    assert f.level == 'warning' and 'mlx5_0' in f.found and 'ulimit -l unlimited' in f.advice
    monkeypatch.setattr(limits.glob, 'glob', lambda pattern: [])
    assert limits.locked_memory(Job()).level == 'ok'
    limited(monkeypatch, resource.RLIM_INFINITY)
    assert {check(Job()).level for check in (limits.stack, limits.locked_memory, limits.open_files)} == {'ok'}


# files

@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, 'first_here', lambda: True)
    return tmp_path


def test_a_usual_file_system(here, monkeypatch):
    monkeypatch.setattr(files, 'SIZE', files.PIECE)
    assert {files.locks().level, files.rename().level} == {'ok'} and str(here) in files.speed().found
    assert not list(here.iterdir())


def test_slow_and_full(here, monkeypatch):
    f = files.judge_speed('file system', 3.2)
    assert f.level == 'warning' and '3.2 MB/s written, slow' in f.found and '--out' in f.advice
    for there, level in (10**8, 'error'), (10**9, 'warning'), (10**11, 'ok'):
        monkeypatch.setattr(files.shutil, 'disk_usage', lambda path, there=there: Usage(there))
        assert files.space().level == level


@pytest.mark.parametrize('check', [files.speed, files.locks, files.rename])
def test_where_nothing_can_be_written(here, monkeypatch, check):
    def refuse(**_):
        raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(files.tempfile, 'mkdtemp', refuse)
    f = check()
    assert f.level == 'error' and 'nothing can be written here (Permission denied)' in f.found and f.advice


def test_locks_that_are_none(here, monkeypatch):
    monkeypatch.setattr(files, 'held', lambda path: False)
    assert 'does not keep other processes out' in files.locks().found and files.locks().level == 'warning'

    def refuse(file, how):
        raise OSError(38, 'Function not implemented')
    monkeypatch.setattr(fcntl, 'flock', refuse)
    assert 'Function not implemented' in files.locks().found and '--out' in files.locks().advice


def test_renaming_that_fails(here, monkeypatch):
    def refuse(old, new):
        raise OSError(18, 'Invalid cross-device link')
    monkeypatch.setattr(os, 'replace', refuse)
    assert files.rename().level == 'error' and 'cross-device' in files.rename().found
    monkeypatch.setattr(os, 'replace', lambda old, new: None)
    assert files.rename().level == 'error' and 'not where it should be' in files.rename().found


def test_files_are_looked_at_once_per_machine(here, monkeypatch):
    monkeypatch.setattr(files, 'first_here', lambda: False)
    assert files.speed() == files.locks() == []
    assert first_here({}) and first_here({'SLURM_LOCALID': '0', 'SLURM_PROCID': '4'})
    assert not first_here({'MPI_LOCALRANKID': '1', 'SLURM_LOCALID': '0'})


# kernels

@pytest.fixture
def no_jit_variables(monkeypatch):
    for variable in 'NUMBA_CACHE_DIR', 'NUMBA_DISABLE_JIT':
        monkeypatch.delenv(variable, raising=False)


def test_kernel_cache(no_jit_variables, monkeypatch, tmp_path):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert kernels.cache().level == 'ok' and str(tmp_path) in kernels.cache().found
    monkeypatch.setattr(cpu, 'usable', lambda folder: tmp_path not in folder.parents)
    f = kernels.cache()
    assert f.level == 'warning' and f'{tmp_path}/hpcasr cannot be used' in f.found and 'XDG_CACHE_HOME' in f.advice
    monkeypatch.setattr(cpu, 'usable', lambda folder: False)
    assert 'every process compiles anew' in kernels.cache().found


def test_what_numba_is_told(no_jit_variables, monkeypatch):
    monkeypatch.setenv('NUMBA_CACHE_DIR', '/proc/none')
    assert 'NUMBA_CACHE_DIR=/proc/none cannot be used' in kernels.cache().found
    monkeypatch.setenv('NUMBA_DISABLE_JIT', '1')
    assert kernels.cache().level == 'warning' and 'NUMBA_DISABLE_JIT' in kernels.cache().found


# the job

INSIDE = {'SLURM_JOB_ID': '7', 'SLURM_NNODES': '1'}


@pytest.mark.parametrize(('told', 'job', 'level', 'found'), [
    ({}, Job(), 'ok', 'not in a job'),
    (INSIDE, Job(), 'ok', 'job 7, 1 node, 1 rank'),
    (INSIDE | {'SLURM_STEP_NUM_TASKS': '4'}, Job(), 'error', 'SLURM_STEP_NUM_TASKS=4, but the world has 1 rank'),
    (INSIDE | {'SLURM_STEP_NUM_TASKS': '1', 'MPI_LOCALRANKID': '0'}, Job(size=4), 'ok', 'job 7'),
    (INSIDE | {'SLURM_NNODES': '2'}, Job(size=4), 'warning', '2 nodes in this job, 1 machine used'),
    (INSIDE | {'SLURM_CPUS_PER_TASK': '4096'}, Job(), 'warning', 'SLURM_CPUS_PER_TASK=4096'),
    (INSIDE | {'SLURM_GPUS_PER_TASK': '1'}, Job(), 'warning', 'SLURM_GPUS_PER_TASK=1')])
def test_slurm(told, job, level, found):
    f = slurm.variables(job, told)
    assert f.level == level and f.found.startswith(found) and bool(f.advice) == (level != 'ok')


def test_clocks():
    apart = [[0.0, 0.3, 7.1], [1.0, 1.0, 8.2]]
    f = clock.judge(apart, (0, 1, 2))
    assert f.level == 'warning' and 'rank 2 is +7.1 s' in f.found and 'chronyc' in f.advice
    f = clock.judge([[0, 4.0], [5, 5.001]], (0, 1))
    assert (f.level, f.found) == ('ok', '2 machines within 1 ms')


def test_versions(monkeypatch):
    assert versions.versions().level == 'ok' and 'numpy' in versions.versions().found
    monkeypatch.setattr(versions, 'PACKAGES', ('numpy', 'no-such-package-here'))
    assert versions.versions().level == 'error' and 'pip install no-such-package-here' in versions.versions().advice


def test_ranges():
    assert ranges([0, 1, 2, 5, 7, 8]) == '0-2, 5, 7-8' and ranges([]) == ''
