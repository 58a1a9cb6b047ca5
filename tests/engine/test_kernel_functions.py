"""Functions of model code against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from elbomix.engine.kernel.source import intrinsics

WIDE = np.concatenate([np.linspace(-40.3, 40.2, 323), np.geomspace(1e-8, 1e8, 65)])


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("phi", special.ndtr),
        ("gamln", special.gammaln),
        ("digamma", special.digamma),
        ("invlogit", special.expit),
        ("lfac", lambda x: special.gammaln(x + 1)),
    ],
)
def test_functions_equal_scipy(name: str, reference: np.ufunc) -> None:
    found = np.array([getattr(intrinsics, name)(x) for x in WIDE])
    # 1e-13: the argument itself is rounded, and phi in its tail turns that into a relative error of x^2 eps
    np.testing.assert_allclose(found, reference(WIDE), rtol=2e-13, atol=1e-14)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_polygamma_equals_scipy(n: int) -> None:
    x = np.geomspace(1e-3, 1e6, 200)
    found = [intrinsics.polygamma(float(n), v) for v in x]
    np.testing.assert_allclose(found, special.polygamma(n, x), rtol=1e-12)


def test_polygamma_at_negative_arguments_by_reflection() -> None:
    """Abramowitz and Stegun (1964), 6.4.7 for n = 1."""
    for x in (-0.3, -1.7, -7.4):
        expected = (math.pi / math.sin(math.pi * x)) ** 2 - intrinsics.polygamma(1.0, 1.0 - x)
        assert intrinsics.polygamma(1.0, x) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("x", [0.0, -1.0, -12345.0, -1e300])
def test_poles_are_not_numbers(x: float) -> None:
    assert math.isnan(intrinsics.digamma(x))
    assert math.isnan(intrinsics.polygamma(1.0, x))


def test_singular_slopes() -> None:
    assert intrinsics.sqrt_slope(0.0) == 0.0
    assert intrinsics.sqrt_slope(2.0) == 0.25
    assert [intrinsics.sign(x) for x in (-2.0, 0.0, 3.0)] == [-1.0, 0.0, 1.0]
    assert intrinsics.power_slope(0.0, 1.0) == 1.0
    assert intrinsics.power_slope(0.0, 0.5) == 0.0
    assert intrinsics.power_slope(-2.0, 3.0) == 12.0
    assert intrinsics.power_slope_exponent(-2.0, -8.0) == 0.0
    assert intrinsics.power_slope_exponent(0.0, 0.0) == 0.0


def test_remainders_take_the_sign_of_the_first() -> None:
    assert intrinsics.mod(-7.5, 2.0) == -1.5
    assert intrinsics.mod(7.5, -2.0) == 1.5
    assert math.isnan(intrinsics.mod(1.0, 0.0))


def test_extremes_carry_what_is_not_a_number() -> None:
    assert intrinsics.minimum(1.0, 2.0) == 1.0
    assert intrinsics.maximum(1.0, 2.0) == 2.0
    for pair in ((math.nan, 1.0), (1.0, math.nan)):
        assert math.isnan(intrinsics.minimum(*pair))
        assert math.isnan(intrinsics.maximum(*pair))


@pytest.mark.parametrize("n", [1, 2, 5])
def test_dense_systems_equal_numpy(n: int) -> None:
    rng = np.random.default_rng(n)
    matrix, right = rng.normal(size=(n, n)), rng.normal(size=(n, 3))
    if n > 1:
        matrix[0, 0] = 0.0  # rows must be exchanged
    expected = np.linalg.solve(matrix, right)
    assert intrinsics.solve_dense(matrix.copy(), right)
    np.testing.assert_allclose(right, expected, rtol=1e-10)
    assert not intrinsics.solve_dense(np.zeros((n, n)), right)
