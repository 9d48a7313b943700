"""A float32 as the whole number that its bits are, and back."""

import numba
import numpy as np

U = np.uint32  # Numba makes 64 bits, half as many in a vector, of any whole number that is not called so at every step
SIGN, REST = U(0x80000000), U(0x7fffffff)


@numba.njit(nogil=True, inline='always')
def bits(x):
    return np.float32(x).view(np.uint32)


@numba.njit(nogil=True, inline='always')
def value(x):
    return U(x).view(np.float32)
