"""A few entries, exactly, and where they are; the others stay behind."""

import numpy as np

WORD = 32  # bits


def words(n, count):
    """uint32 of the code of `count` of n entries: their values, and their places or n bits, whatever is shorter."""
    return count + min(count, -(-n//WORD))


def largest(g, r, count, code):
    """v = g + r;  code ← the `count` entries of largest |v|, of equal ones the first;  r ← v without them.

    g, r   [n] float32, finite
    code   [words(n, count)] uint32: the places, in order, or from ⌈n/32⌉ places on a mask, the lowest bit of a word
           first; then the bits of the values
    """
    r += g
    order = np.argsort(-np.abs(r), kind='stable')[:count]
    take(r, np.sort(order), code)


def above(g, r, least, code):
    """v = g + r;  code ← the entries with |v| ≥ least, as of `largest`;  r ← v without them;  how many they are.

    code   [words(n, n)] uint32; what is not needed stays what it is
    """
    r += g
    found = np.flatnonzero(np.abs(r) >= np.float32(least))
    take(r, found, code[:words(len(r), len(found))])
    return len(found)


def take(v, found, code):
    """code ← v[found] and where it was;  v[found] ← 0."""
    where, values = halves(code, len(found))
    if len(where) < len(found):
        mask = np.zeros(WORD*len(where), bool)
        mask[found] = True
        where[:] = np.packbits(mask, bitorder='little').view('<u4')
    else:
        where[:] = found
    values[:] = v[found]
    v[found] = 0


def scatter(code, count, out, add=False):
    """out [n] ← the `count` entries of the code, 0 elsewhere; or out + them."""
    where, values = halves(code, count)
    if len(where) < count:
        where = np.flatnonzero(np.unpackbits(where.astype('<u4').view(np.uint8), bitorder='little'))
    if add:
        out[where] += values
    else:
        out[:] = 0
        out[where] = values  # not += : of -0.0 that would make 0.0


def halves(code, count):
    """Where the entries are, and their values as float32."""
    where = len(code) - count
    return code[:where], code[where:].view(np.float32)
