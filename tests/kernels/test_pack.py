"""Vectors in fewer bytes: the kernels beside definitions, and every backend beside the reference, bit for bit."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpcasr.backend.base import Ops
from hpcasr.kernels.reference import pack, sparse, stochastic, two_level

REFERENCE = Ops()
HIGHEST = np.finfo(np.float32).max
# around those of a word, of partial sums, a bucket and a block
LENGTHS = st.integers(0, 70) | st.sampled_from([96, 511, 512, 513, 1023, 1024, 1025, 1088, 2048, 2500, 3073])
SHAPES = {
    'normal': lambda rng, n: rng.standard_normal(n),
    'twelve decades': lambda rng, n: rng.standard_normal(n)*10.0**rng.integers(-9, 4, n),
    'subnormal': lambda rng, n: rng.standard_normal(n)*1e-40,
    'subnormal halves': lambda rng, n: rng.standard_normal(n)*1e-6,
    'huge': lambda rng, n: HIGHEST*rng.choice([-1, -0.9999, 0.3, 1], n),
    'few values': lambda rng, n: rng.integers(-2, 3, n),
    'equal': lambda rng, n: np.full(n, -0.75),
    'none negative': lambda rng, n: rng.random(n),
    'zero': lambda rng, n: rng.choice([0.0, -0.0], n),
    'any bits': lambda rng, n: finite(rng.integers(0, 1 << 32, n, dtype=np.uint64).astype('u4').view('f4')),
}
vectors = st.builds(lambda n, shape, seed: SHAPES[shape](np.random.default_rng(seed), n).astype('f4'),
                    LENGTHS, st.sampled_from(list(SHAPES)), st.integers(0, 99))
KINDS = ['fp16', 'bf16', 'levels', 2, 4, 8, 'largest', 'above']


def finite(x):
    return np.where(np.isfinite(x), x, np.float32(0))


def write(ops, kind, g, r, share=0.1):
    """(code, entries of a sparse code)."""
    n, count = len(g), round(share*len(g))
    if kind in pack.LARGEST:
        code = np.zeros(n, np.uint16)
        ops.pack(kind, g, r, code)
    elif kind == 'levels':
        code = np.zeros(two_level.words(n), np.uint32)
        ops.pack_levels(g, r, code)
    elif kind == 'largest':
        code = np.zeros(sparse.words(n, count), np.uint32)
        ops.largest(g, r, count, code)
    elif kind == 'above':
        code = np.zeros(sparse.words(n, n), np.uint32)
        least = np.sort(np.abs(g + r))[::-1][min(count, n - 1)] if n else 1.0
        count = ops.above(g, r, float(least), code)
        code = code[:sparse.words(n, count)]
    else:
        code = np.zeros(stochastic.words(n, kind), np.uint32)
        ops.pack_random(g, r, code, kind, (1 << 64) - 12345, 3*512)
    return code, count


def read(ops, kind, code, count, out, add=False):
    if kind in pack.LARGEST:
        ops.unpack(kind, code, out, add)
    elif kind == 'levels':
        ops.unpack_levels(code, out, add)
    elif kind in ('largest', 'above'):
        ops.scatter(code, count, out, add)
    else:
        ops.unpack_random(code, out, kind, add)


@pytest.mark.parametrize('kind', KINDS)
@settings(deadline=None, max_examples=60)
@given(g=vectors, share=st.sampled_from([0.01, 0.1, 0.5, 0.99]), both=st.booleans())
def test_the_bits_of_the_reference(kind, g, share, both, ops):
    start = np.full_like(g, 0.25) if both and np.abs(g).max(initial=0) < 1e30 else np.zeros_like(g)
    before, found = g.copy(), []
    for each in REFERENCE, ops:
        r = start.copy()
        code, count = write(each, kind, g, r, share)
        assigned, added = np.full_like(g, np.nan), np.ones_like(g)
        read(each, kind, code, count, assigned)
        read(each, kind, code, count, added, add=True)
        found.append([a.tobytes() for a in (code, r, assigned, added)])
        assert r.tobytes() == (g + start - assigned).tobytes()
        assert added.tobytes() == (assigned + np.float32(1)).tobytes()
    assert found[0] == found[1] and g.tobytes() == before.tobytes()


def patterns():
    """Finite float32 around every half and every bf16: it, what is beside it, and around the middle to the next."""
    halves = np.arange(0x7c00, dtype='u2').view(np.float16).astype('f4').view('u4')
    upper = np.arange(0x7f80, dtype='u4') << 16
    near = np.array([0, 1, 0xfff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001, 0xffff], 'u4')
    x = np.concatenate([halves, upper])[:, None] + near
    return finite(np.concatenate([x.ravel().view('f4'), -x.ravel().view('f4')]))


@pytest.mark.parametrize('kind', pack.LARGEST)
def test_sixteen_bits_are_the_nearest_ones(kind, ops):
    """By the definition: no other number that has a code is nearer, and of two as near it is the even one."""
    v, r, code = patterns(), np.zeros(len(patterns()), 'f4'), np.empty(len(patterns()), 'u2')
    ops.pack(kind, v, r, code)
    every = np.arange(0x7c00 if kind == 'fp16' else 0x7f80, dtype='u2')  # of those that are not negative and finite
    values = np.empty(len(every), 'f4')
    ops.unpack(kind, every, values)
    assert (np.diff(values) > 0).all() and values[-1] == pack.LARGEST[kind]
    size = np.minimum(np.abs(v).astype(float), 2*float(values[-1]))  # beyond, float64 would see no difference
    place = (code & 0x7fff).astype(int)
    error = np.abs(values[place] - size)
    for step in -1, 1:
        other = np.clip(place + step, 0, len(every) - 1)
        further = np.abs(values[other] - size)
        assert ((error < further) | (other == place) | ((error == further) & (place % 2 == 0))).all()
    assert ((code >> 15 == 1) == (v < 0)).all()  # -0.0 + 0.0 is 0.0


@given(n=st.integers(1, 1024), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
@example(n=1024, seed=0)
def test_levels_are_the_means_of_both_signs(n, seed, ops):
    v, r = np.random.default_rng(seed).standard_normal(n).astype('f4'), np.zeros(n, 'f4')
    code, out = np.empty(two_level.words(n), np.uint32), np.empty(n, 'f4')
    ops.pack_levels(v, r, code)
    ops.unpack_levels(code, out)
    for chosen in v < 0, v >= 0:
        assert len(set(out[chosen])) <= 1
        assert not chosen.any() or np.isclose(out[chosen][0], v[chosen].astype(float).mean(), rtol=1e-7, atol=0)


@pytest.mark.parametrize('bits', stochastic.BITS)
def test_rounding_at_random_is_to_a_neighbour_and_right_in_the_mean(bits, ops):
    n, rounds, s = 512, 400, stochastic.steps(bits)
    v = np.linspace(-1, 1, n, dtype='f4')
    code, out, total = np.empty(stochastic.words(n, bits), np.uint32), np.empty(n, 'f4'), np.zeros(n)
    for stream in range(rounds):
        ops.pack_random(v, np.zeros(n, 'f4'), code, bits, stream << 40, 0)
        ops.unpack_random(code, out, bits)
        assert (np.abs(out - v)*s < 1 + 1e-5).all() and np.abs(out*s - np.round(out*s)).max() < 1e-4
        total += out
    deviation = 0.5/s/np.sqrt(rounds)  # at most, of a mean
    assert np.abs(total/rounds - v).max() < 5*deviation and abs((total/rounds - v).mean()) < 5*deviation/np.sqrt(n)


def test_random_numbers_are_uniform_and_those_of_other_places_and_streams_are_others():
    u = stochastic.uniform(7, 0, 1 << 16)
    counts = np.bincount((u*256).astype(int), minlength=256)
    assert 0 <= u.min() and u.max() < 1 and ((counts - 256)**2/256).sum() < 256 + 5*np.sqrt(512)
    assert np.array_equal(stochastic.uniform(7, 1000, 50), u[1000:1050])
    others = np.stack([u[:-1], u[1:], stochastic.uniform(8, 0, 65535), stochastic.uniform(7 + (1 << 40), 0, 65535)])
    assert np.abs(np.corrcoef(others) - np.eye(4)).max() < 5/256


def test_random_numbers_are_those_of_splitmix64():
    """The first numbers of the generator that started at 1234567, as published with its source."""
    published = 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431
    assert (stochastic.uniform(1234567, 0, 4)*2.0**24).tolist() == [number >> 40 for number in published]


@given(g=vectors, share=st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_no_entry_that_stays_is_larger_than_one_that_is_taken(g, share, ops):
    r, out = np.zeros_like(g), np.empty_like(g)
    code, count = write(ops, 'largest', g, r, share)
    read(ops, 'largest', code, count, out)
    places = sparse.halves(code, count)[0]
    taken = np.isin(np.arange(len(g)), places) if len(places) == count else \
        np.unpackbits(places.view(np.uint8), bitorder='little')[:len(g)].astype(bool)
    assert taken.sum() == count and np.array_equal(out[taken], g[taken]) and np.array_equal(r[~taken], g[~taken])
    if 0 < count < len(g):
        least = np.abs(g[taken]).min()
        assert np.abs(g[~taken]).max() <= least
        level = np.abs(g) == least  # of these the first are taken
        assert (np.diff(taken[level].astype(int)) <= 0).all()


@pytest.mark.parametrize('count', [1, 1000, 16_000, 30_000, 99_999])
def test_the_largest_of_a_long_vector_that_is_unlike_its_every_sixth_entry(count, ops):
    """From so many entries on a sample is looked at first."""
    g = np.random.default_rng(0).standard_normal(100_000).astype('f4')
    g[::6] *= 1e3
    found = []
    for each in REFERENCE, ops:
        r, code = np.zeros_like(g), np.zeros(sparse.words(len(g), count), np.uint32)
        each.largest(g, r, count, code)
        found.append((code.tobytes(), r.tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_is_written_beside(kind, ops):
    for n in 1, 33, 700, 1500:
        g, r = np.random.default_rng(n).standard_normal((2, n)).astype('f4')
        code, count = write(REFERENCE, kind, g, r.copy())
        around, out = np.full(len(code) + 64, 7, code.dtype), np.full(n + 64, 7, 'f4')
        inner, x = around[32:32 + len(code)], out[32:32 + n]
        x[:] = r
        if kind in pack.LARGEST:
            ops.pack(kind, g, x, inner)
        elif kind == 'levels':
            ops.pack_levels(g, x, inner)
        elif kind == 'largest':
            ops.largest(g, x, count, inner)
        elif kind == 'above':
            ops.above(g, x, float(np.sort(np.abs(g + r))[::-1][round(0.1*n)]), inner)
        else:
            ops.pack_random(g, x, inner, kind, 5, 0)
        read(ops, kind, inner, count, x)
        for a in around, out:
            assert (a[:32] == 7).all() and (a[-32:] == 7).all()
