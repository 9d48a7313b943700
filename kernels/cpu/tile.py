"""A tile: some rows of a product, kept in registers while the sum over k runs.

Σ_k A[m, k] B[k, n] for `rows` m and 4 vectors of n: each number of A is spread over a vector and multiplied by the four
vectors of B.  24 sums, 4 vectors of B and one of A fill 29 of the 32 registers of AVX-512; with AVX2 it is half.
B lies packed: 4 vectors of one k after those of the one before.  In bf16 a k is two (number.py).
"""

from itertools import chain

from numba import types
from numba.extending import intrinsic

from hpcasr.kernels.cpu.number import HALF, NUMBERS
from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.vector import BYTES, Vectors, i64, repeat

VECTORS = 4
ROWS = 6 if LANES == 16 else 3
PANEL = VECTORS*LANES  # columns
UNROLL = 4
VECTOR = BYTES*LANES  # bytes


def accumulate(v, number, depth, a, a_step, b, sums):
    """sums[m][n] + Σ_k A[m, k] B[k, n], k < depth words; A[m, 0] at a + m·a_step, A[m, k + 1] behind A[m, k]."""
    rows = steps(v, a, a_step, len(sums))

    def some(count):
        def body(carried):
            offset, panel, *flat = carried
            sums = grid(flat)
            for k in range(count):
                column = [v.load(panel, (k*VECTORS + n)*VECTOR) for n in range(VECTORS)]
                for m, row in enumerate(rows):
                    word = v.splat(v.b.add(row, offset), k*BYTES)
                    sums[m] = [number.dot(v, word, x, total) for x, total in zip(column, sums[m], strict=True)]
            return [v.b.add(offset, i64(count*BYTES)), v.b.add(panel, i64(count*VECTORS*VECTOR)), *chain(*sums)]
        return body
    carried = [i64(0), b, *chain(*sums)]
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


def kinds(numbers, write):
    """As `instructions`, of write(rows, number); a first i64, `kind`, tells which: rows − 1, + ROWS for bf16."""
    emits = [write(rows + 1, number) for number in NUMBERS for rows in range(ROWS)]

    def emit(v, kind, *values):
        first, after = v.b.append_basic_block('kind'), v.b.append_basic_block('after')
        switch, block = v.b.switch(kind, first), first
        for n, emit in enumerate(emits):
            block = v.b.append_basic_block('kind') if n else first
            switch.add_case(i64(n), block)
            v.b.position_at_end(block)
            emit(v, *values)
            v.b.branch(after)
        v.b.position_at_end(after)
    return instructions(numbers + 1, emit)


def product(rows, number):
    """C[m, :] ← S[m, :] + Σ_k A[m, k] B[k, :] for a tile; steps in bytes from row to row.

    S is added last: a long sum that is made of many calls then rounds as one of few large terms.
    """
    def emit(v, depth, a, a_step, b, s, s_step, c, c_step):
        sums = accumulate(v, number, depth, a, a_step, b, [[v.constant(0.0)]*VECTORS for _ in range(rows)])
        for first, row, totals in zip(steps(v, s, s_step, rows), steps(v, c, c_step, rows), sums, strict=True):
            for n, total in enumerate(totals):
                v.store(v.add(v.load(first, n*VECTOR), total), row, n*VECTOR)
    return emit


@intrinsic
def tile(context, kind, depth, a, a_step, b, s, s_step, c, c_step):
    """A `product`."""
    return kinds(8, product)


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


@intrinsic
def halve_columns(context, row, after, target):
    """The words of a panel, in bf16, from one row of it in float32 and the one after."""
    def emit(v, row, after, target):
        for n in range(VECTORS):
            v.store(HALF.words(v, v.load(row, n*VECTOR), v.load(after, n*VECTOR)), target, n*VECTOR)
    return instructions(3, emit)


@intrinsic
def halve(context, source, target):
    """LANES numbers of a row, in bf16."""
    return instructions(2, lambda v, source, target: HALF.keep(v, v.load(source), target))
