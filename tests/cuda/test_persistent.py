import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.kernels.cuda import barrier, fragments, mma, persistent
from hpcasr.kernels.cuda.launch import SIMULATED
from hpcasr.kernels.cuda.persistent import Plan, Room, plan
from hpcasr.kernels.reference import lstm as reference
from hpcasr.kernels.reference.bf16 import rounded
from tests.cuda import blocks
from tests.cuda.memory import bf16, device, error, host, poison

emulated = pytest.mark.skipif(not SIMULATED, reason='the kernels themselves are run')
CLOSE = 1e-3  # a state may be rounded the other way than in another order of sums


class Case:
    """Inputs of a layer, and what reference/lstm.py makes of them, products of bf16."""

    def __init__(self, T, B, H, K, reverse, masked, seed=0):
        rng = np.random.default_rng([T, B, H, seed])
        self.shape, self.reverse, self.rng = (K, T, B, H), reverse, rng
        self.x, self.b = rng.normal(size=(K, T, B, 4*H)).astype('f4'), rng.normal(size=(K, 4*H)).astype('f4')
        self.Wh, self.dy = rounded((rng.normal(size=(K, H, 4*H))/np.sqrt(H)).astype('f4')), rng.normal(
            size=(T, B, K*H)).astype('f4')
        self.mask = rng.random((T, B)) < 0.7 if masked else np.empty((0, 0), bool)
        parts = [self.exact(k) for k in range(K)]
        h, self.gates, self.c, self.dz = (np.stack(part) for part in zip(*parts, strict=True))
        self.y, self.dz = rounded(np.concatenate(h, -1)), rounded(self.dz)

    def exact(self, k):
        turned, H, mask = (k + self.reverse) % 2, self.shape[-1], self.mask if len(self.mask) else None
        flip = slice(None, None, -1 if turned else 1)
        gates = self.x[k][flip] + self.b[k]
        h, c, tanh_c = reference.run(gates, self.Wh[k], None if mask is None else mask[flip], rounded)
        dy = self.dy[flip][..., k*H:(k + 1)*H]
        dz = reference.back(dy, reference.slopes(gates, c, tanh_c), gates, tanh_c, self.Wh[k], rounded)
        return h[1:][flip], gates[flip], c[1:][flip], dz.reshape(gates.shape)[flip]

    def forward(self, plan, counters, **instead):
        """(y, gates, c) as the blocks leave them."""
        K, T, B, H = self.shape
        W, z, c, y = bf16(self.Wh), self.x.copy(), np.full((K, T, B, H), np.nan, 'f4'), blocks.once(T, B, K*H)
        blocks.launch(persistent.make_states, H, persistent.grid(plan, K, H), (
            int(self.reverse), plan.rows, T, B, W[0], W[-1], self.b[0], self.b[-1], self.mask, z, c, y, counters),
            self.rng, **instead)
        return blocks.floats(y), z, c

    def backward(self, plan, counters, **instead):
        K, T, B, H = self.shape
        W, dc, dz = bf16(self.Wh), np.full((K, B, H), np.nan, 'f4'), blocks.once(K, T, B, 4*H)
        blocks.launch(persistent.make_slopes, H, persistent.grid(plan, K, H), (
            int(self.reverse), plan.rows, T, B, W[0], W[-1], self.gates, self.c, self.dy, dc, dz, counters), self.rng,
            **instead)
        return blocks.floats(dz)


def zeros(K, plan):
    return np.zeros(persistent.counters(plan, K), np.uint32)


@emulated
@pytest.mark.parametrize(('T', 'B', 'H', 'K', 'reverse', 'masked', 'shares'), [
    (3, 5, 64, 2, False, True, 2), (1, 1, 64, 2, False, False, 1), (2, 35, 64, 1, True, False, 1),
    (3, 3, 128, 1, False, True, 2)])
