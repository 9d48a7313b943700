"""Who computes the layers."""

from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput

BACKENDS = 'cpu', 'reference'


def get_backend(name, precision='fp32', dtype='float32'):
    """The Ops called `name`; auto: the fastest one there is.  Raises BadInput.

    precision   fp32, or bf16: to that the factors of all products are rounded, which are float32 otherwise
    dtype       of all else
    """
    if name not in (*BACKENDS, 'auto'):
        raise BadInput(f'no backend {name!r}; choose one of auto, {", ".join(BACKENDS)}')
    if precision == 'bf16' and dtype != 'float32':
        raise BadInput(f'train.precision = bf16: needs train.dtype = float32, not {dtype}')
    if name == 'reference':
        return Ops(precision)
    from hpcasr.kernels.cpu.processor import SUPPORTED
    if SUPPORTED:
        from hpcasr.backend.cpu import CpuOps  # compiles, unless that was done before
        return CpuOps(precision)
    if name == 'auto':
        return Ops(precision)
    raise BadInput('train.backend = cpu: this processor has neither AVX-512 nor AVX2; use reference')
