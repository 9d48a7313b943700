"""Who computes the layers."""

from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput

BACKENDS = 'cpu', 'reference'


def get_backend(name):
    """The Ops called `name`; auto: the fastest one there is.  Raises BadInput."""
    if name not in (*BACKENDS, 'auto'):
        raise BadInput(f'no backend {name!r}; choose one of auto, {", ".join(BACKENDS)}')
    if name == 'reference':
        return Ops()
    from hpcasr.kernels.cpu.processor import SUPPORTED
    if name == 'auto' and not SUPPORTED:
        return Ops()
    from hpcasr.backend.cpu import CpuOps
    return CpuOps()
