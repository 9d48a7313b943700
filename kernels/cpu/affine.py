"""What a fully connected layer needs beside its products (gemm.py)."""

from hpcasr.kernels.cpu.compiled import compiled


@compiled('void(f4[:,::1], f4[::1])')
def sum_rows(x, out):
    """out [N] ← Σ_r x[r, :]."""
    out[:] = 0
    for r in range(len(x)):
        for n in range(len(out)):
            out[n] += x[r, n]
