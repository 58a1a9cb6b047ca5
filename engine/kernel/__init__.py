"""The compiled decoder: event loop, integrators and generated model functions in numba."""
