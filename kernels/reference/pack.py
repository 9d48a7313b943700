"""Vectors in 16 bits an entry: half precision of IEEE 754, or bf16, the upper half of a float32."""

import numpy as np

LARGEST = {'fp16': np.float32(65504), 'bf16': np.uint32(0x7f7f0000).view(np.float32)}  # what larger entries become


def pack(kind, g, r, code):
    """v = g + r;  code ← v, the nearest, of two the even one;  r ← v − what `unpack` makes of the code.

    g, r   [n] float32, finite;  code [n] uint16.  Nothing becomes infinite: what is larger than LARGEST stays in r
    """
    r += g
    code[:] = CODES[kind](np.clip(r, -LARGEST[kind], LARGEST[kind]))
    r -= VALUES[kind](code)


def unpack(kind, code, out, add=False):
    """out ← the values of the code [n], or out + them."""
    if add:
        out += VALUES[kind](code)
    else:
        out[:] = VALUES[kind](code)


def upper(v):
    """The bf16 nearest to v, of two the even one."""
    bits = v.view(np.uint32)
    return ((bits + ((bits >> 16) & 1) + 0x7fff) >> 16).astype(np.uint16)


CODES = {'fp16': lambda v: v.astype(np.float16).view(np.uint16), 'bf16': upper}
VALUES = {'fp16': lambda code: code.view(np.float16).astype(np.float32),
          'bf16': lambda code: (code.astype(np.uint32) << 16).view(np.float32)}
