"""BFGS against scipy's on functions with known minima."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der

from elbomix.engine.estimate import Array
from elbomix.engine.methods.bfgs import minimise


def rosenbrock(x: Array) -> tuple[float, Array]:
    return float(rosen(x)), np.asarray(rosen_der(x))


@pytest.mark.parametrize("n", [2, 5, 10])
def test_rosenbrock(n: int) -> None:
    found = minimise(rosenbrock, np.full(n, -1.2), tolerance=1e-8, max_iterations=1000)
    scipys = minimize(rosen, np.full(n, -1.2), jac=rosen_der, method="BFGS", options={"gtol": 1e-8})
    assert found.converged
    # in more dimensions there is a second minimum: both must stop at a stationary point as low as it
    assert found.value <= scipys.fun + 1e-8
    assert found.iterations <= 3 * scipys.nit


def test_ill_conditioned_quadratic() -> None:
    rng = np.random.default_rng(1)
    root, _ = np.linalg.qr(rng.normal(size=(8, 8)))
    matrix = root @ np.diag(np.logspace(-3, 3, 8)) @ root.T
    best = rng.normal(size=8)

    def objective(x: Array) -> tuple[float, Array]:
        return float(0.5 * (x - best) @ matrix @ (x - best)), matrix @ (x - best)

    found = minimise(objective, np.zeros(8), tolerance=1e-9, max_iterations=500)
    np.testing.assert_allclose(found.point, best, atol=1e-5)


def test_values_that_are_not_finite_are_steps_too_far() -> None:
    def objective(x: Array) -> tuple[float, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return float(x[0] - np.log(x[0])), 1.0 - 1.0 / x

    found = minimise(objective, np.array([0.01]), tolerance=1e-8)
    assert found.point[0] == pytest.approx(1.0, abs=1e-6)
