"""Matrices of any layout for the tests of the kernels."""

import numpy as np
from hypothesis import strategies as st

LAYOUTS = {
    'rows': lambda x: x,
    'columns': lambda x: np.asfortranarray(x),
    'part of wider rows': lambda x: np.pad(x, ((0, 0), (2, 3)))[:, 2:2 + x.shape[1]],
    'part of taller columns': lambda x: np.asfortranarray(np.pad(x, ((1, 4), (0, 0))))[1:1 + x.shape[0]],
    'every other row': lambda x: np.repeat(x, 2, 0)[::2],
    'every other column': lambda x: np.repeat(x, 2, 1)[:, ::2],
    'from the last row': lambda x: x[::-1].copy()[::-1],
    'from the last column': lambda x: x[:, ::-1].copy()[:, ::-1],
    'columns from the last': lambda x: np.asfortranarray(x[:, ::-1])[:, ::-1],
}
layouts = st.sampled_from(list(LAYOUTS))
# around those of a vector, a tile, a panel, and of what is packed at a time
lengths = st.integers(0, 140) | st.sampled_from([1, 3, 6, 7, 16, 31, 32, 63, 64, 65, 192, 193, 257, 511, 512, 513])


def error(found, expected):
    """Largest difference, as a part of the largest entry; 0 of nothing."""
    most = np.abs(expected).max(initial=0)
    return np.abs(found - expected).max(initial=0)/(most or 1)
