"""Half precision of IEEE 754: 11 bits of a number between 6e-8 and 65504."""

from hpcasr.compress.sixteen import Sixteen


class Fp16(Sixteen):
    """m = v rounded to half precision; beyond ±65504 it saturates, and the residual keeps the rest.

    Sums of gradients over many frames may be large: what saturates is sent in several steps.
    """

    name = 'fp16'
