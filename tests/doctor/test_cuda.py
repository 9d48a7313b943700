"""GPUs, imitated by an nvidia-smi of our own; this machine has none."""

import os
import types

import pytest

from hpcasr.doctor import cuda
from hpcasr.doctor.job import Job

TWO = '0, GPU-aaaa1111-x, NVIDIA H200, 143771\n1, GPU-bbbb2222-y, NVIDIA H200, 143771\n'


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """smi(output, status) puts an nvidia-smi first on PATH."""
    def make(output, status=0):
        path = tmp_path/'nvidia-smi'
        path.write_text(f'#!/bin/sh\ncat <<END\n{output}END\nexit {status}\n')
        path.chmod(0o755)
        monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    return make


@pytest.fixture
def nothing(monkeypatch):
    monkeypatch.setattr(cuda, 'SMI', ('no-such-nvidia-smi',))
    monkeypatch.setattr(cuda, 'NODES', '/no/such/device')
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)


def test_no_gpu(nothing):
    assert (cuda.gpus().level, cuda.gpus().found) == ('ok', 'no GPU, the CPU is used')
    assert cuda.judge_sharing([[], []], (0, 0)).found == 'no GPU'


def test_no_gpu_where_one_is_asked_for(nothing, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    assert cuda.gpus().level == 'warning' and 'CUDA_VISIBLE_DEVICES=0' in cuda.gpus().found


def test_a_driver_without_its_program(nothing, monkeypatch):
    monkeypatch.setattr(cuda, 'NODES', '/dev/null')
    assert 'no nvidia-smi' in cuda.gpus().found and '--gpus all' in cuda.gpus().advice


def test_a_driver_that_fails(smi):
    smi('Failed to initialize NVML: Driver/library version mismatch\n', 18)
    f = cuda.gpus()
    assert f.level == 'warning' and 'version mismatch' in f.found and 'driver' in f.advice


@pytest.mark.parametrize(('asked', 'seen'), [
    (None, '2 of 2 seen: 0 NVIDIA H200 140 GiB GPU-aaaa1111, 1 '), ('1', '1 of 2 seen: 1 NVIDIA'),
    ('GPU-bbbb', '1 of 2 seen: 1 '), ('1,7,0', '1 of 2 seen: 1 '), ('', '0 of 2 seen: none'),
    ('MIG-12345678-9abc', '1 of 2 seen: MIG 12345678')])
def test_which_are_seen(smi, monkeypatch, asked, seen):
    smi(TWO)
    monkeypatch.setattr(cuda, 'find_spec', lambda name: None)
    if asked is not None:
        monkeypatch.setenv('CUDA_VISIBLE_DEVICES', asked)
    f = cuda.gpus()
    assert f.level == 'warning' and f.found.startswith(seen)
    assert ('hpcasr[cuda12]' in f.advice) == (asked != '')


@pytest.mark.parametrize(('code', 'level', 'said'), [
    ('', 'ok', 'two'), ('raise OSError("no kernel image")', 'error', 'no kernel image'),
    ('import os; os.abort()', 'error', 'ended by signal 6'), ('import time; time.sleep(60)', 'error', 'no answer')])
def test_a_probe_may_crash_or_hang(monkeypatch, code, level, said):
    monkeypatch.setattr(cuda, 'PATIENCE', 0.5 if 'sleep' in code else 20)
    f = cuda.probed('two', code)
    assert f.level == level and said in f.found


def test_ranks_that_share_a_gpu():
    f = cuda.judge_sharing([['a'], ['a'], ['b'], ['c']], (0, 0, 1, 1))
    assert f.level == 'warning' and f.found == 'ranks 0-1 share 1 GPU' and '--ntasks-per-node' in f.advice
    assert cuda.judge_sharing([['a', 'b']]*2, (0, 0)).level == 'ok'
    assert cuda.judge_sharing([['a'], ['b']]*2, (0, 1)*2).found == 'ranks 0, 2 share 1 GPU; ranks 1, 3 share 1 GPU'


def library(**calls):
    return types.SimpleNamespace(**calls)


def test_what_the_library_answers():
    def mpich(kind, flag):
        flag._obj.value = kind == 0
        return 0
    assert cuda.answer(library(MPIX_GPU_query_support=mpich)) is True
    assert cuda.answer(library(MPIX_Query_cuda_support=lambda: 0)) is False
    assert cuda.answer(library()) is None


@pytest.mark.parametrize(('says', 'trouble', 'level', 'told'), [
    (False, '', 'warning', 'says no'), (None, '', 'warning', 'does not say'), (True, '', 'ok', 'is right'),
    (True, 'it was ended by signal 11', 'error', 'fails: it was ended by signal 11')])
def test_device_buffers(smi, monkeypatch, says, trouble, level, told):
    smi(TWO)
    monkeypatch.setattr(cuda, 'query', lambda: says)
    monkeypatch.setattr(cuda, 'run', lambda command: trouble)
    f = cuda.aware(Job())
    assert f.level == level and told in f.found and (f.advice or level == 'ok')


def test_device_buffers_without_a_gpu(nothing, monkeypatch):
    monkeypatch.setattr(cuda, 'query', lambda: False)
    assert cuda.aware(Job()).level == 'ok'
