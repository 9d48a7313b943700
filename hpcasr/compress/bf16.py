"""bf16 (Kalamkar et al. 2019, arXiv 1905.12322): 8 bits of a number, with the range of float32."""

from hpcasr.compress.sixteen import Sixteen


class Bf16(Sixteen):
    """m = the upper half of v, rounded; nothing saturates but what lies less than half a step below infinity.

    What the upper half lacks is a float32 itself, so no bit is lost: decode(m) + r' = v.
    """

    name, exact = 'bf16', True
