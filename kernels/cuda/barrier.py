"""A barrier of the few blocks that share a counter in global memory; all of them must be on the GPU at once.

Every block arrives once in a step.  The counter starts at 0, and is 0 again when all have arrived in the last step: no
launch has to clear it.  A block that has looked in vain for long, some twenty seconds, ends the kernel with an error.
"""

from numba import cuda, int32

from hpcasr.kernels.cuda.launch import SIMULATED, device

APART = 32  # words from a counter to the next: each has a line of the cache
PATIENCE = 1 << 25  # looks at a counter; while another process has the GPU nobody looks

if not SIMULATED:
    from llvmlite import ir
    from numba import types
    from numba.cuda.extending import intrinsic

    I32, I64, VOID = ir.IntType(32), ir.IntType(64), ir.VoidType()
    ARRIVE = 'fence.acq_rel.gpu; red.relaxed.gpu.global.inc.u32 [$0], $1;'

    @intrinsic
    def publish(context, counters, at, last):
        """What the block has written is seen by who sees that counters[at] has grown; from `last` it turns to 0."""
        def emit(context, builder, signature, args):
            asm = ir.InlineAsm(ir.FunctionType(VOID, [I64, I32]), ARRIVE, 'l,r,~{memory}', side_effect=True)
            limit = context.cast(builder, args[2], last, types.int32)
            builder.call(asm, [place(context, builder, counters, args), limit])
            return context.get_dummy_value()
        return types.void(counters, at, last), emit

    @intrinsic
    def look(context, counters, at):
        """counters[at], as it is now for the whole GPU."""
        def emit(context, builder, signature, args):
            asm = ir.InlineAsm(ir.FunctionType(I32, [I64]), 'ld.acquire.gpu.global.u32 $0, [$1];', '=r,l,~{memory}',
                               side_effect=True)
            return builder.call(asm, [place(context, builder, counters, args)])
        return types.int32(counters, at), emit

    @intrinsic
    def give_up(context):
        def emit(context, builder, signature, args):
            builder.call(ir.InlineAsm(ir.FunctionType(VOID, []), 'trap;', '~{memory}', side_effect=True), [])
            return context.get_dummy_value()
        return types.void(), emit

    def place(context, builder, counters, args):
        first = context.make_array(counters)(context, builder, args[0]).data
        return builder.ptrtoint(builder.gep(first, [args[1]]), I64)


@device
def arrive(counters, at, last):
    """Say that this block has written all of its step; `last`: arrivals of all blocks in all steps, less one."""
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        publish(counters, at, last)


@device
def wait(counters, at, arrivals):
    """Go on when so many arrivals have been counted."""
    if cuda.threadIdx.x == 0:
        looks = int32(0)
        while look(counters, at) < arrivals:
            looks += int32(1)
            if looks == PATIENCE:
                give_up()
    cuda.syncthreads()
