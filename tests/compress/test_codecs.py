"""What every codec promises (codec.Codec), on every backend."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.backend.base import Ops
from hpcasr.compress import CODECS, get_codec
from hpcasr.errors import BadInput
from hpcasr.kernels.reference import sparse

HIGHEST = np.finfo(np.float32).max
VARIANTS = {'fp16': {}, 'bf16': {}, 'onebit': {}, 'qsgd': {}, 'qsgd 4': {'bits': 4}, 'qsgd 2': {'bits': 2}, 'topk': {},
            'topk 0.3': {'ratio': 0.3}, 'topk 1': {'ratio': 1.0}, 'threshold': {}, 'threshold 0': {'threshold': 0.0}}
LENGTHS = [0, 1, 2, 7, 31, 32, 33, 511, 512, 513, 1023, 1024, 1025, 2049, 5000]
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
halves = st.floats(-float(HIGHEST)/2, float(HIGHEST)/2, width=32)
decades = st.builds(lambda seed, n: decade(np.random.default_rng(seed), n), st.integers(0, 99),
                    st.sampled_from(LENGTHS))
drawn = st.lists(halves, max_size=40).map(lambda x: np.array(x, 'f4')) | decades | st.builds(
    np.full, st.sampled_from(LENGTHS), halves, st.just('f4'))


def decade(rng, n):
    """[n] over twelve decades."""
    return (rng.standard_normal(n)*10.0**rng.integers(-9, 4, n)).astype('f4')


def codec(variant, ops=None, **options):
    known = {'ratio': 0.01, 'threshold': 0.5, 'bits': 8, 'seed': 3} | VARIANTS[variant] | options
    return get_codec(SimpleNamespace(method=variant.split()[0], **known), ops or Ops())


def send(codec, g, r, place=(0, 0, 0)):
    """(what of the message is sent, what is decoded)."""
    message, out = np.full(codec.size(len(g)), 0xa5, np.uint8), np.full_like(g, np.nan)
    codec.encode(g, r, message, place)
    message = message[:codec.length(message)]
    codec.decode(message, out)
    return message, out


def test_every_codec_is_tested_here():
    assert {variant.split()[0] for variant in VARIANTS} == set(CODECS)


@pytest.mark.parametrize('variant', VARIANTS)
@settings(deadline=None, max_examples=50)
@given(g=drawn, again=st.booleans())
def test_what_a_message_does_not_say_is_the_residual(variant, g, again, ops):
    """Of v = g + r: r' is v − decode(m), bit for bit, and no more is lost than rounding that difference."""
    one = codec(variant, ops)
    r = np.roll(g, 1)[::-1].copy() if again else np.zeros_like(g)
    v, before = g + r, g.copy()
    message, decoded = send(one, g, r)
    assert len(message) <= one.size(len(g)) and g.tobytes() == before.tobytes()
    assert np.isfinite(decoded).all() and r.tobytes() == (v - decoded).tobytes()
    whole, most = decoded.astype(float) + r, np.maximum(np.abs(v), np.abs(decoded)).astype(float)
    assert (np.abs(whole - v) <= 2.0**-23*most).all()
    if one.exact:
        assert np.array_equal(decoded + r, v)
    total = g.copy()
    with np.errstate(over='ignore'):
        one.add(message, total)
        assert np.array_equal(total, g + decoded)


@pytest.mark.parametrize('variant', VARIANTS)
@pytest.mark.parametrize('n', [1, 1500])
def test_nothing_is_lost_over_many_steps(variant, n, ops):
    """Σ decoded + the last residual = Σ g, to 1e-5."""
    rng, one, r = np.random.default_rng(0), codec(variant, ops), np.zeros(n, 'f4')
    sums = np.zeros((3, n))
    for step in range(60):
        g = decade(rng, n) if step % 2 else rng.standard_normal(n).astype('f4')
        sums += g, send(one, g, r, (1, step, 0))[1], np.abs(g)
    assert (np.abs(sums[1] + r - sums[0]) <= 1e-5*sums[2]).all()


