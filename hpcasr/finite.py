"""Whether a vector is finite, at the cost of reading it once."""

import math

import numpy as np


@np.errstate(over='ignore', invalid='ignore')
def finite(x):
    """Whether all entries of x [n] are, and their squares can be summed: so can vectors of many learners, then."""
    return math.isfinite(float(x @ x))
