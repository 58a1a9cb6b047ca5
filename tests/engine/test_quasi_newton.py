"""The search of the deterministic methods on functions with known minima, within boxes and past cliffs."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import Bounds, NonlinearConstraint, minimize, rosen, rosen_der

from elbomix.engine.estimate import Array
from elbomix.engine.methods.quasi_newton import (
    Limits,
    Single,
    Visited,
    cross_product,
    minimise,
    trust_step,
    updated,
)


@dataclass
class Squares:
    """Squares of residuals: each is a contribution. ``cliff``: beyond it in x[0] nothing is defined."""

    n: int
    kind: str
    cliff: float = np.inf
    seen: list[Array] = field(default_factory=list)

    def residuals(self, x: Array) -> tuple[Array, Array]:
        if self.kind == "rosenbrock":
            first, slopes = np.zeros((self.n - 1,)), np.zeros((self.n - 1, self.n))
            first[:] = 10 * (x[1:] - x[:-1] ** 2)
            at = np.arange(self.n - 1)
            slopes[at, at], slopes[at, at + 1] = -20 * x[:-1], 10.0
            return np.append(first, 1 - x[:-1]), np.vstack([slopes, -np.eye(self.n)[:-1]])
        scale = np.logspace(-2, 2, self.n)
        return scale * (x - 1), np.diag(scale)

    def value(self, point: Array, memory: Any) -> tuple[float, Any]:
        self.seen.append(point)
        if point[0] > self.cliff:
            return np.inf, None
        return float((self.residuals(point)[0] ** 2).sum()), memory

    def scores(self, point: Array, memory: Any) -> Array:
        residuals, slopes = self.residuals(point)
        return np.asarray(2 * residuals[:, None] * slopes)


def free(n: int) -> Limits:
    return Limits(np.full(n, -np.inf), np.full(n, np.inf), 1e-9)


@pytest.mark.parametrize("n", [2, 5, 10])
def test_rosenbrock(n: int) -> None:
    found = minimise(Squares(n, "rosenbrock"), np.full(n, 0.3), free(n))
    assert found.ended == "converged"
    # a decrease of 1e-9 was no longer predicted; the least curvature is above 1e-1
    np.testing.assert_allclose(found.best.point, 1.0, atol=1e-3)
    assert found.best.value < 1e-7


def test_ill_conditioned_quadratic() -> None:
    found = minimise(Squares(6, "quadratic"), np.zeros(6), free(6))
    assert found.ended == "converged"
    assert found.best.value < 1e-8


def test_box_against_scipy() -> None:
    """Minimum of Rosenbrock's function where the box keeps two coordinates away from it."""
    function = Squares(4, "rosenbrock")
    lower, upper = np.full(4, -2.0), np.array([0.5, 2.0, 0.3, 2.0])
    start = np.array([-0.5, 1.0, 0.0, 0.5])
    found = minimise(function, start, Limits(lower, upper, 1e-10))

    def slope(x: Array) -> Array:
        return np.asarray(function.scores(x, None).sum(0))

    def value(x: Array) -> float:
        return function.value(x, None)[0]

    scipys = minimize(value, start, method="L-BFGS-B", jac=slope, bounds=Bounds(lower, upper), tol=1e-14)
    assert found.ended == "converged"
    assert found.best.value == pytest.approx(scipys.fun, abs=1e-8)
    np.testing.assert_allclose(found.best.point, scipys.x, atol=1e-4)


def test_undefined_values_are_steps_too_far() -> None:
    function = Squares(3, "rosenbrock", cliff=1.02)
    found = minimise(function, np.zeros(3), free(3))
    assert found.ended == "converged"
    np.testing.assert_allclose(found.best.point, 1.0, atol=1e-3)


def test_no_value_at_the_start() -> None:
    found = minimise(Squares(2, "rosenbrock", cliff=-1.0), np.zeros(2), free(2))
    assert found.ended == "infinite"


def test_limit_of_evaluations() -> None:
    rows: list[tuple[int, float]] = []

    def watch(number: int, at: Visited, decrease: float) -> None:
        rows.append((number, at.value))

    limits = Limits(np.full(5, -np.inf), np.full(5, np.inf), 1e-9, max_evaluations=4)
    found = minimise(Squares(5, "rosenbrock"), np.zeros(5), limits, watch)
    assert found.ended == "evaluations"
    assert [number for number, _ in rows] == list(range(len(rows)))
    assert all(later < earlier for (_, earlier), (_, later) in pairwise(rows))


