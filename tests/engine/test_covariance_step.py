"""R, S and the sandwich: in closed form where everything is linear; what is said where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support import linear_mixed as lmm
from support.streams import read

from elbomix.engine.covariance_step import (
    R_INDEFINITE,
    S_SINGULAR,
    CovarianceSettings,
    combine,
    covariance_step,
)
from elbomix.engine.estimate import initial
from elbomix.engine.methods.conditional import ConditionalSettings, estimate_conditional
from elbomix.engine.natural_parameters import NaturalParameters
from elbomix.engine.objective.population import Population

Floats = NDArray[np.float64]
EVALUATED = ConditionalSettings(max_evaluations=0)


def test_closed_forms(tmp_path: Path) -> None:
    """R and S by differences of the exact likelihood of a linear mixed model, at its maximum."""
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model), ConditionalSettings(decrease=1e-10))
    x = step.estimate.flatten()
    r = 0.5 * lmm.hessian(lambda v: float(lmm.by_subject(rows, lmm.of_vector(v)).sum()), x)
    moves = np.diag(1e-4 * np.maximum(np.abs(x), 0.1))
    slopes = [
        (lmm.by_subject(rows, lmm.of_vector(x + m)) - lmm.by_subject(rows, lmm.of_vector(x - m)))
        / m.sum()
        / 2
        for m in moves
    ]
    scores = 0.5 * np.array(slopes)
    s = scores @ scores.T
    inverse = np.linalg.inv(r)
    expected = {"r": inverse, "s": np.linalg.inv(s), "sandwich": inverse @ s @ inverse}
    for matrix, covariance in expected.items():
        found, note = covariance_step(population, step, CovarianceSettings(matrix))  # type: ignore[arg-type]
        assert found is not None
        assert note == ""
        # differences of the reference are good to 1e-4; ours to the square of 0.02 standard errors
        np.testing.assert_allclose(found.se, np.sqrt(np.diag(covariance)), rtol=2e-3)
        scale = np.outer(found.se, found.se)
        np.testing.assert_allclose(found.covariance / scale, covariance / scale, atol=4e-3)
        sd = np.sqrt(np.diag(covariance))
        np.testing.assert_allclose(
            found.eigenvalues, np.linalg.eigvalsh(covariance / np.outer(sd, sd)), atol=1e-2
        )


def test_a_repeated_block_has_the_standard_error_of_its_source(tmp_path: Path) -> None:
    omega = "BLOCK(1) 0.2\n$OMEGA BLOCK(1) SAME"
    model, data = read(tmp_path, lmm.stream(omega=omega), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model))
    found, _ = covariance_step(population, step)
    assert found is not None
    assert found.se[-1] == found.se[-3] > 0
    assert np.isnan(found.se[-2])
    assert len(found.eigenvalues) == 5


def test_information_of_the_step_itself(tmp_path: Path) -> None:
    """A sampling method brings its own information and scores."""

    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model))
    own, _ = covariance_step(population, step)
    assert own is not None
    scores = np.linalg.cholesky(own.cross_product).T  # type: ignore[arg-type]
    found, _ = covariance_step(population, replace(step, information=own.information, scores=scores))
    assert found is not None
    np.testing.assert_allclose(found.covariance, own.covariance, rtol=1e-6)


def test_matrices_that_are_not_positive_definite(tmp_path: Path) -> None:
    model, _ = read(tmp_path, lmm.stream(), lmm.rows())
    natural, at = NaturalParameters(model), initial(model)
    r = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    found, why = combine(model, at, natural, "sandwich", r, np.eye(7))
    assert found is None
    assert why == f"{R_INDEFINITE}; look at OMEGA(2,2)"
    s = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    s[6, 5] = s[5, 6] = 1.0  # singular together
    s[6, 6] = 1.0
    found, why = combine(model, at, natural, "s", None, s)
    assert found is None
    assert why.startswith(S_SINGULAR)
    found, why = combine(model, at, natural, "sandwich", np.eye(7), s)
    assert found is not None  # the sandwich needs no inverse of S
    assert why.startswith(S_SINGULAR)
    np.testing.assert_allclose(found.covariance, natural.expand(s), atol=1e-12)


def test_a_failed_search_has_none_unless_asked(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model), ConditionalSettings(max_evaluations=10))
    assert covariance_step(population, step)[0] is None
    assert covariance_step(population, step, CovarianceSettings(unconditional=True))[0] is not None
