"""The functions of model code that neither Python nor numpy has, compiled.

Slopes at singular points are those that do least harm: a method must be able to leave a point such as a
prediction of exactly zero under ``SQRT``, so where a slope is infinite or has two values, zero stands in.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..machine.caching import jit

ROOT_HALF = math.sqrt(0.5)
# Euler-Maclaurin coefficients B(2k) / (2k)!, Abramowitz and Stegun (1964), table 23.2
BERNOULLI = (
    1.0 / 12.0,
    -1.0 / 720.0,
    1.0 / 30240.0,
    -1.0 / 1209600.0,
    1.0 / 47900160.0,
    -691.0 / 1307674368000.0,
    1.0 / 74724249600.0,
)
SHIFTED = 12.0  # from here the asymptotic series above has double precision


@jit
def phi(x: float) -> float:
    """Return the standard normal distribution function."""
    return 0.5 * math.erfc(-x * ROOT_HALF)


@jit
def gamln(x: float) -> float:
    """Return the logarithm of the absolute gamma function."""
    return math.lgamma(x)


@jit
def lfac(x: float) -> float:
    """Return the logarithm of the factorial, for any real x."""
    return math.lgamma(x + 1.0)


@jit
def digamma(x: float) -> float:
    """Return the derivative of :func:`gamln`; NaN at 0 and negative integers.

    Recurrence and asymptotic series: Abramowitz and Stegun (1964), 6.3.5 and 6.3.18.
    """
    if x <= 0.0 and x == np.floor(x):
        return math.nan
    total = 0.0
    if x < -SHIFTED:  # reflection (6.3.7) saves a long recurrence
        total = -math.pi / math.tan(math.pi * (x - np.floor(x)))
        x = 1.0 - x
    while x < SHIFTED:
        total -= 1.0 / x
        x += 1.0
    square = 1.0 / (x * x)
    power = 1.0
    factorial = 1.0  # (2k - 1)!, which turns B(2k) / (2k)! into B(2k) / (2k)
    total += math.log(x) - 0.5 / x
    for k in range(len(BERNOULLI)):
        power *= square
        total -= BERNOULLI[k] * factorial * power
        factorial *= (2.0 * k + 2.0) * (2.0 * k + 3.0)
    return total


@jit
def polygamma(n: float, x: float) -> float:
    """Return derivative ``n`` (1, 2, ...) of :func:`digamma`; NaN at 0 and negative integers.

    (-1)^(n+1) n! zeta(n+1, x), the Hurwitz zeta function by Euler-Maclaurin summation (Abramowitz and Stegun
    (1964), 6.4.10 and 23.2.23).
    """
    if x <= 0.0 and x == np.floor(x):
        return math.nan
    s = n + 1.0
    total = 0.0
    while x < SHIFTED:
        total += math.pow(x, -s)
        x += 1.0
    total += math.pow(x, 1.0 - s) / (s - 1.0) + 0.5 * math.pow(x, -s)
    term = s * math.pow(x, -s - 1.0)
    for k in range(len(BERNOULLI)):
        total += BERNOULLI[k] * term
        term *= (s + 2.0 * k + 1.0) * (s + 2.0 * k + 2.0) / (x * x)
    total *= math.exp(math.lgamma(s))
    return total if n % 2.0 == 1.0 else -total


@jit
def logit(p: float) -> float:
    """Return log(p / (1 - p))."""
    return math.log(p / (1.0 - p))


@jit
def invlogit(x: float) -> float:
    """Return 1 / (1 + exp(-x)) without overflow."""
    if x >= 0.0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


@jit
def mod(a: float, b: float) -> float:
    """Return the remainder of a / b with the sign of a; NaN where b is 0."""
    return np.fmod(a, b) if b != 0.0 else math.nan


@jit
def minimum(a: float, b: float) -> float:
    """Return the smaller of two numbers, NaN where one is."""
    return a if a <= b or a != a else b


@jit
def maximum(a: float, b: float) -> float:
    """Return the larger of two numbers, NaN where one is."""
    return a if a >= b or a != a else b


@jit
def sqrt_slope(root: float) -> float:
    """Return the slope of a square root from its value."""
    return 0.5 / root if root != 0.0 else 0.0


@jit
def sign(x: float) -> float:
    """Return the slope of the absolute value."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)


@jit
def power_slope(x: float, y: float) -> float:
    """Return the slope of x**y in x: 0 instead of infinity at x = 0."""
    if x == 0.0:
        return 1.0 if y == 1.0 else 0.0
    return y * math.pow(x, y - 1.0)


@jit
def power_slope_exponent(x: float, power: float) -> float:
    """Return the slope of x**y in y from the value of the power.

    At x = 0 it is 0. A negative x has a power at whole y only and no slope there: 0, so that a constant
    exponent inside a variable does no harm.
    """
    return power * math.log(x) if x > 0.0 else 0.0


@jit
def solve_dense(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> bool:
    """Solve matrix @ x = right in place by Gaussian elimination with row exchange.

    ``matrix`` [n, n] is overwritten, ``right`` [n, m] becomes x. Returns False where the matrix is singular.
    """
    n = matrix.shape[0]
    m = right.shape[1]
    for i in range(n):
        pivot = i
        for row in range(i + 1, n):
            if abs(matrix[row, i]) > abs(matrix[pivot, i]):
                pivot = row
        if not abs(matrix[pivot, i]) > 0.0:
            return False
        if pivot != i:
            for j in range(n):
                matrix[i, j], matrix[pivot, j] = matrix[pivot, j], matrix[i, j]
            for j in range(m):
                right[i, j], right[pivot, j] = right[pivot, j], right[i, j]
        for row in range(i + 1, n):
            factor = matrix[row, i] / matrix[i, i]
            if factor != 0.0:
                for j in range(i + 1, n):
                    matrix[row, j] -= factor * matrix[i, j]
                for j in range(m):
                    right[row, j] -= factor * right[i, j]
    for i in range(n - 1, -1, -1):
        for j in range(m):
            total = right[i, j]
            for column in range(i + 1, n):
                total -= matrix[i, column] * right[column, j]
            right[i, j] = total / matrix[i, i]
    return True
