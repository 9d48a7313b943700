import subprocess
import sys

import numpy as np
import pytest

from hpcasr.kernels.cpu import gmm as compiled
from hpcasr.kernels.reference import gmm as reference

KERNELS = pytest.mark.parametrize('kernel', [reference, compiled], ids=['reference', 'cpu'])


def case(T=37, K=5, spread=20.0):
    rng = np.random.default_rng([T, K])
    starts = np.concatenate([[0], np.cumsum(rng.integers(1, 6, K))])
    return (spread*rng.standard_normal((starts[-1], T)) - 60).astype(np.float32), starts


@KERNELS
@pytest.mark.parametrize('spread', [0.0, 1.0, 20.0, 1e4])
def test_mixtures_are_log_sums_in_extended_precision(kernel, spread):
    scores, starts = case(spread=spread)
    out = np.empty((scores.shape[1], len(starts) - 1), np.float32)
    kernel.mixtures(scores, starts, out)
    for k in range(out.shape[1]):
        expected = np.logaddexp.reduce(scores[starts[k]:starts[k+1]].astype(np.longdouble), axis=0)
        np.testing.assert_allclose(out[:, k], expected.astype(float), rtol=5e-7, atol=5e-7)


@KERNELS
def test_sums_are_those_of_posteriors(kernel):
    scores, starts = case(spread=2.0)
    T, K = scores.shape[1], len(starts) - 1
    rng = np.random.default_rng(1)
    x, columns = rng.standard_normal((T, 3)).astype(np.float32), rng.integers(0, K, T)
    firsts = starts[:-1] + 10  # the sums are those of a larger model
    occupancy, first, second = np.zeros(40), np.zeros((40, 3)), np.zeros((40, 3))
    kernel.accumulate(x, scores, starts, columns, firsts, occupancy, first, second)
    expected = np.zeros((40, 7))
    for t, k in enumerate(columns):
        p = np.exp(scores[starts[k]:starts[k+1], t].astype(float))
        for g, gamma in enumerate(p/p.sum()):
            expected[firsts[k] + g] += gamma*np.concatenate([[1], x[t], x[t].astype(float)**2])
    np.testing.assert_allclose(np.column_stack([occupancy, first, second]), expected, rtol=1e-5, atol=1e-6)
    assert occupancy.sum() == pytest.approx(T)


def test_compiled_exponential():
    x = np.concatenate([-np.logspace(-8, 2.5, 5000), [0.0, -86.0, -87.5, -1e30]]).astype(np.float32)
    scores = np.stack([np.zeros_like(x), x])
    out = np.empty((len(x), 1), np.float32)
    compiled.mixtures(scores, np.array([0, 2]), out)
    np.testing.assert_allclose(out[:, 0], np.log1p(np.exp(x.astype(float))), atol=3e-7)


def folder_of(tmp_path, code='', **environment):
    """NUMBA_CACHE_DIR after an import of the compiled kernels, and what else the code prints."""
    script = f'{code}\nimport os, hpcasr.kernels.cpu\nprint(os.environ["NUMBA_CACHE_DIR"])'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True,
                          env={'PATH': '', 'HOME': str(tmp_path), 'PYTHONPATH': ':'.join(sys.path), **environment})
    return done.stdout.strip()


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
