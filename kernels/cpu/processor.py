"""What this processor's vectors hold."""

import llvmlite.binding as llvm


def lanes(features):
    """float32 in a vector: 16 with AVX-512, 8 with AVX2 and fused multiply-add, 0: no kernels of our own."""
    if features.get('avx512f'):
        return 16
    return 8 if features.get('avx2') and features.get('fma') else 0


def features():
    """{name: whether} of the processor that Numba compiles for; NUMBA_CPU_FEATURES narrows it."""
    from numba.core import config
    asked = config.CPU_FEATURES
    if asked:
        return {name[1:]: name[0] == '+' for name in asked.split(',') if name}
    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:  # unknown to LLVM
        return {}


LANES = lanes(features()) or 8  # so that the modules can be imported; `backend` asks for SUPPORTED
SUPPORTED = lanes(features()) > 0
