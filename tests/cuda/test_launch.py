import ast
import importlib
import pathlib
import pkgutil

import numpy as np
import pytest
from numba import cuda

from hpcasr.kernels import cuda as folder
from hpcasr.kernels.cuda import launch, pack
from tests.cuda.memory import device, host


def test_every_file_of_kernels_has_a_test():
    """And every kernel a signature, for which it is compiled where there is no GPU."""
    names = {module.name for module in pkgutil.iter_modules(folder.__path__)} - {'launch', 'number'}
    for name in names:
        importlib.import_module(f'{folder.__name__}.{name}')
    assert names and names <= set(imported(pathlib.Path(__file__).parent.glob('test_*.py')))
    assert launch.KERNELS and all(kernel.signatures for kernel in launch.KERNELS.values())


def imported(paths):
    """The names of modules of kernels that are imported in these files."""
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text()))):
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith(folder.__name__):
            yield from [node.module.rpartition('.')[2], *(a.name for a in node.names)]


@pytest.mark.parametrize('bad', [np.zeros(4), np.zeros((2, 2), 'f4'), np.zeros(8, 'f4')[::2], np.zeros(4, 'i4'), 1.0])
def test_what_is_not_declared_is_not_launched(bad):
    """Other types, double precision above all, would be compiled when they come, and run slowly or wrong."""
    if not launch.SIMULATED:
        pytest.skip('seen in the simulator')
    with pytest.raises(TypeError, match='rounded is not declared for'):
        pack.rounded(1, 8, None, bad, np.zeros(4, 'u2'))


@pytest.mark.parametrize('n', [1, 8, 9, 63, 64, 65])
def test_a_thread_for_every_entry(n):
    assert launch.blocks(n, 8)*8 >= n > (launch.blocks(n, 8) - 1)*8
    assert launch.stride(n, 8) == launch.blocks(n, 8) and launch.stride(10**12) == launch.BLOCKS


@launch.kernel('void(i4[::1])')
def count(x):
    for k in range(cuda.grid(1), x.shape[0], cuda.gridsize(1)):
        x[k] += 1


def test_a_stride_meets_every_entry_once():
    launch.KERNELS.pop('test_launch.count', None)
    x = device(np.zeros(37), 'i4')
    count(2, 8, None, x)
    assert host(x).tolist() == [1]*37


def test_a_grid_without_blocks_is_not_launched():
    x = device(np.zeros(3), 'i4')
    for grid in 0, (2, 0, 1):
        count(grid, 8, None, x)
    assert not host(x).any()