def test_a_parameter_without_effect_stays() -> None:
    class Blind(Squares):
        def residuals(self, x: Array) -> tuple[Array, Array]:
            residuals, slopes = super().residuals(np.array([x[0], x[1], 1.0]))
            return residuals, slopes * np.array([1.0, 1.0, 0.0])

    found = minimise(Blind(3, "quadratic"), np.array([0.0, 0.0, 0.25]), free(3))
    assert found.ended == "converged"
    assert found.best.point[2] == 0.25


@pytest.mark.parametrize("radius", [0.1, 1.0, np.inf])
def test_trust_step_against_scipy(radius: float) -> None:
    rng = np.random.default_rng(2)
    root = rng.normal(size=(4, 4))
    hessian, gradient = root @ root.T + 0.1 * np.eye(4), 3 * rng.normal(size=4)
    step = trust_step(hessian, gradient, radius)
    assert np.linalg.norm(step) <= radius * (1 + 2e-3)

    def quadratic(p: Array) -> float:
        return float(gradient @ p + 0.5 * p @ hessian @ p)

    bound = NonlinearConstraint(lambda p: p @ p, -np.inf, min(radius, 1e3) ** 2)
    best = minimize(quadratic, np.zeros(4), method="SLSQP", constraints=bound, tol=1e-12)
    assert quadratic(step) <= best.fun + 3e-3 * abs(best.fun)


def test_update_meets_the_secant_condition() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(5, 5))
    true = root @ root.T + np.eye(5)
    step = rng.normal(size=5)
    made = updated(np.eye(5), step, true @ step)
    np.testing.assert_allclose(made @ step, true @ step, rtol=1e-10)
    # against negative curvature it is damped, and stays positive definite
    assert np.linalg.eigvalsh(updated(np.eye(5), step, -true @ step))[0] > 0


def test_cross_product_estimates_the_information() -> None:
    """For -2 log L of N(mu, 1): twice the number of observations, to the sampling error of a variance."""
    y = np.random.default_rng(4).normal(size=4000)
    hessian = cross_product(-2 * y[:, None])  # at the true mean
    assert hessian[0, 0] == pytest.approx(2 * len(y), rel=4 * np.sqrt(2 / len(y)))  # 4 standard errors


@pytest.mark.parametrize("n", [2, 5, 10])
def test_rosenbrock_as_no_sum(n: int) -> None:
    """Without contributions that tell of the curvature, as fast and as low as scipy's BFGS."""

    def rosenbrock(x: Array) -> tuple[float, Array]:
        return float(rosen(x)), np.asarray(rosen_der(x))

    found = minimise(Single(rosenbrock), np.full(n, -1.2), Limits.none(n, 1e-12, 1000))
    scipys = minimize(rosen, np.full(n, -1.2), jac=rosen_der, method="BFGS", options={"gtol": 1e-8})
    assert found.ended == "converged"
    # in more dimensions there is a second minimum: both must stop at a stationary point as low as it
    assert found.best.value <= scipys.fun + 1e-8
    assert found.evaluations <= 3 * scipys.nfev


def test_ill_conditioned_quadratic_as_no_sum() -> None:
    rng = np.random.default_rng(1)
    root, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    matrix = root @ np.diag(np.logspace(-3, 3, 8)) @ root.T
    best = rng.normal(size=8)

    def objective(x: Array) -> tuple[float, Array]:
        return float(0.5 * (x - best) @ matrix @ (x - best)), matrix @ (x - best)

    found = minimise(Single(objective), np.zeros(8), Limits.none(8, 1e-12, 500))
    assert found.ended == "converged"
    assert found.best.value < 1e-8


def test_no_sum_with_values_that_are_not_finite() -> None:
    def objective(x: Array) -> tuple[float, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(x[0] - np.log(x[0])), 1.0 - 1.0 / x

    found = minimise(Single(objective), np.array([0.01]), Limits.none(1, 1e-14, 100))
    assert found.best.point[0] == pytest.approx(1.0, abs=1e-6)
