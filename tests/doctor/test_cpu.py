"""Width of vectors under Numba's variables; binding of ranks that are made up."""

import pytest

from hpcasr.doctor import blas, cpu

HOST = cpu.width()[0]


@pytest.fixture(autouse=True)
def unmasked(monkeypatch):
    for variable in cpu.MASKS:
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.skipif(HOST < 512, reason='a processor with AVX-512 is needed to mask it')
@pytest.mark.parametrize(('variable', 'value'), [
    ('NUMBA_CPU_FEATURES', '-avx512f'), ('NUMBA_CPU_NAME', 'generic'), ('NUMBA_ENABLE_AVX', '0')])
def test_masked_avx512_is_named(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    f = cpu.vector_width()
    assert f.level == 'warning' and 'no AVX-512' in f.found and f'{variable}={value}' in f.found
    assert f.found.endswith('this processor has 512 bits') and f'unset {variable}' in f.advice


def test_unmasked():
    f = cpu.vector_width()
    assert f.level == ('warning' if 0 < HOST < 256 else 'ok') and (str(HOST) in f.found or not HOST)


@pytest.mark.parametrize(('bits', 'level', 'found'), [
    ((256, 'AVX'), 'ok', 'no AVX-512'), ((128, 'SSE'), 'warning', 'no AVX-512'), ((0, ''), 'ok', 'not an x86')])
def test_other_processors(monkeypatch, bits, level, found):
    monkeypatch.setattr(cpu, 'width', lambda *args, **asked: bits)
    assert cpu.vector_width().level == level and found in cpu.vector_width().found


def levels(findings):
    return [f.level for f in findings]


def test_binding_and_oversubscription():
    assert levels(cpu.judge([[0, 1], [0, 1]], 2)) == ['ok', 'ok']
    bound, crowd = cpu.judge([[0], [1]], 2)
    assert bound.found == 'bound to cores 0; 1' and crowd.level == 'ok'


def test_more_ranks_than_cores():
    crowd = cpu.judge([[0, 1]]*4, 2)[1]
    assert crowd.level == 'warning' and crowd.found.startswith('4 ranks on 2 cores of 2') and crowd.advice


def test_ranks_bound_to_one_core_while_others_idle():
    crowd = cpu.judge([[0], [0]], 8)[1]
    assert crowd.level == 'error' and '7 are not used' in crowd.found and '--bind-to core' in crowd.advice
    crowd = cpu.judge([[0], [0], [1, 2, 3]], 4)[1]
    assert crowd.level == 'warning' and 'bound to 0' in crowd.found


def test_a_container_with_less_time_than_cores():
    crowd = cpu.judge([[0, 1, 2, 3]]*4, 4, quota=1.5)[1]
    assert crowd.level == 'warning' and 'only 1.5' in crowd.found and 'at most 1 ranks' in crowd.advice


def test_four_blas_threads_per_rank_on_two_cores():
    f = blas.judge(4, 'OpenBLAS, 4 threads per rank (OPENBLAS_NUM_THREADS=4)', 2, 2)
    assert f.level == 'warning' and f.found.endswith('8 in all on 2 cores') and 'OPENBLAS_NUM_THREADS=1' in f.advice
    assert blas.judge(1, '', 8, 2).level == 'ok' and blas.judge(4, '', 1, 4).level == 'ok'


def test_the_blas_of_numpy_is_found(monkeypatch):
    import numpy  # noqa: F401
    _, path = blas.loaded()
    assert path is None or blas.counted(path) is None or blas.counted(path) >= 1
    assert blas.asked({'OMP_NUM_THREADS': '4', 'OPENBLAS_NUM_THREADS': '1'}) == (1, 'OPENBLAS_NUM_THREADS')
    assert blas.asked({'OMP_NUM_THREADS': '4'}) == (4, 'OMP_NUM_THREADS') and blas.asked({}) == (None, None)
