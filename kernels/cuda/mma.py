"""Products on tensor cores, bf16 with sums in float32, by instructions that Numba has no names for.

Each function is emitted unrolled: its numbers stay in registers, as tuples.  Where a thread finds its own is written in
fragments.py.  GPUs of compute capability 8.0 or newer; there is no such thing in the simulator.
"""

from functools import cache
from itertools import product as every

from hpcasr.kernels.cuda.fragments import ROWS, THREADS, TILES_M, TILES_N, result, state, weight
from hpcasr.kernels.cuda.launch import SIMULATED

MMA = ('mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, '
       '{$10, $11, $12, $13};')
VECTOR = 8  # numbers of 16 bits in the 16 bytes of the widest load

if not SIMULATED:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic

    F, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
    FOUR = ir.LiteralStructType([I32]*4)

    def gather(by_column, by_depth, tiles):
        """gather(W, at): the registers of the left factor, W [...] in bf16, `at` its entry of (q, 8p)."""
        @intrinsic
        def gathered(context, W, at):
            def emit(context, builder, signature, args):
                own = builder.gep(entries(context, builder, W, args[0]), [args[1]])
                return cgutils.pack_array(builder, [word(builder, own, [
                    column*by_column + k*by_depth for column, k in (weight(m, tile, register, i) for i in range(2))])
                    for m, tile, register in every(range(TILES_M), range(tiles), range(4))])
            return types.UniTuple(types.uint32, TILES_M*tiles*4)(W, at), emit
        return gathered

    def word(builder, own, places):
        """Two numbers of 16 bits, in one register."""
        low, high = (builder.zext(builder.load(builder.gep(own, [I64(place)])), I32) for place in places)
        return builder.or_(low, builder.shl(high, I32(16)))

    def fill(pitch, deep):
        """fill(shared, x, at, step, first, last, thread): `deep` states each of ROWS sequences, into shared memory.

        shared[r pitch + d/2] ← states d and d + 1 of sequence min(first + r, last); in x, bf16, those of sequence 0
        begin at entry `at`, and `step` entries are from a sequence to the next.  All threads of the block take part.
        All that is read is asked for before anything is put down: a block waits for memory once.
        """
        across = deep//VECTOR
        @intrinsic
        def filled(context, shared, x, at, step, first, last, thread):
            def emit(context, builder, signature, args):
                to, source = entries(context, builder, shared, args[0]), entries(context, builder, x, args[1])
                at, step, first, last, thread = (whole(builder, v) for v in args[2:])
                pieces = [builder.add(thread, I64(n)) for n in range(0, ROWS*across, THREADS)]
                spots = [(builder.udiv(piece, I64(across)), builder.urem(piece, I64(across))) for piece in pieces]
                held = [far(builder, place(builder, source, at, step, least(builder, builder.add(first, row), last),
                                           builder.mul(column, I64(VECTOR)))) for row, column in spots]
                for (row, column), four in zip(spots, held, strict=True):
                    spot = builder.add(builder.mul(row, I64(pitch)), builder.mul(column, I64(VECTOR//2)))
                    builder.store(vector(builder, four), as_vector(builder, builder.gep(to, [spot])), align=16)
                return context.get_dummy_value()
            return types.void(shared, x, at, step, first, last, thread), emit
        return filled

    def near_product(pitch):
        """product(weights, shared, at): the sums of weights with states that `fill` has put down; `at`: of (8p, q)."""
        @intrinsic
        def product(context, weights, shared, at):
            def emit(context, builder, signature, args):
                own = builder.gep(entries(context, builder, shared, args[1]), [args[2]])
                def states(n, tile):
                    k, row = state(n, tile, 0, 0)
                    four = builder.load(as_vector(builder, builder.gep(own, [I64(row*pitch + k//2)])), align=16)
                    return [builder.extract_element(four, I32(r)) for r in range(4)]
                return sums(builder, weights.count, args[0], states)
            return SUMS(weights, shared, at), emit
        return product

    @intrinsic
    def far_product(context, weights, x, at, step, first, last):
        """The same with states in global memory: of sequence min(first + 8n, last), with first counting q; `at`, 8p."""
        def emit(context, builder, signature, args):
            source, numbers = entries(context, builder, x, args[1]), (whole(builder, v) for v in args[2:])
            at, step, first, last = numbers
            @cache
            def own(n):
                row = least(builder, builder.add(first, I64(state(n, 0, 0, 0)[1])), last)
                return place(builder, source, at, step, row, I64(0))
            def states(n, tile):
                return far(builder, own(n), 2*state(n, tile, 0, 0)[0])
            return sums(builder, weights.count, args[0], states)
        return SUMS(weights, x, at, step, first, last), emit

    def sums(builder, count, weights, states):
        """Sum over all tiles; states(n, tile): four registers, of this and the next tile."""
        tiles = count//(4*TILES_M)
        sum_of = {key: [F(0)]*4 for key in every(range(TILES_M), range(TILES_N))}
        for some, tile, more in every(range(0, TILES_N, 2), range(0, tiles, 2), range(2)):  # few addresses at a time
            n = some + more
            four = states(n, tile)
            for half, m in every(range(2), range(TILES_M)):
                left = [builder.extract_value(weights, 4*(m*tiles + tile + half) + r) for r in range(4)]
                sum_of[m, n] = multiply(builder, left, four[2*half:2*half + 2], sum_of[m, n])
        return cgutils.pack_array(builder, [v for four in sum_of.values() for v in four])

    def multiply(builder, left, right, add):
        asm = ir.InlineAsm(ir.FunctionType(ir.LiteralStructType([F]*4), [I32]*6 + [F]*4), MMA,
                           ','.join(['=f']*4 + ['r']*6 + ['f']*4))
        four = builder.call(asm, [*left, *right, *add])
        return [builder.extract_value(four, r) for r in range(4)]

    def keep(pitch):
        """keep(values, shared, at): shared[...] ← the sums; `at`: the place of (q, 2p)."""
        @intrinsic
        def kept(context, values, shared, at):
            def emit(context, builder, signature, args):
                own = builder.gep(entries(context, builder, shared, args[1]), [args[2]])
                for k, (m, n, register) in enumerate(every(range(TILES_M), range(TILES_N), range(4))):
                    column, row = result(m, n, register)
                    bits = builder.bitcast(builder.extract_value(args[0], k), I32)
                    builder.store(bits, builder.gep(own, [I64(row*pitch + column)]))
                return context.get_dummy_value()
            return types.void(values, shared, at), emit
        return kept

    @intrinsic
    def number(context, bits):
        """The float32 that has these bits."""
        return types.float32(types.uint32), lambda context, builder, signature, args: builder.bitcast(args[0], F)

    SUMS = types.UniTuple(types.float32, TILES_M*TILES_N*4)

    @intrinsic
    def soon(context, x, at):
        """x[at] will be asked for: it comes as far as the L2 cache."""
        def emit(context, builder, signature, args):
            address = builder.ptrtoint(builder.gep(entries(context, builder, x, args[0]), [args[1]]), I64)
            asm = ir.InlineAsm(ir.FunctionType(ir.VoidType(), [I64]), 'prefetch.global.L2 [$0];', 'l', side_effect=True)
            builder.call(asm, [address])
            return context.get_dummy_value()
        return types.void(x, at), emit

    @intrinsic
    def zeros(context):
        """Sums of nothing."""
        return SUMS(), lambda context, builder, signature, args: cgutils.pack_array(builder, [F(0)]*SUMS.count)

    def entries(context, builder, kind, array):
        """The address of the first entry of an array."""
        return context.make_array(kind)(context, builder, array).data

    def whole(builder, v):
        """A number as 64 bits."""
        return v if v.type == I64 else builder.sext(v, I64)

    def least(builder, v, w):
        return builder.select(builder.icmp_signed('<', v, w), v, w)

    def place(builder, source, at, step, row, column):
        """The address of entry at + row step + column."""
        entry = builder.add(builder.add(at, builder.mul(row, step)), column)
        return builder.ptrtoint(builder.gep(source, [entry]), I64)

    def far(builder, address, offset=0):
        """Four registers from `offset` bytes behind an address; not by way of the L1 cache, which may be behind."""
        asm = ir.InlineAsm(ir.FunctionType(FOUR, [I64]), f'ld.global.cg.v4.u32 {{$0, $1, $2, $3}}, [$4+{offset}];',
                           '=r,=r,=r,=r,l,~{memory}', side_effect=True)
        four = builder.call(asm, [address])
        return [builder.extract_value(four, r) for r in range(4)]

    def vector(builder, four):
        v = ir.Constant(ir.VectorType(I32, 4), ir.Undefined)
        for k, x in enumerate(four):
            v = builder.insert_element(v, x, I32(k))
        return v

    def as_vector(builder, pointer):
        return builder.bitcast(pointer, ir.VectorType(I32, 4).as_pointer())
