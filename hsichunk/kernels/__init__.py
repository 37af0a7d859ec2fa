"""Numerical kernels: NumPy and numba alone, no xarray, dask or files."""
