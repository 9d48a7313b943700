"""The Numba kernels for NVIDIA GPUs: those of reference/, on arrays in device memory.

Arrays are contiguous and give __cuda_array_interface__, as CuPy's do; with NUMBA_ENABLE_CUDASIM=1 the same kernels run
in Numba's simulator on arrays of NumPy.  A kernel is launched on `stream`, CuPy's, Numba's or None for the default one,
and nothing waits for it.  Every sum has a fixed order: the same input gives the same bits.

bf16 is kept as uint16, the upper half of a float32.  Where a host function takes `f or h`, an array of float32 or of
bf16 will do; sums and gates are float32 everywhere, and float64 is used nowhere: GPUs hardly compute in it.
"""
