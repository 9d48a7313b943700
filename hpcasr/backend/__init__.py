"""Who computes the layers."""

import os

from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput

BACKENDS = 'cpu', 'reference', 'cuda'
FEW = 2  # blocks of a simulated kernel: each of their threads is one of the operating system


def get_backend(name, precision='fp32', dtype='float32', place=0):
    """The Ops called `name`; auto: the fastest one on the processor.  Raises BadInput.

    precision   fp32, or bf16: to that the factors of all products are rounded, which are float32 otherwise; or tf32,
                which only GPUs know
    dtype       of all else
    place       of this learner among those of its machine, which share its GPUs
    """
    if name not in (*BACKENDS, 'auto'):
        raise BadInput(f'no backend {name!r}; choose one of auto, {", ".join(BACKENDS)}')
    if precision != 'fp32' and dtype != 'float32':
        raise BadInput(f'train.precision = {precision}: needs train.dtype = float32, not {dtype}')
    if name == 'cuda':
        return on_gpu(precision, dtype, place)
    if precision == 'tf32':
        raise BadInput(f'train.precision = tf32: only GPUs know it, and train.backend is {name}; use fp32 or bf16')
    return on_processor(name, precision)


def on_processor(name, precision):
    """The Ops of `cpu`, `reference` or `auto`."""
    if name == 'reference':
        return Ops(precision)
    from hpcasr.kernels.cpu.processor import SUPPORTED
    if SUPPORTED:
        from hpcasr.backend.cpu import CpuOps  # compiles, unless that was done before
        return CpuOps(precision)
    if name == 'auto':
        return Ops(precision)
    raise BadInput('train.backend = cpu: this processor has neither AVX-512 nor AVX2; use reference')


def on_gpu(precision, dtype, place):
    """The Ops of `cuda`."""
    if dtype != 'float32':
        raise BadInput(f'train.backend = cuda: needs train.dtype = float32, not {dtype}')
    if os.environ.get('NUMBA_ENABLE_CUDASIM', '0') == '1':
        from hpcasr.backend.cuda_simulated import Simulated
        from hpcasr.kernels.cuda import launch
        launch.BLOCKS, device = FEW, Simulated(precision)
    else:
        from hpcasr.backend.cuda_device import open_gpu
        device = open_gpu(place, precision)
    from hpcasr.backend.cuda import CudaOps
    return CudaOps(device, precision, on_processor('auto', 'fp32'))
