"""Who computes the layers."""

from hpcasr.backend.base import Ops
from hpcasr.errors import BadInput

BACKENDS = {c.name: c for c in (Ops,)}


def get_backend(name):
    """The Ops called `name`."""
    if name not in BACKENDS:
        raise BadInput(f'no backend {name!r}; choose one of {", ".join(BACKENDS)}')
    return BACKENDS[name]()
