"""R, S and the sandwich: in closed form where everything is linear; what is said where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import linear_mixed as lmm
from support.streams import read

from elbomix.engine.estimate import initial
from elbomix.engine.methods.conditional import ConditionalSettings, estimate_conditional
from elbomix.engine.objective.population import Population
from elbomix.engine.parameterisation.natural import NaturalParameters
from elbomix.engine.uncertainty.covariance_step import (
    CovarianceSettings,
    combine,
    covariance_step,
    state_of,
)

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
        made = covariance_step(population, step, CovarianceSettings(matrix))  # type: ignore[arg-type]
        found = made.uncertainty
        assert found is not None
        assert made.said == ""
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
    made = covariance_step(population, step)
    found, matrices = made.uncertainty, made.matrices
    assert found is not None and matrices is not None and matrices.r is not None
    assert found.se[-1] == found.se[-3] > 0
    assert np.isnan(found.se[-2])
    assert len(found.eigenvalues) == 5
    assert matrices.r[-3, -3] > 0  # R and S have each parameter once
    assert (matrices.r[-2:] == 0).all()


def test_information_of_the_step_itself(tmp_path: Path) -> None:
    """A sampling method brings its own information and scores."""

    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model))
    own = covariance_step(population, step)
    assert own.uncertainty is not None and own.matrices is not None
    at = NaturalParameters(model).index
    scores = np.zeros((len(at), len(own.uncertainty.se)))
    scores[:, at] = np.linalg.cholesky(own.matrices.s[np.ix_(at, at)]).T  # type: ignore[index]
    found = covariance_step(population, replace(step, information=own.matrices.r, scores=scores))
    assert found.uncertainty is not None
    np.testing.assert_allclose(found.uncertainty.covariance, own.uncertainty.covariance, rtol=1e-6)
    assert own.matrices.r is not None
    noisy = own.matrices.r * np.where(np.arange(len(own.matrices.r)) == at[-1], -1.0, 1.0)
    noisy[at[-1]] = noisy[:, at[-1]]
    made = covariance_step(population, replace(step, information=noisy, scores=scores))
    assert made.uncertainty is not None and "not positive definite" in made.said
    assert "absolute values" in made.uncertainty.source
    settings = CovarianceSettings(repair="none")
    assert covariance_step(population, replace(step, information=noisy), settings).uncertainty is None


def test_matrices_that_are_not_positive_definite(tmp_path: Path) -> None:
    model, _ = read(tmp_path, lmm.stream(), lmm.rows())
    natural, at = NaturalParameters(model), initial(model)
    r = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    made = combine(model, at, natural, "sandwich", r, np.eye(7))
    assert made.uncertainty is None
    assert made.said == "the R matrix is not positive definite; look at OMEGA(2,2)"
    assert made.matrices is not None
    assert (made.matrices.r_state, made.matrices.s_state) == ("indefinite", "sound")
    np.testing.assert_array_equal(made.matrices.r, natural.expand(r))
    s = np.diag([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    s[6, 5] = s[5, 6] = 1.0  # singular together
    s[6, 6] = 1.0
    made = combine(model, at, natural, "s", None, s)
    assert made.uncertainty is None
    assert made.said.startswith("the S matrix is singular")
    made = combine(model, at, natural, "sandwich", np.eye(7), s)
    assert made.uncertainty is not None  # the sandwich needs no inverse of S
    assert made.said.startswith("the S matrix is singular")
    np.testing.assert_allclose(made.uncertainty.covariance, natural.expand(s), atol=1e-12)
    r[0, 0] = np.nan
    made = combine(model, at, natural, "r", r, s)
    assert made.said == "the R matrix cannot be computed; look at THETA1"
    assert made.matrices is not None and made.matrices.r is None


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ([1.0, 2.0], "sound"),
        ([1.0, -2.0], "indefinite"),
        ([1.0, 0.0], "singular"),
        ([1.0, 0.0, -1.0], "singular_indefinite"),
        ([1.0, np.inf], "unobtainable"),
    ],
)
def test_state_of_a_matrix(values: list[float], state: str) -> None:
    assert state_of(np.diag(values)) == state


def test_an_indefinite_matrix_made_positive_definite(tmp_path: Path) -> None:
    """By the rules of POSDEF, of the eigenvalues 1 + c and 1 - c of a block with correlation c."""
    model, _ = read(tmp_path, lmm.stream(), lmm.rows())
    natural, at = NaturalParameters(model), initial(model)
    scale = np.arange(1.0, 8.0)
    r = np.eye(7)
    r[5, 6] = r[6, 5] = c = 1.2
    r *= np.outer(scale, scale)
    axes = np.array([[1.0, 1.0], [1.0, -1.0]]) / np.sqrt(2.0)
    for repair, values in (
        ("absolute", (c + 1, c - 1)),
        ("floored", (c + 1, 0.01)),  # the least positive eigenvalue is one of the five ones
        ("shifted", (c + 1 + 1.01 * (c - 1), 0.01 * (c - 1))),
    ):
        made = combine(model, at, natural, "r", r, None, repair)  # type: ignore[arg-type]
        assert made.uncertainty is not None and made.matrices is not None
        found = made.uncertainty.covariance[np.ix_(natural.index, natural.index)][5:, 5:]
        expected = axes @ np.diag(1.0 / np.array(values)) @ axes / np.outer(scale[5:], scale[5:])
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        assert "not positive definite; look at OMEGA(2,1)" in made.said
        assert "eigenvalue" in made.uncertainty.source
        np.testing.assert_array_equal(made.matrices.r, natural.expand(r))  # as it was


def test_a_failed_search_has_none_unless_asked(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model), ConditionalSettings(max_evaluations=10))
    assert covariance_step(population, step).uncertainty is None
    assert covariance_step(population, step, CovarianceSettings(unconditional=True)).uncertainty is not None


def test_an_estimate_at_a_bound_has_none_unless_asked(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    step = estimate_conditional(population, "focei", initial(model))
    assert step.search is not None
    step = replace(step, search=replace(step.search, near_bound=("THETA2", "OMEGA(1,1)")))
    made = covariance_step(population, step)
    assert made.uncertainty is None
    assert made.said.startswith("at a bound: THETA2, OMEGA(1,1) (")
    assert covariance_step(population, step, CovarianceSettings(unconditional=True)).uncertainty is not None