def formula(name, n, one, kept):
    """Bytes, written out once more."""
    blocks, mask = -(-n//1024), 4*-(-n//32)
    if name == 'qsgd':
        return sum(4 + 4*-(-min(512, n - lo)*one.bits//32) for lo in range(0, n, 512))
    return {'fp16': 2*n, 'bf16': 2*n, 'onebit': 8*blocks + mask, 'topk': 4*kept + min(4*kept, mask),
            'threshold': 8 + 4*kept + min(4*kept, mask) if n else 0}[name]


@pytest.mark.parametrize('variant', VARIANTS)
def test_bytes_are_those_of_the_formula(variant, ops):
    one, name = codec(variant, ops), variant.split()[0]
    for n in LENGTHS:
        g = np.random.default_rng(n).standard_normal(n).astype('f4')
        kept = int((np.abs(g) >= one.options.threshold).sum()) if name == 'threshold' else \
            min(n, max(1, -int(-n*one.options.ratio*1000//1000))) if name == 'topk' else 0
        message, _ = send(one, g, np.zeros_like(g))
        assert len(message) == formula(name, n, one, kept), n
        assert one.size(n) == (len(message) if name != 'threshold' else formula(name, n, one, n))


def test_how_many_times_fewer_bytes():
    n = 1_000_003
    fewer = {variant: 4*n/codec(variant).size(n) for variant in VARIANTS}
    assert fewer['onebit'] >= 28 and fewer['topk'] >= 45 and fewer['fp16'] == fewer['bf16'] == 2
    assert fewer['qsgd'] > 3.9 and fewer['qsgd 4'] > 7.8 and fewer['qsgd 2'] > 15.5 and fewer['topk 1'] > 0.96


@pytest.mark.parametrize('variant', [v for v in VARIANTS if codec(v).every])
def test_a_vector_may_be_cut_at_its_blocks(variant, ops):
    one, g = codec(variant, ops), decade(np.random.default_rng(0), 5000)
    whole, r = np.zeros_like(g), np.zeros_like(g)
    decoded = send(one, g, whole, (2, 9, 100))[1]
    cuts = [0, one.every, 3*one.every, 5000]
    parts = [send(one, g[a:b], r[a:b], (2, 9, 100 + a))[1] for a, b in pairwise(cuts)]
    assert decoded.tobytes() == np.concatenate(parts).tobytes() and r.tobytes() == whole.tobytes()


@pytest.mark.parametrize('variant', VARIANTS)
def test_every_backend_writes_the_same_message(variant, ops):
    for n in LENGTHS:
        g, found = decade(np.random.default_rng(n), n), []
        for each in ops, Ops():
            r = g[::-1].copy()
            found.append([a.tobytes() for a in (*send(codec(variant, each), g, r, (0, n, 5)), r)])
        assert found[0] == found[1]


@pytest.mark.parametrize('variant', ['topk 1', 'threshold 0'])
def test_with_everything_sent_nothing_is_changed(variant, ops):
    g, r = decade(np.random.default_rng(0), 777), np.zeros(777, 'f4')
    assert send(codec(variant, ops), g, r)[1].tobytes() == g.tobytes() and not r.any()


@pytest.mark.parametrize('ratio, n, k', [(0.07, 100, 7), (0.01, 300, 3), (0.01, 301, 4), (1e-9, 5, 1), (1.0, 9, 9)])
def test_topk_takes_the_share_as_it_is_written(ratio, n, k):
    assert codec('topk', ratio=ratio).count(n) == k and codec('topk', ratio=ratio).size(n) == 4*sparse.words(n, k)


def test_topk_of_equal_entries_takes_the_first(ops):
    g = np.array([1, -2, 2, 0, 2, -2], 'f4')
    decoded = send(codec('topk', ops, ratio=0.5), g, np.zeros(6, 'f4'))[1]
    assert decoded.tolist() == [0, -2, 2, 0, 2, 0]


def test_fp16_saturates_and_pays_back_the_rest(ops):
    one, r, total = codec('fp16', ops), np.zeros(2, 'f4'), np.zeros(2)
    for step in range(4):
        g = np.array([2e5, -7e4] if not step else [0, 0], 'f4')
        decoded = send(one, g, r)[1]
        assert step or decoded.tolist() == [65504, -65504]
        total += decoded
    assert total.tolist() == [2e5, -7e4] and not r.any()


def test_random_numbers_are_functions_of_learner_step_entry_and_seed(ops):
    g = np.random.default_rng(0).standard_normal(600).astype('f4')

    def of(place, seed=0):
        return send(codec('qsgd', ops, seed=seed), g, np.zeros_like(g), place)[0].tobytes()
    places = [(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, 0, 512)]
    assert len({of(place) for place in places} | {of(places[0], seed=1)}) == 6 and of(places[0]) == of(places[0])


def test_qsgd_knows_numbers_of_bits():
    with pytest.raises(BadInput, match=r'compress\.bits = 3; give one of 2, 4, 8'):
        codec('qsgd', bits=3)


@pytest.mark.parametrize('variant', VARIANTS)
def test_an_infinite_entry_is_not_silently_swallowed_where_it_lies(variant):
    """Who encodes refuses it; should one come through, the residual at least is not finite: the next sum shows it."""
    g = np.ones(64, 'f4')
    g[5] = np.inf
    r = np.zeros_like(g)
    with np.errstate(all='ignore'):
        assert not np.isfinite(send(codec(variant), g, r)[1] + r).all()
