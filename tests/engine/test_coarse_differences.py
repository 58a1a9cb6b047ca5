"""R and S by differences as coarse as few digits make NONMEM's, by hand from a likelihood in closed form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support import linear_mixed as lmm
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.methods.conditional import ConditionalSettings, estimate_conditional
from elbomix.engine.objective.population import Population
from elbomix.engine.parameterisation.natural import NaturalParameters
from elbomix.engine.uncertainty.covariance_step import CovarianceSettings, covariance_step

Floats = NDArray[np.float64]
BOUND = 3.0  # of all thetas, either side
DIGITS = 2.0
N = 3  # thetas


def logit(theta: Floats) -> Floats:
    return np.asarray(np.log((BOUND + theta) / (BOUND - theta)))


def at_logit(at: Estimate, change: Floats) -> Estimate:
    return replace(at, theta=BOUND * np.tanh(0.5 * (logit(at.theta) + change)))


def test_differences_by_hand(tmp_path: Path) -> None:
    """Four corners half a step away, slopes to omega and sigma half a step away, gradients a step away.

    Of the exact likelihood of a linear mixed model, on the logit scale of thetas within bounds. The reference
    differentiates to omega and sigma by differences of 1e-4, good to 1e-6.
    """
    rows = lmm.rows()
    stream = lmm.stream().replace("$THETA 1 0.1 0.2", "$THETA (-3,1,3) (-3,0.1,3) (-3,0.2,3)")
    model, data = read(tmp_path, stream, rows)
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model), ConditionalSettings(decrease=1e-10))
    made = covariance_step(population, step, CovarianceSettings(digits=DIGITS))
    assert made.matrices is not None and made.matrices.r is not None and made.matrices.s is not None
    assert made.uncertainty is not None and "SIGL" in made.uncertainty.source
    at, index = step.estimate, NaturalParameters(model).index
    moved = 0.1 + logit(at.theta) - logit(initial(model).theta)
    size = np.diag(np.maximum(np.abs(moved), 0.1))
    jacobian = (BOUND**2 - at.theta**2) / (2 * BOUND)

    def half(change: Floats, vector: Floats | None = None) -> Floats:
        there = at_logit(at if vector is None else lmm.of_vector(vector), change)
        return 0.5 * lmm.by_subject(rows, there)

    steps = 0.5 * 10 ** (-DIGITS / 4) * size
    expected = np.zeros((N, len(index)))
    values = at.flatten()
    for i, a in enumerate(steps):
        for j, b in enumerate(steps):
            corners = half(a + b) - half(a - b) - half(b - a) + half(-a - b)
            expected[i, j] = corners.sum() / (4 * a[i] * b[j] * jacobian[i] * jacobian[j])
        for k in range(N, len(values)):
            small = np.zeros(len(values))
            small[k] = 1e-4 * max(abs(values[k]), 0.1)
            slopes = [(half(s * a, values + small) - half(s * a, values - small)).sum() for s in (1, -1)]
            expected[i, k] = (slopes[0] - slopes[1]) / (2 * small[k] * 2 * a[i] * jacobian[i])
    found = made.matrices.r[np.ix_(index, index)]
    scale = np.outer(np.sqrt(np.diag(found))[:N], np.sqrt(np.diag(found)))
    np.testing.assert_allclose(found[:N] / scale, expected / scale, atol=1e-6)
    np.testing.assert_allclose(found, found.T, rtol=1e-12)
    exact = covariance_step(population, step).matrices
    assert exact is not None and exact.r is not None
    own = exact.r[np.ix_(index, index)]
    np.testing.assert_allclose(found[N:, N:], own[N:, N:], rtol=1e-12)
    assert np.abs((found[:N] - own[:N]) / scale).max() > 0.01  # coarse indeed
    steps = 10 ** (-DIGITS / 3) * size
    scores = np.array([(half(a) - half(-a)) / (2 * a[i] * jacobian[i]) for i, a in enumerate(steps)])
    np.testing.assert_allclose(made.matrices.s[:N, :N], scores @ scores.T, rtol=1e-6)


def test_many_digits_are_exact_derivatives(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model))
    exact, many = (covariance_step(population, step, CovarianceSettings(digits=d)) for d in (None, 10.0))
    assert exact.uncertainty is not None and many.uncertainty is not None
    np.testing.assert_array_equal(exact.uncertainty.covariance, many.uncertainty.covariance)
    assert many.uncertainty.source == exact.uncertainty.source
