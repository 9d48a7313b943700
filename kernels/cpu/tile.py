"""A tile: some rows of a product, kept in registers while the sum over k runs.

Σ_k A[m, k] B[k, n] for `rows` m and 4 vectors of n: each number of A is spread over a vector and multiplied by the four
vectors of B.  24 sums, 4 vectors of B and one of A fill 29 of the 32 registers of AVX-512; with AVX2 it is half.
B lies packed: 4 vectors of one k after those of the one before.
"""

from numba import types
from numba.extending import intrinsic

from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.vector import BYTES, Vectors, i64, repeat

VECTORS = 4
ROWS = 6 if LANES == 16 else 3
PANEL = VECTORS*LANES  # columns
UNROLL = 4
VECTOR = BYTES*LANES  # bytes


def accumulate(v, depth, a, a_step, b, sums):
    """sums[m][n] + Σ_k A[m, k] B[k, n], k < depth; A[m, 0] at a + m·a_step, A[m, k + 1] behind A[m, k]."""
    rows = steps(v, a, a_step, len(sums))

    def some(count):
        def body(carried):
            offset, panel, *flat = carried
            sums = grid(flat)
            for k in range(count):
                column = [v.load(panel, (k*VECTORS + n)*VECTOR) for n in range(VECTORS)]
                for m, row in enumerate(rows):
                    number = v.splat(v.b.add(row, offset), k*BYTES)
                    sums[m] = [v.fma(number, x, total) for x, total in zip(column, sums[m], strict=True)]
            return [v.b.add(offset, i64(count*BYTES)), v.b.add(panel, i64(count*VECTORS*VECTOR)), *sum(sums, [])]
        return body
    carried = [i64(0), b, *sum(sums, [])]
    carried = repeat(v.b, v.b.lshr(depth, i64(UNROLL.bit_length() - 1)), carried, some(UNROLL))
    return grid(repeat(v.b, v.b.and_(depth, i64(UNROLL - 1)), carried, some(1))[2:])


def steps(v, address, step, count):
    """`count` addresses, `step` bytes apart."""
    found = [address]
    while len(found) < count:
        found.append(v.b.add(found[-1], step))
    return found


def grid(flat):
    """Rows of VECTORS."""
    return [list(flat[k:k + VECTORS]) for k in range(0, len(flat), VECTORS)]


def instructions(numbers, emit):
    """What an intrinsic gives back: it takes so many i64, and emit(Vectors, *values) writes what it does."""
    def codegen(context, builder, signature, values):
        emit(Vectors(builder, LANES), *values)
        return context.get_dummy_value()
    return types.void(*[types.int64]*numbers), codegen


def product(rows):
    """C[m, :] ← S[m, :] + Σ_k A[m, k] B[k, :] for a tile; steps in bytes from row to row."""
    def emit(v, depth, a, a_step, b, s, s_step, c, c_step):
        start = [[v.load(row, n*VECTOR) for n in range(VECTORS)] for row in steps(v, s, s_step, rows)]
        sums = accumulate(v, depth, a, a_step, b, start)
        for row, totals in zip(steps(v, c, c_step, rows), sums, strict=True):
            for n, total in enumerate(totals):
                v.store(total, row, n*VECTOR)

    @intrinsic
    def tile(context, depth, a, a_step, b, s, s_step, c, c_step):
        return instructions(8, emit)
    return tile


@intrinsic
def transpose(context, source, source_step, target, target_step):
    """target[k, :] ← source[:, k] for LANES² numbers; steps in bytes from row to row."""
    def emit(v, source, source_step, target, target_step):
        columns = v.transpose([v.load(row) for row in steps(v, source, source_step, LANES)])
        for row, column in zip(steps(v, target, target_step, LANES), columns, strict=True):
            v.store(column, row)
    return instructions(4, emit)


@intrinsic
def gather(context, source, step, target):
    """VECTORS vectors, `step` bytes apart, to one place."""
    def emit(v, source, step, target):
        for n, part in enumerate(steps(v, source, step, VECTORS)):
            v.store(v.load(part), target, n*VECTOR)
    return instructions(3, emit)


one, two, three = product(1), product(2), product(3)
four, five, six = (product(m) for m in (4, 5, 6)) if ROWS == 6 else (product(3),)*3
