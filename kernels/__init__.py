"""Kernels: the same file names in reference/ (NumPy), cpu/ and cuda/ (Numba).  They know no layer and no MPI."""

if __name__ != 'hpcasr.kernels':  # a second copy of the kernels would be compiled, cached and patched on its own
    raise ImportError(f'import hpcasr.kernels, not {__name__}')
