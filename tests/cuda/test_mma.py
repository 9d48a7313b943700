"""What mma.py emits, compiled for this processor: every address, and which registers meet in a product.

Only three instructions are others: loads go the usual way, and for mma.sync, which needs a warp, stands a number that
shows which registers it was given.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from numba import extending, njit

from hpcasr.kernels.cuda import fragments, launch
from hpcasr.kernels.cuda.fragments import NARROW, ROWS, THREADS, WIDE
from tests.cuda import blocks

H, T = 128, 4  # tiles of 16 deep: two loads of 16 bytes
LEFT, RIGHT, OUT = np.arange(1, 9), np.arange(1, 5), np.arange(1, 5)
THREAD, Q, P, WARP = (np.arange(THREADS), np.arange(THREADS) % 32 >> 2, np.arange(THREADS) & 3,
                      np.arange(THREADS) >> 5)

pytestmark = pytest.mark.skipif(not launch.SIMULATED, reason='the kernels themselves are run on a GPU')


@pytest.fixture
def mma(monkeypatch):
    """The module as it is where there are GPUs, for this processor."""
    processor = ModuleType('extending')
    processor.intrinsic = extending.intrinsic
    monkeypatch.setitem(sys.modules, 'numba.cuda.extending', processor)
    monkeypatch.setattr(launch, 'SIMULATED', False)
    spec = importlib.util.find_spec('hpcasr.kernels.cuda.mma')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.far, module.multiply = load, meeting(module)
    monkeypatch.setattr(blocks, 'mma_sync', met)
    return module


def load(builder, address, offset=0):
    from llvmlite import ir
    four = ir.VectorType(ir.IntType(32), 4)
    v = builder.load(builder.inttoptr(builder.add(address, address.type(offset)), four.as_pointer()), align=16)
    return [builder.extract_element(v, ir.IntType(32)(k)) for k in range(4)]


def met(a, b, c):
    """c + what only these registers give: Σ LEFT a times Σ RIGHT b."""
    pair = (a.reshape(-1, 8) @ LEFT)*(b.reshape(-1, 4) @ RIGHT)
    return (c + pair[:, None]*OUT).astype('f4')


def meeting(mma):
    """`met` as it is emitted."""
    def multiply(builder, left, right, add):
        def weighed(registers):
            total = mma.F(0)
            for k, bits in enumerate(registers):
                for i, half in enumerate((builder.shl(bits, mma.I32(16)), builder.and_(bits, mma.I32(0xffff0000)))):
                    x = builder.fmul(builder.bitcast(half, mma.F), mma.F(2*k + i + 1))
                    total = builder.fadd(total, x)
            return total
        pair = builder.fmul(weighed(left), weighed(right))
        return [builder.fadd(c, builder.fmul(pair, mma.F(int(n)))) for c, n in zip(add, OUT, strict=True)]
    return multiply


def whole(*shape):
    """Small whole numbers, in bf16: sums of them are exact."""
    return blocks_bits(np.random.default_rng(shape).integers(0, 4, shape))


def blocks_bits(x):
    return (x.astype('f4').view('u4') >> 16).astype('u2')


def emulated():
    return blocks.Block((0, 0, 0), (1, 1, 1), SimpleNamespace(pause=lambda: None), {})


def test_products_of_states_in_shared_memory(mma):
    """And how they come there, and where the sums go: the forward kernel, columns side by side."""
    W, x, first, last, pitch = whole(H, 4*H), whole(50, 2*H), 7, 31, fragments.pitch(H)
    begins, states = (WARP >> 2)*(H//2)*4*H + 8*P*4*H + (WARP & 3)*H + Q, Q*pitch + (WARP >> 2)*(H//4) + 4*P
    out = ((WARP >> 2)*ROWS + 2*P)*WIDE + (WARP & 3)*32 + Q
    gather, fill, product, keep = mma.gather(1, 4*H, T), mma.fill(pitch, H), mma.near_product(pitch), mma.keep(WIDE)

    @njit
    def filled(x, shared, thread):
        fill(shared, x, H, 2*H, first, last, thread)

    @njit
    def summed(W, shared, result, begin, at, out):
        keep(product(gather(W, begin), shared, at), result, out)

    shared, result = np.zeros(fragments.words(H), 'u4'), np.zeros(2*ROWS*WIDE, 'u4')
    for thread in range(THREADS):
        filled(x, shared, thread)
    for each in zip(begins, states, out, strict=True):
        summed(W, shared, result, *each)
    block = emulated()
    there, expected = blocks.Shared(len(shared)), blocks.Shared(len(result))
    block.fill(pitch, H)(there, x, H, 2*H, first, last, THREAD)
    np.testing.assert_array_equal(shared, there.bits)
    there.settle()
    block.keep(WIDE)(block.near_product(pitch)(block.gather(1, 4*H, T)(W, begins), there, states), expected, out)
    np.testing.assert_array_equal(result, expected.bits)
    assert len(np.unique(result)) > 1000


def test_products_of_derivatives_in_global_memory(mma):
    """The backward kernel: rows of weights, and sequences behind the last one are that one."""
    W, dz, first, last, depth = whole(H, 4*H), whole(3, 40, 4*H), 5, 33, WARP*(H//2) + 8*P
    begins, out, far_product = Q*4*H + depth, (WARP*ROWS + 2*P)*NARROW + Q, mma.far_product
    places = 40*4*H + depth
    gather, keep = mma.gather(4*H, 1, T), mma.keep(NARROW)

    @njit
    def summed(W, dz, result, begin, at, row, out):
        keep(far_product(gather(W, begin), dz, at, 4*H, row, last), result, out)

    result = np.zeros(fragments.words_back(), 'u4')
    for each in zip(begins, places, first + Q, out, strict=True):
        summed(W, dz, result, *each)
    block, expected = emulated(), blocks.Shared(len(result))
    values = block.far_product(block.gather(4*H, 1, T)(W, begins), dz, places, 4*H, first + Q, last)
    block.keep(NARROW)(values, expected, out)
    np.testing.assert_array_equal(result, expected.bits)
    assert len(np.unique(result)) > 1000
