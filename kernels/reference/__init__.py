"""The NumPy kernels: plain, correct, readable.  The others are fast and equal to these."""
