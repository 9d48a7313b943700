"""Vectors of float32, written as LLVM's instructions: what the kernels of this folder are built from.

A loop in Python leaves to the compiler what it makes of it; in these kernels it is known which value stays in which
register.  Everything here is called while Numba compiles, and emits instructions at the end of the builder's block.
"""

from llvmlite import ir
from numba.core import cgutils

I1, I32, I64, FLOAT = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.FloatType()
BYTES = 4
# exp(r) on |r| ≤ ln(2)/2: 1 + r + r² p(r), Cephes' expf (Moshier 1989); ln 2 in two parts, so that r is exact
LOG2_E, LN2_HIGH, LN2_LOW = 1.44269504, 0.693359375, -2.12194440e-4
EXP = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1


def i64(n):
    return ir.Constant(I64, n)


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
        number = self.b.load(self.at(address, offset, FLOAT))
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

    def exp(self, x):
        """exp of x between −87 and 87, to which it is cut; NaN becomes −87's, see `keep_nan`."""
        x = self.call('minnum', self.call('maxnum', x, self.constant(-87.0)), self.constant(87.0))
        n = self.call('rint', self.mul(x, self.constant(LOG2_E)))
        r = self.fma(n, self.constant(-LN2_LOW), self.fma(n, self.constant(-LN2_HIGH), x))
        p = self.constant(EXP[0])
        for c in EXP[1:]:
            p = self.fma(p, r, self.constant(c))
        p = self.add(self.fma(self.mul(p, r), r, r), self.one)
        power = self.b.shl(self.b.fptosi(n, self.whole), self.whole_constant(23))
        return self.b.bitcast(self.b.add(self.b.bitcast(p, self.whole), power), self.type)

    def keep_nan(self, y, x):
        """y, but NaN where x is."""
        return self.b.select(self.b.fcmp_unordered('uno', x, x), x, y)

    def sigmoid(self, x):
        """1/(1 + e⁻ˣ)."""
        return self.keep_nan(self.b.fdiv(self.one, self.add(self.one, self.exp(self.b.fneg(x)))), x)

    def tanh(self, x):
        """1 − 2/(1 + e²ˣ): an absolute error of 1e-7, not a relative one near zero."""
        return self.keep_nan(self.rest(self.b.fdiv(self.two, self.add(self.one, self.exp(self.add(x, x))))), x)

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
