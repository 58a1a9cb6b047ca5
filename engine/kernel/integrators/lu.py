"""LU factorisation with partial pivoting in plain loops: for few states LAPACK's calls cost more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]


@jit
def factor(a: Matrix, pivots: NDArray[np.int64]) -> bool:
    """Overwrite a [n, n] with its factors L (unit diagonal) and U; False when singular or not finite."""
    n = a.shape[0]
    for k in range(n):
        pivot, largest = k, abs(a[k, k])
        for i in range(k + 1, n):
            if abs(a[i, k]) > largest:
                pivot, largest = i, abs(a[i, k])
        if not (largest > 0.0 and largest < np.inf):
            return False
        pivots[k] = pivot
        if pivot != k:
            for j in range(n):
                a[k, j], a[pivot, j] = a[pivot, j], a[k, j]
        inverse = 1.0 / a[k, k]
        for i in range(k + 1, n):
            if a[i, k] != 0.0:
                ratio = a[i, k] * inverse
                a[i, k] = ratio
                for j in range(k + 1, n):
                    a[i, j] -= ratio * a[k, j]
    return True


@jit
def solve(lu: Matrix, pivots: NDArray[np.int64], b: Vector) -> None:
    """Overwrite b [n] with the solution of the factored system."""
    n = b.size
    for k in range(n):
        if pivots[k] != k:
            b[k], b[pivots[k]] = b[pivots[k]], b[k]
    for i in range(1, n):
        rest = b[i]
        for j in range(i):
            rest -= lu[i, j] * b[j]
        b[i] = rest
    for i in range(n - 1, -1, -1):
        rest = b[i]
        for j in range(i + 1, n):
            rest -= lu[i, j] * b[j]
        b[i] = rest / lu[i, i]


@jit
def solve_columns(lu: Matrix, pivots: NDArray[np.int64], b: Matrix) -> None:
    """Overwrite b [n, nq] with the solutions of the factored system for each column."""
    n, nq = b.shape
    for k in range(n):
        if pivots[k] != k:
            for q in range(nq):
                b[k, q], b[pivots[k], q] = b[pivots[k], q], b[k, q]
    for i in range(1, n):
        for j in range(i):
            factor_ij = lu[i, j]
            if factor_ij != 0.0:
                for q in range(nq):
                    b[i, q] -= factor_ij * b[j, q]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            factor_ij = lu[i, j]
            if factor_ij != 0.0:
                for q in range(nq):
                    b[i, q] -= factor_ij * b[j, q]
        inverse = 1.0 / lu[i, i]
        for q in range(nq):
            b[i, q] *= inverse
