"""A few bits an entry, rounded up or down at random so that the mean is right: QSGD (Alistarh et al. 2017, § 3).

As in the experiments of that paper a bucket is measured by its largest entry, not by its norm: fewer entries become 0.
"""

import numpy as np

BLOCK = 512  # entries of a bucket
BITS = 2, 4, 8  # of an entry
LOWEST = np.float32(2.0**-126)  # a step below this has no reciprocal: the whole bucket stays in r
GOLDEN = 0x9e3779b97f4a7c15  # 2^64 over the golden ratio


def words(n, bits):
    """uint32 of the code of n entries."""
    whole, rest = divmod(n, BLOCK)
    return whole*(1 + BLOCK*bits//32) + (rest > 0) + -(-rest*bits//32)


def pack(g, r, code, bits, stream, place):
    """v = g + r;  code ← a step and one multiple of it per entry;  r ← v − what `unpack` makes of the code.

    Of the s = 2^(bits − 1) − 1 steps from 0 to the largest |v| of its bucket, |v| is rounded to one of the two nearest:
    up if `uniform`(stream, place + k) is less than what lies beyond the lower one.

    g, r    [n] float32, finite
    code    [words(n, bits)] uint32, bucket by bucket: the bits of the step, float32, then two's complements, the
            lowest bits of a word first.  So a vector that is cut at multiples of BLOCK has the codes of its pieces
    """
    s = steps(bits)
    r += g
    for k, (v, part) in enumerate(buckets(r, code, bits)):
        part[:1], step = measure(v, s)
        part[1:] = packed(multiples(v, step, s, stream, place + k*BLOCK), bits)
    unpack_into(code, r, bits, np.subtract)


def unpack(code, out, bits, add=False):
    """out [n] ← the values of the code, or out + them."""
    unpack_into(code, out, bits, np.add if add else lambda old, new: new)


def unpack_into(code, out, bits, change):
    for x, part in buckets(out, code, bits):
        x[:] = change(x, unpacked(part[1:], bits)[:len(x)].astype(np.float32)*part[:1].view(np.float32))


def buckets(x, code, bits):
    """(entries, words) of each."""
    length = words(BLOCK, bits)
    for k in range(-(-len(x)//BLOCK)):
        yield x[k*BLOCK:(k + 1)*BLOCK], code[k*length:(k + 1)*length]


def steps(bits):
    """From 0 to the largest entry."""
    return (1 << bits - 1) - 1


def measure(v, s):
    """The step of a bucket, [1] float32, and its bits."""
    highest = np.nextafter(np.finfo(np.float32).max/np.float32(s), np.float32(0))  # s steps are finite
    step = np.minimum(np.abs(v).max(keepdims=True)/np.float32(s), highest)
    step[step < LOWEST] = 0
    return step.view(np.uint32), step


def multiples(v, step, s, stream, place):
    """[n] int32: v in steps, rounded at random."""
    if not step:
        return np.zeros(len(v), np.int32)
    size = np.abs(v)*(np.float32(1)/step)
    lower = np.floor(size)
    up = uniform(stream, place, len(v)) < size - lower
    return np.copysign(np.minimum(lower + up, s), v).astype(np.int32)


def uniform(stream, place, n):
    """The n random numbers of a stream from number `place` on: [n] float32, multiples of 2^-24 from 0 to below 1.

    SplitMix64 (Steele, Lea and Flood 2014): number k is a hash of stream + (k + 1)·GOLDEN, so any can be had at once.
    """
    z = np.uint64(stream) + np.arange(place + 1, place + 1 + n, dtype=np.uint64)*np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30)))*np.uint64(0xbf58476d1ce4e5b9)
    z = (z ^ (z >> np.uint64(27)))*np.uint64(0x94d049bb133111eb)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(40)).astype(np.float32)*np.float32(2.0**-24)


def packed(whole, bits):
    """[⌈n·bits/32⌉] uint32 of n numbers of so many bits."""
    each, mask = 32//bits, np.uint32((1 << bits) - 1)
    rows = np.pad(whole, (0, -len(whole) % each)).astype(np.uint32).reshape(-1, each)
    return np.bitwise_or.reduce((rows & mask) << shifts(bits), axis=1)


def unpacked(code, bits):
    """The numbers again, as int32; those that fill up the last word, too."""
    half = np.int32(1 << bits - 1)
    rows = (code[:, None] >> shifts(bits) & np.uint32((1 << bits) - 1)).astype(np.int32)
    return ((rows ^ half) - half).ravel()


def shifts(bits):
    return np.arange(0, 32, bits, dtype=np.uint32)
