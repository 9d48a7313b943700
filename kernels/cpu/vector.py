"""Vectors of float32, written as LLVM's instructions: what the kernels of this folder are built from.

A loop in Python leaves to the compiler what it makes of it; in these kernels it is known which value stays in which
register.  Everything here is called while Numba compiles, and emits instructions at the end of the builder's block.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils

I1, I16, I32, I64, FLOAT = ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
BYTES = 4
LOG2_E = 1.4426950408889634
# (2^f − 1)/f on |f| ≤ 1/2; so 2^f to 2e-9: the polynomial of degree 6 whose largest relative error is least
EXP2 = 0.6931471824645996, 0.24022646248340607, 0.05550328642129898, 0.009618489071726799, 0.0013399930903688073, \
    0.00015345810970757157


def i64(n):
    return ir.Constant(I64, n)


class BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not know: the upper half of a float32."""

    def _to_string(self):
        return 'bfloat'

    def __eq__(self, other):
        return isinstance(other, BFloat)

    def __hash__(self):
        return hash(BFloat)


class Vectors:
    """Operations on vectors of `lanes` float32; addresses are 64-bit integers, offsets numbers of bytes."""

    def __init__(self, builder, lanes):
        self.b, self.lanes, self.type = builder, lanes, ir.VectorType(FLOAT, lanes)
        self.whole = ir.VectorType(I32, lanes)
        self.one, self.two = self.constant(1.0), self.constant(2.0)

    def constant(self, x):
        return ir.Constant(self.type, [x]*self.lanes)

    def whole_constant(self, n):
        return ir.Constant(self.whole, [n]*self.lanes)

    def at(self, address, offset, kind):
        """A pointer to what lies `offset` bytes behind an address."""
        address = self.b.add(address, i64(offset)) if offset else address
        return self.b.inttoptr(address, kind.as_pointer())

    def load(self, address, offset=0):
        loaded = self.b.load(self.at(address, offset, self.type))
        loaded.align = BYTES
        return loaded

    def store(self, x, address, offset=0):
        self.b.store(x, self.at(address, offset, self.type)).align = BYTES

    def splat(self, address, offset=0):
        """The float32 at an address, in every lane."""
        return self.spread(self.b.load(self.at(address, offset, FLOAT)))

    def spread(self, number):
        """A float32 in every lane."""
        nothing = ir.Constant(self.type, ir.Undefined)
        return self.b.shuffle_vector(self.b.insert_element(nothing, number, ir.Constant(I32, 0)), nothing,
                                     self.whole_constant(0))

    def call(self, name, *args):
        """The instruction that LLVM calls llvm.`name`."""
        kind = ir.FunctionType(self.type, [self.type]*len(args))
        function = cgutils.get_or_insert_function(self.b.module, kind, f'llvm.{name}.v{self.lanes}f32')
        return self.b.call(function, args)

    def fma(self, x, y, z):
        """x y + z, rounded once."""
        return self.call('fma', x, y, z)

    def dot(self, x, y, z):
        """z + x₀ y₀ + x₁ y₁ of bf16 in pairs, two in the place of a float32.  Needs processor.BF16.

        As the processor does it: subnormal numbers, taken or given, are zeros, whatever the rounding mode.
        """
        pairs = ir.VectorType(BFloat(), 2*self.lanes)
        kind = ir.FunctionType(self.type, [self.type, pairs, pairs])
        function = cgutils.get_or_insert_function(self.b.module, kind, 'llvm.x86.avx512bf16.dpbf16ps.512')
        return self.b.call(function, [z, self.b.bitcast(x, pairs), self.b.bitcast(y, pairs)])

    def bits(self, x):
        return self.b.bitcast(x, self.whole)

    def rounded(self, x):
        """The nearest bf16, of two the even one, as float32; inf and NaN stay what they are."""
        bits = self.bits(x)
        odd = self.b.and_(self.b.lshr(bits, self.whole_constant(16)), self.whole_constant(1))
        near = self.b.add(bits, self.b.add(odd, self.whole_constant(0x7fff)))
        nan = self.b.or_(bits, self.whole_constant(0x400000))  # quiet, and not inf without its lower bits
        near = self.b.select(self.b.fcmp_unordered('uno', x, x), nan, near)
        return self.b.bitcast(self.b.and_(near, self.whole_constant(0xffff0000)), self.type)

    def pairs(self, x, y):
        """x and y, rounded, in the lower and upper halves of words: what `dot` takes."""
        lower = self.b.lshr(self.bits(self.rounded(x)), self.whole_constant(16))
        return self.b.bitcast(self.b.or_(lower, self.bits(self.rounded(y))), self.type)

    def store_half(self, x, address, offset=0):
        """Put x, rounded, to 16 bits each."""
        kind = ir.VectorType(I16, self.lanes)
        upper = self.b.lshr(self.bits(self.rounded(x)), self.whole_constant(16))
        self.b.store(self.b.trunc(upper, kind), self.at(address, offset, kind)).align = 2

    def add(self, x, y):
        return self.b.fadd(x, y)

    def sub(self, x, y):
        return self.b.fsub(x, y)

    def mul(self, *factors):
        product, *rest = factors
        for factor in rest:
            product = self.b.fmul(product, factor)
        return product

    def rest(self, x):
        """1 − x."""
        return self.sub(self.one, x)

    def power(self, x, factor):
        """2^(factor x), between 2^±126, to which it is cut; NaN where x is NaN, which `smaller` and `larger` keep."""
        slope, f, exponent = self.split(x, factor)
        p = self.fma(slope, f, self.one)
        return self.b.bitcast(self.b.add(self.b.bitcast(p, self.whole), exponent), self.type)

    def power_less_one(self, x, factor):
        """2^(factor x) − 1, as power, to some units in the last place also near zero."""
        slope, f, exponent = self.split(x, factor)
        scale = self.b.bitcast(self.b.add(self.b.bitcast(self.one, self.whole), exponent), self.type)
        return self.fma(self.mul(slope, f), scale, self.sub(scale, self.one))

    def split(self, x, factor):
        """((2^f − 1)/f, f, n in the bits of an exponent) of n + f = factor x, n whole and |f| ≤ 1/2.

        What lies beyond n is factor x − n, of which neither the product nor the factor is rounded.
        """
        high, most = float(np.float32(factor)), 126/abs(factor)
        x = self.larger(self.constant(-most), self.smaller(self.constant(most), x))
        n = self.call('rint', self.mul(x, self.constant(high)))
        f = self.fma(x, self.constant(factor - high), self.fma(x, self.constant(high), self.b.fneg(n)))
        slope = self.constant(EXP2[-1])
        for c in EXP2[-2::-1]:
            slope = self.fma(slope, f, self.constant(c))
        return slope, f, self.b.shl(self.b.fptosi(n, self.whole), self.whole_constant(23))

    def smaller(self, x, y):
        """min(x, y), one instruction; y where one is NaN."""
        return self.b.select(self.b.fcmp_ordered('<', x, y), x, y)

    def larger(self, x, y):
        """max(x, y), one instruction; y where one is NaN."""
        return self.b.select(self.b.fcmp_ordered('>', x, y), x, y)

    def where(self, condition, x):
        """x, 0 where the condition is 0: also of a NaN."""
        return self.b.select(self.b.fcmp_ordered('!=', condition, self.constant(0.0)), x, self.constant(0.0))

    def sigmoid(self, x):
        """1/(1 + e⁻ˣ)."""
        return self.b.fdiv(self.one, self.add(self.one, self.power(x, -LOG2_E)))

    def tanh(self, x):
        """(e²ˣ − 1)/(e²ˣ + 1)."""
        less = self.power_less_one(x, 2*LOG2_E)
        return self.b.fdiv(less, self.add(less, self.two))

    def transpose(self, rows):
        """The columns of `lanes` vectors: in log2(lanes) rounds, blocks of 1, 2, 4 ... are exchanged across."""
        width = 1
        while width < self.lanes:
            lanes = range(self.lanes)
            low = [j if not j & width else j - width + self.lanes for j in lanes]
            high = [j + width if not j & width else j + self.lanes for j in lanes]
            new = list(rows)
            for k in lanes:
                if not k & width:
                    new[k], new[k + width] = (self.shuffle(rows[k], rows[k + width], order) for order in (low, high))
            rows, width = new, 2*width
        return rows

    def shuffle(self, x, y, order):
        return self.b.shuffle_vector(x, y, ir.Constant(self.whole, order))


def repeat(b, times, carried, body):
    """carried ← body(carried), `times` times, an i64 that may be 0; returns what is carried in the end."""
    before, function = b.block, b.function
    loop, after = function.append_basic_block('loop'), function.append_basic_block('after')
    b.cbranch(b.icmp_signed('>', times, i64(0)), loop, after)
    b.position_at_end(loop)
    values = [i64(0), *carried]
    inside = [b.phi(value.type) for value in values]
    done = b.add(inside[0], i64(1))
    results = [done, *body(inside[1:])]
    last = b.block
    for phi, value, result in zip(inside, values, results, strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(result, last)
    b.cbranch(b.icmp_signed('<', done, times), loop, after)
    b.position_at_end(after)
    outside = [b.phi(value.type) for value in carried]
    for phi, value, result in zip(outside, carried, results[1:], strict=True):
        phi.add_incoming(value, before)
        phi.add_incoming(result, last)
    return outside
