"""Where the kernels for GPUs run: in Numba's simulator, NUMBA_ENABLE_CUDASIM=1, or on a GPU, HPCASR_TEST_GPU=1.

Numba decides at its import, once for a process; so these tests have one of their own (make test), and are not collected
with the others.
"""

import os

import pytest

SIMULATED, GPU = (os.environ.get(name, '0') == '1' for name in ('NUMBA_ENABLE_CUDASIM', 'HPCASR_TEST_GPU'))
collect_ignore_glob = [] if SIMULATED or GPU else ['test_*.py']


@pytest.fixture
def few_blocks(monkeypatch):
    """Threads have to stride over what is far smaller than in training."""
    from hpcasr.kernels.cuda import launch
    monkeypatch.setattr(launch, 'BLOCKS', 2)