def test_a_layer_as_its_blocks_compute_it(T, B, H, K, reverse, masked, shares):
    """The kernels' own source, on emulated tensor cores: odd lengths, tails, masks, more rows than at once."""
    case, own = Case(T, B, H, K, reverse, masked), Plan(shares, -(-B//shares))
    counters = zeros(K, own)
    for found, expected in zip(case.forward(own, counters), (case.y, case.gates, case.c), strict=True):
        assert error(found, expected) < CLOSE
    assert not counters.any()  # as they have to be for what comes next
    assert error(case.backward(own, counters), case.dz) < CLOSE
    assert not counters.any()


@emulated
@given(T=st.integers(1, 3), B=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=4, deadline=None)
def test_no_order_of_the_blocks_matters(T, B, seed):
    case, own = Case(T, B, 64, 1, False, True, seed), Plan(min(B, 2), -(-B//min(B, 2)))
    counters = zeros(1, own)
    y, *_ = case.forward(own, counters)
    assert error(y, case.y) < CLOSE and error(case.backward(own, counters), case.dz) < CLOSE
    assert not counters.any()


@emulated
@pytest.mark.parametrize('instead', ['wait', 'syncthreads'])
@pytest.mark.parametrize('way', ['forward', 'backward'])
def test_without_a_barrier_it_is_seen(way, instead):
    case, own = Case(4, 2, 64, 1, False, False), Plan(1, 2)
    with pytest.raises(AssertionError, match='nobody has written' if instead == 'wait' else 'no barrier'):
        getattr(case, way)(own, zeros(1, own), **{instead: lambda *args: None})


@pytest.mark.skipif(SIMULATED, reason='no barriers between blocks in the simulator')
@pytest.mark.parametrize(('T', 'B', 'H', 'K', 'reverse', 'masked'), [
    (21, 128, 512, 2, False, False), (5, 35, 512, 2, False, True), (3, 1, 64, 1, True, True),
    (7, 70, 448, 1, False, True)])
def test_a_layer_on_a_gpu(T, B, H, K, reverse, masked):
    """Again and again, with the same counters: states and derivatives, and every time the same bits."""
    case = Case(T, B, H, K, reverse, masked)
    own = plan(T, B, H, K, persistent.room(H))
    assert own, 'this GPU has no room for it'
    counters, found = device(zeros(K, own)), []
    weights, bias = [device(W, 'u2') for W in case.Wh], [device(b) for b in case.b]
    mask, dy = device(case.mask) if masked else None, device(case.dy)
    for _ in range(5):
        z, c, y, dc = device(case.x), poison(K, T, B, H), poison(T, B, K*H, dtype='u2'), poison(K, B, H)
        dz = poison(K, T, B, 4*H, dtype='u2')
        persistent.forward(own, weights, bias, mask, z, c, y, counters, reverse)
        persistent.backward(own, weights, z, c, dy, dc, dz, counters, reverse)
        found.append([host(x) for x in (y, z, c, dz)])
    for one, other, expected in zip(found[0], found[-1], (case.y, case.gates, case.c, case.dz), strict=True):
        assert error(one, expected) < 1e-2 and np.array_equal(one, other)
    assert not host(counters).any()


def test_every_number_has_one_place():
    """The registers of a warp together are all of both factors, and of the result, once."""
    lanes = [(lane >> 2, lane & 3) for lane in range(32)]
    left = {(q + column, 8*p + k, m, tile) for q, p in lanes for m in range(2) for tile in range(4)
            for register in range(4) for i in range(2) for column, k in [fragments.weight(m, tile, register, i)]}
    assert {place[:2] for place in left} == {(column, k) for column in range(32) for k in range(64)}
    assert len(left) == 32*64
    for n in range(4):
        right = [(8*p + k, q + row) for q, p in lanes for tile in range(4) for register in range(2) for i in range(2)
                 for k, row in [fragments.state(n, tile, register, i)]]
        assert sorted(right) == [(k, row) for k in range(64) for row in range(8*n, 8*n + 8)]
    out = [(q + column, 2*p + row) for q, p in lanes for m in range(2) for n in range(4) for register in range(4)
           for column, row in [fragments.result(m, n, register)]]
    assert sorted(out) == [(column, row) for column in range(32) for row in range(32)]


@pytest.mark.parametrize('n', range(4))
@pytest.mark.parametrize('tile', [0, 2, 6])
def test_a_load_of_16_bytes_has_the_states_of_two_tiles(n, tile):
    first, row = fragments.state(n, tile, 0, 0)
    places = [fragments.state(n, tile + half, register, i) for half, register, i in np.ndindex(2, 2, 2)]
    assert places == [(first + d, row) for d in range(8)]


@pytest.mark.parametrize('H', range(64, persistent.MOST_CELLS + 1, 64))
def test_shared_memory_is_read_from_32_banks_at_a_time(H):
    """Of 16 bytes a lane, eight lanes at a time; of 4 bytes, all 32; and there is enough of it for a static array."""
    lanes = np.arange(32)
    states = (lanes >> 2)[:, None]*fragments.pitch(H) + 4*(lanes & 3)[:, None] + np.arange(4)
    assert all(len(set(states[eight:eight + 8].ravel() % 32)) == 32 for eight in range(0, 32, 8))
    for pitch in fragments.WIDE, fragments.NARROW:
        assert len(set((2*(lanes & 3)*pitch + (lanes >> 2)) % 32)) == 32
    assert 4*max(fragments.words(H), fragments.words_back()) <= 48 << 10


H200 = Room((9, 0), 132)


@pytest.mark.parametrize(('T', 'B', 'H', 'K', 'room', 'expected'), [
    (21, 128, 512, 2, H200, Plan(4, 32)), (21, 256, 512, 2, H200, Plan(4, 64)), (21, 130, 512, 2, H200, Plan(4, 33)),
    (21, 160, 512, 2, H200, Plan(4, 40)), (21, 1, 512, 2, H200, Plan(1, 1)), (1, 33, 512, 2, H200, Plan(2, 17)),
    (21, 128, 512, 2, Room((8, 0), 108), Plan(3, 43)), (21, 128, 512, 2, Room((9, 0), 31), None),
    (21, 128, 512, 1, Room((9, 0), 31), Plan(1, 128)), (21, 129, 512, 1, Room((9, 0), 31), None),
    (21, 128, 512, 2, Room((7, 5), 132), None), (21, 128, 500, 2, H200, None), (21, 128, 1024, 2, H200, None),
    (0, 128, 512, 2, H200, None), (21, 0, 512, 2, H200, None), (21, 8, 0, 2, H200, None)])
def test_where_it_fits(T, B, H, K, room, expected):
    assert plan(T, B, H, K, room) == expected


@given(B=st.integers(1, 700), tiles=st.integers(1, 8), K=st.integers(1, 2), sms=st.integers(0, 200))
@settings(max_examples=100)
def test_a_plan_has_every_sequence_once_and_all_blocks_at_once(B, tiles, K, sms):
    own = plan(3, B, 64*tiles, K, Room((9, 0), sms))
    if own:
        assert np.prod(persistent.grid(own, K, 64*tiles)) <= sms
        assert (own.shares - 1)*own.rows < B <= own.shares*own.rows


@emulated
def test_products_have_no_counterpart_in_the_simulator():
    """Else the emulation would not be what these tests have looked at."""
    assert not hasattr(mma, 'multiply') and not hasattr(barrier, 'publish')
