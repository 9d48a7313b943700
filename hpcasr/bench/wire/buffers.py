"""Where the bytes lie that are sent: NumPy's memory, a GPU's, or a GPU's that is copied to the host and back.

The one door of these tests to CuPy.  Written without a GPU at hand: what is seen to work is `numpy`, and `staged` over
an array module that only looks like CuPy.
"""

import numpy as np

from hpcasr.errors import BadInput

NAMES = 'numpy', 'cupy', 'staged'


def get_buffers(name, xp=None):
    """The Buffers called `name`; `xp` in place of CuPy.  Raises BadInput where CuPy or its GPU is missing."""
    if name == 'numpy':
        return Buffers(name, np)
    xp = xp or load(name)
    return Buffers(name, xp) if name == 'cupy' else Staged(name, xp)


def load(name):
    try:
        import cupy
    except ImportError:
        raise BadInput(f'-d {name}: CuPy is not installed; pip install "hpcasr[cuda12]" (or cuda13), or leave -d '
                       'out') from None
    if not cupy.cuda.is_available():
        raise BadInput(f'-d {name}: CuPy finds no GPU on this machine; leave -d out')
    return cupy


class Buffers:
    """Arrays that MPI is given as they are."""

    def __init__(self, name, xp):
        self.name, self.xp = name, xp

    def empty(self, n, dtype):
        """[n] of memory that was written to, so its pages are there."""
        return self.xp.ones(n, dtype)

    def around(self, test):
        """What is timed: the test's own run()."""
        return test.run


class Staged(Buffers):
    """Arrays of the host, each with a copy on the device, which is where data come from and go to."""

    def empty(self, n, dtype):
        return np.ones(n, dtype)

    def around(self, test):
        """Every vector that is sent comes from the device first, every one that was received goes there."""
        out, into = ([(x, self.xp.asarray(x)) for x in arrays] for arrays in (test.sent(), test.received()))

        def run():
            for x, device in out:
                x[:] = device.get() if hasattr(device, 'get') else device
            test.run()
            for x, device in into:
                device[:] = self.xp.asarray(x)
        return run
