import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from hpcasr.backend import BACKENDS, get_backend
from hpcasr.backend.base import Ops
from hpcasr.config import Train
from hpcasr.errors import BadInput
from hpcasr.kernels.cpu import processor
from tests import small
from tests.conftest import done_of

ROOT = pathlib.Path(__file__).parents[2]
AVX2 = '+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2'


def test_every_backend_is_found_by_its_name(ops):
    assert type(get_backend(ops.name)) is type(ops) and isinstance(ops, Ops) and ops.name in BACKENDS
    assert get_backend('auto').name == ('cpu' if processor.SUPPORTED else 'reference')


def test_every_backend_says_what_it_is(ops):
    assert ops.describe() == {'reference': 'NumPy', 'cpu': f'Numba, vectors of {processor.LANES} float32'}[ops.name]


def test_training_says_what_computes_and_takes_the_same_steps_again(ops, hpcasr, tmp_path):
    small.store(tmp_path/'x.h5')
    for out in 'a', 'b':
        done = hpcasr('train', 'x.h5', '--out', out, '--model', 'tiny', '--epochs', '2', '--batch', '4', '--set',
                      f'train.backend={ops.name}', '--set', 'report.tensorboard=false')
        assert f'backend   {ops.describe()}\n' in done.stderr
    assert done_of(tmp_path/'a') == done_of(tmp_path/'b')


def test_the_configuration_offers_what_exists():
    choices = Train.__dataclass_fields__['backend'].metadata['choices']
    assert set(choices) == {'auto', *BACKENDS} and Train().backend in choices


def test_unknown_backend():
    with pytest.raises(BadInput, match="no backend 'gpu'; choose one of auto, cpu, reference"):
        get_backend('gpu')


def test_asarray_copies_only_to_convert(ops):
    x = np.zeros(3, 'float32')
    assert ops.asarray(x) is x and ops.asarray(x, 'float32') is x and ops.asarray(x, 'float64').dtype == np.float64


@pytest.mark.parametrize(('features', 'lanes'), [
    ('avx2 fma avx512f', 16), ('avx2 fma', 8), ('avx2', 0), ('fma', 0), ('sse2', 0), ('', 0)])
def test_vectors_follow_the_processor(features, lanes):
    assert processor.lanes({'avx2': False} | dict.fromkeys(features.split(), True)) == lanes


@pytest.mark.parametrize('narrowed', [{'NUMBA_CPU_FEATURES': '+sse2,-avx2'}, {'NUMBA_CPU_NAME': 'generic'},
                                      {'NUMBA_ENABLE_AVX': '0'}], ids=str)
def test_a_processor_without_wide_vectors(narrowed):
    """The backend is NumPy, and says so; what alignment needs is there, and what nobody needs is not compiled."""
    code = '''
import sys
from hpcasr.backend import get_backend
from hpcasr.errors import BadInput
print(get_backend('auto').name)
try:
    get_backend('cpu')
except BadInput as e:
    print(e)
print([m for m in sys.modules if m.startswith('hpcasr.kernels.cpu.')])
'''
    out = child(narrowed, '-c', code).splitlines()
    assert out == ['reference', 'train.backend = cpu: this processor has neither AVX-512 nor AVX2; use reference',
                   "['hpcasr.kernels.cpu.processor']"]


def child(environment, *args):
    """What Python prints with such an environment."""
    done = subprocess.run([sys.executable, *args], env=dict(os.environ, PYTHONPATH=str(ROOT), **environment), cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run(files, supported, lanes, **environment):
    """Test these files with kernels compiled for the processor that the environment describes."""
    what = 'from hpcasr.kernels.cpu import processor; print(processor.SUPPORTED, processor.LANES)'
    assert child(environment, '-c', what).split() == [str(supported), str(lanes)]
    paths = [str(pathlib.Path(__file__).parent/f'test_{file}.py') for file in files]
    assert ' passed' in child(environment, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', *paths)


def test_alignment_on_a_processor_without_wide_vectors():
    run(['gmm', 'viterbi', 'softmax_ce'], False, 8, NUMBA_CPU_NAME='generic')


@pytest.mark.skipif(not processor.SUPPORTED, reason='no AVX2')
def test_kernels_with_vectors_of_avx2():
    """The tests of the kernels once more, compiled for vectors of 8."""
    run(['gemm', 'bf16', 'lstm', 'activation', 'affine', 'softmax_ce'], True, 8, NUMBA_CPU_NAME='haswell',
        NUMBA_CPU_FEATURES=AVX2)
