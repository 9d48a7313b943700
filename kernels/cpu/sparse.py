"""A few entries and where they are (reference/sparse.py), with the same bits.

The magnitudes of float32 are in the order of their bits without the sign.  What parts the largest from the others is
guessed from a sample, a little too low: then few are left to choose from, exactly, after one pass over all.
"""

from math import sqrt

import numba
import numpy as np

from hpcasr.kernels.cpu.bits import REST, U, bits
from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.reference.sparse import WORD

DIGIT, DIGITS = 8, 4  # bits of a digit, digits of a word
SAMPLE = 16384  # entries, or up to twice as many
SEQUENCE = U(0x077cb531)  # of de Bruijn: any 5 bits in a row occur in it once
PLACE = np.argsort([(0x077cb531 << k & 0xffffffff) >> 27 for k in range(WORD)])
SURE = 4  # standard deviations by which more of the sample are counted than the share that is wanted


@numba.njit(nogil=True, inline='always')
def magnitude(x):
    return U(bits(x) & REST)


@numba.njit(nogil=True)
def parting(sizes, count):
    """(the `count`-th largest, how many that are equal to it are needed to have `count`); count from 1.

    Found digit by digit, from the first: by counting how many there are of each.
    """
    counts, least, equal = np.empty(1 << DIGIT, np.int64), U(0), count
    for place in range(DIGITS - 1, -1, -1):
        shift = U(DIGIT*place)
        counts[:] = 0
        for size in sizes:
            upper = U(size >> shift)
            if U(upper >> U(DIGIT)) == least:
                counts[upper & U((1 << DIGIT) - 1)] += 1
        digit = len(counts) - 1
        while counts[digit] < equal:
            equal -= counts[digit]
            digit -= 1
        least = U(U(least << U(DIGIT)) | U(digit))
    return least, equal


@numba.njit(nogil=True)
def guess(g, r, count):
    """Bits of a magnitude that hardly fewer than `count` of v = g + r reach, nor many more."""
    step = max(1, len(g)//SAMPLE)
    sizes = np.empty((len(g) + step - 1)//step, np.uint32)
    for j in range(len(sizes)):
        sizes[j] = magnitude(g[j*step] + r[j*step])
    share = len(sizes)*count/len(g)
    return parting(sizes, min(len(sizes), int(share + SURE*sqrt(share)) + 1))[0]


@numba.njit(nogil=True)
def add(g, r, least):
    """r ← v = g + r;  how many magnitudes have the bits `least` or more."""
    count = 0
    for k in range(len(g)):
        v = g[k] + r[k]
        r[k] = v
        count += magnitude(v) >= least
    return count


@numba.njit(nogil=True)
def find(v, least, count):
    """[count] uint32: where the `count` entries are whose magnitude has the bits `least` or more."""
    places, at = np.empty(count + 1, np.uint32), 0
    for k in range(len(v)):
        places[at] = k  # whether it counts or not: no branch to be guessed wrong
        at += magnitude(v[k]) >= least
    return places[:count]


@numba.njit(nogil=True)
def choose(v, places, count):
    """The first `count` of places ← those of the largest entries there, of equal ones the first."""
    sizes = np.empty(len(places), np.uint32)
    for j in range(len(places)):
        sizes[j] = magnitude(v[places[j]])
    least, equal = parting(sizes, count)
    at = 0
    for j in range(len(places)):
        if sizes[j] > least or (sizes[j] == least and equal > 0):
            equal -= sizes[j] == least
            places[at] = places[j]
            at += 1


@numba.njit(nogil=True)
def take(v, places, code):
    """code ← v there and where it was;  v ← 0 there."""
    where = code[:len(code) - len(places)]
    values = code[len(where):].view(np.float32)
    for j in range(len(places)):
        values[j] = v[places[j]]
        v[places[j]] = 0
    if len(where) == len(places):
        where[:] = places
        return
    where[:] = 0
    for k in places:
        where[k//WORD] |= U(1) << U(k % WORD)


@compiled('void(f4[::1], f4[::1], i8, u4[::1])')
def largest(g, r, count, code):
    """As reference.largest."""
    least = guess(g, r, count) if count else U(0)
    found = add(g, r, least)
    if not count:
        return
    if found < count:  # the sample was unlike the rest
        least, found = U(0), len(g)
    places = find(r, least, found)
    choose(r, places, count)
    take(r, places[:count], code)


@compiled('i8(f4[::1], f4[::1], f4, u4[::1])')
def above(g, r, least, code):
    """As reference.above."""
    count = add(g, r, bits(least))
    take(r, find(r, bits(least), count), code[:count + min(count, (len(g) + WORD - 1)//WORD)])
    return count


@numba.njit(nogil=True, inline='always')
def lowest(word):
    """Which is the lowest bit that is 1 (Leiserson, Prokop and Randall 1998): the upper 5 bits tell all 32 apart."""
    return PLACE[U(U(word & U(~word + U(1)))*SEQUENCE) >> U(27)]


@compiled('void(u4[::1], i8, f4[::1], b1)')
def scatter(code, count, out, add):
    """As reference.scatter."""
    where = len(code) - count
    values, at = code[where:].view(np.float32), 0
    if not add:
        out[:] = 0
    if where == count:
        for k in range(count):
            out[code[k]] = out[code[k]] + values[k] if add else values[k]
        return
    for w in range(where):
        word = code[w]
        while word:
            k = w*WORD + lowest(word)
            out[k] = out[k] + values[at] if add else values[at]
            at, word = at + 1, U(word & U(word - U(1)))
