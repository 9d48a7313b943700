"""Numbers of 32 and 16 bits, and functions of them that are compiled without float64."""

import math

import numpy as np
from numba import float32

from hpcasr.kernels.cuda.launch import SIMULATED, device

if SIMULATED:
    def wide(v):
        """v as float32: a float32 or float16, or the bits of a bf16."""
        return (np.uint32(v) << np.uint32(16)).view(np.float32) if isinstance(v, np.uint16) else np.float32(v)

    def narrow(v, x):
        """The float32 v as the array x keeps it: bf16, as bits, where x is uint16; rounded to the nearest, or even."""
        v = np.float32(v)
        if x.dtype != np.uint16:
            return x.dtype.type(v)
        bits = v.view(np.uint32)
        near = bits | np.uint32(0x400000) if np.isnan(v) else bits + ((bits >> 16) & np.uint32(1)) + np.uint32(0x7fff)
        return np.uint16(near >> np.uint32(16))

    def exp(x):
        """e^x, with two wrong units in the last place at most while |x| is small; overflows to inf."""
        return np.exp(np.float32(x))

    def log(x):
        return np.log(np.float32(x))

    def sqrt(x):
        return np.sqrt(np.float32(x))

    def ratio(x, y):
        """x/y, wrong by two units in the last place at most; 0 where |y| is more than 2^126."""
        return np.float32(x)/np.float32(y)
else:
    from llvmlite import ir
    from numba import types
    from numba.cuda import libdevice
    from numba.cuda.extending import intrinsic

    # those that are right to the last bit have a branch, which keeps what comes behind it from starting
    exp, ratio, log = libdevice.fast_expf, libdevice.fast_fdividef, math.log
    F, I32, I16 = ir.FloatType(), ir.IntType(32), ir.IntType(16)

    @intrinsic
    def sqrt(context, x):
        """√x, wrong by a unit in the last place at most."""
        approximate = ir.InlineAsm(ir.FunctionType(F, [F]), 'sqrt.approx.f32 $0, $1;', '=f,f')
        return types.float32(types.float32), lambda context, builder, signature, args: builder.call(approximate, args)

    @intrinsic
    def wide(context, v):
        """v as float32: a float32 or float16, or the bits of a bf16."""
        def emit(context, builder, signature, args):
            if v == types.float32:
                return args[0]
            if v == types.float16:
                return builder.fpext(builder.bitcast(args[0], ir.HalfType()), F)
            return builder.bitcast(builder.shl(builder.zext(args[0], I32), I32(16)), F)
        return types.float32(v), emit

    @intrinsic
    def narrow(context, v, x):
        """The float32 v as the array x keeps it: bf16, as bits, where x is uint16; rounded to the nearest, or even."""
        def emit(context, builder, signature, args):
            if x.dtype == types.float32:
                return args[0]
            if x.dtype == types.float16:
                return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), I16)
            bits = builder.bitcast(args[0], I32)
            odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
            near = builder.add(builder.add(bits, odd), I32(0x7fff))
            nan = builder.fcmp_unordered('uno', args[0], args[0])
            near = builder.select(nan, builder.or_(bits, I32(0x400000)), near)
            return builder.trunc(builder.lshr(near, I32(16)), I16)
        return x.dtype(v, x), emit


@device
def sigmoid(x):
    """1/(1 + e^−x): e^−x may be inf."""
    return ratio(float32(1), float32(1) + exp(-x))


@device
def tanh(x):
    return math.tanh(x)
