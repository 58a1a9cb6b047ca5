"""Objectives, gradients and fits where omega is almost singular, against the exact likelihood.

Of a linear model it is known in closed form without an inverse of omega: a singular one is no obstacle.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import linear_mixed as lmm
from support.nonmem_runs import load
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.ir.task import Method
from elbomix.engine.methods.conditional import estimate_conditional
from elbomix.engine.objective.of_method import objective_of
from elbomix.engine.objective.population import Population
from elbomix.engine.parameterisation.unconstrained import Parameterisation

METHODS: tuple[Method, ...] = ("foce", "focei", "laplacei")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rest", [1e-3, 1e-6])
def test_value_and_gradient(tmp_path: Path, method: Method, rest: float) -> None:
    """``rest``: the standard deviation of the second effect that the first does not explain."""
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    root = np.array([[0.7, 0.0], [-0.4, rest]])
    at = Estimate(np.array([1.8, -0.4, 0.6]), root @ root.T, np.array([[0.4]]))
    objective = objective_of(Population(model, data), method)
    found = objective.value(at)
    # the exact second derivative of Laplace's method is by differences
    np.testing.assert_allclose(found.by_subject, lmm.by_subject(rows, at), rtol=1e-8, atol=1e-7)
    made = Parameterisation(model)
    free = made.pack(at)
    slopes = made.free_gradient(free, objective.gradient(found)).sum(0)
    by_differences = [
        (lmm.by_subject(rows, made.natural(free + step)) - lmm.by_subject(rows, made.natural(free - step)))
        .sum()
        .item()
        / 2e-4
        for step in 1e-4 * np.eye(made.size)
    ]
    # the error of the differences is of the order of 1e-8 of the third derivatives, which are below 1e4
    np.testing.assert_allclose(slopes, by_differences, atol=1e-3)


def test_a_fit_walks_along_the_boundary(tmp_path: Path) -> None:
    """Slopes that follow the intercepts exactly: the correlation of the estimates is one."""
    rng = np.random.default_rng(3)
    rows = []
    for i, b in enumerate(rng.normal(0, 1, 40), start=1):
        for t in (0.0, 1.0, 2.0, 4.0):
            y = 2.0 + b - 0.5 * t - 0.6 * b * t + rng.normal(0, 0.3)
            rows.append({"ID": float(i), "TIME": t, "X": float(rng.normal()), "DV": float(y)})
    model, data = read(tmp_path, lmm.stream(), rows)
    step = estimate_conditional(Population(model, data), "focei", initial(model))
    best = lmm.maximum(rows, initial(model))
    assert step.status.code == "converged"
    # scipy's search ends within its own tolerance of the same minimum
    assert step.ofv <= float(lmm.by_subject(rows, best).sum()) + 1e-3
    correlation = step.estimate.omega[0, 1] / np.sqrt(step.estimate.omega[0, 0] * step.estimate.omega[1, 1])
    assert correlation < -0.999


def test_covariates_as_observations() -> None:
    """Individual parameters that covariates determine; NONMEM used up its evaluations before the minimum."""
    case = load("nonmem", "frem-pheno-etas")
    model = case.model()
    step = estimate_conditional(Population(model, case.data(model)), "focei", initial(model))
    assert step.status.code == "converged"
    assert step.ofv <= case.case["estimates"][-1]["ofv"]
