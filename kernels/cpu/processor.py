"""What this processor's vectors hold."""

from numba.core import codegen, config


def lanes(features):
    """float32 in a vector: 16 with AVX-512, 8 with AVX2 and fused multiply-add, 0: no kernels of our own."""
    if features.get('avx512f'):
        return 16
    return 8 if features.get('avx2') and features.get('fma') else 0


def features():
    """{name: whether} of what Numba compiles for: this processor, or what NUMBA_CPU_FEATURES names instead."""
    asked = codegen.get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return {name[1:]: name[0] == '+' for name in asked.split(',') if name}


LANES = lanes(features()) or 8  # so that the modules can be imported; `backend` asks for SUPPORTED
SUPPORTED = lanes(features()) > 0
BF16 = LANES == 16 and features().get('avx512bf16', False)  # products of pairs of bf16
