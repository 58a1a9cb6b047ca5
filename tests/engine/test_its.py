"""The iterative two stage method against NONMEM's runs, and where everything is linear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import linear_mixed as lmm
from support.nonmem_runs import load
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.iteration import Iteration
from elbomix.engine.methods.its import TwoStageSettings, estimate_its
from elbomix.engine.methods.trend import TrendTest
from elbomix.engine.objective.population import Population

Floats = NDArray[np.float64]
TESTED = TwoStageSettings(iterations=300, test=TrendTest("all", 1, 10), significant_digits=4)


def full(rows: list[list[float]]) -> Floats:
    made = np.zeros((len(rows), len(rows)))
    for i, row in enumerate(rows):
        made[i, : len(row)] = made[: len(row), i] = row
    return made


def test_nonmem_ends_at_the_same_point() -> None:
    run = load("nonmem", "bauer-504-its")
    model = run.model()
    step = estimate_its(Population(model, run.data(model)), initial(model), TESTED)
    given = run.case["estimates"][0]
    assert step.status.code == "converged"
    # NONMEM stopped where five digits stood
    assert step.ofv == pytest.approx(given["ofv"], abs=1e-4)
    assert step.history[0].objective == pytest.approx(1251.46390423190, abs=1e-6)
    np.testing.assert_allclose(step.estimate.theta, given["theta"], rtol=1e-4, atol=2e-6)
    np.testing.assert_allclose(step.estimate.omega, full(given["omega"]), rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(step.estimate.sigma, full(given["sigma"]), rtol=1e-4)


def test_a_mixture_at_the_initial_estimates() -> None:
    run = load("nonmem", "bauer-pmixture-saem")
    model = run.model()
    step = estimate_its(Population(model, run.data(model)), initial(model), TwoStageSettings(iterations=0))
    assert step.ofv == pytest.approx(run.case["estimates"][0]["ofv"], abs=1e-4)
    assert step.status.code == "evaluated"
    assert step.probabilities is not None
    table = (run.folder / "pmixture_saem.phi").read_text().split("TABLE NO.")[1].splitlines()[2:]
    theirs = np.array([[float(word) for word in line.split()] for line in table])
    phi = step.individuals.cond_mean + step.individuals.mu
    # means over the subpopulations, as printed to six digits; modes to NONMEM's own tolerance
    np.testing.assert_allclose(phi, theirs[:, 2:6], rtol=1e-4)
    np.testing.assert_allclose(step.individuals.cond_cov[:, 0, 0], theirs[:, 6], rtol=2e-3)


@pytest.mark.parametrize("not_mu", [frozenset[int](), frozenset({1})])
def test_a_line_satisfies_the_equations_of_the_method(tmp_path: Path, not_mu: frozenset[int]) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    settings = TwoStageSettings(
        iterations=400, test=TrendTest("all", 1, 10), significant_digits=6, not_mu=not_mu
    )
    seen: list[Iteration] = []
    step = estimate_its(Population(model, data), initial(model), settings, seen.append)
    assert step.status.code == "converged" and seen == list(step.history)
    at = step.estimate
    mean, covariance = lmm.posteriors(rows, at)
    n = len(mean)
    # FOCE is exact here
    assert step.ofv == pytest.approx(lmm.by_subject(rows, at).sum(), abs=1e-8)
    np.testing.assert_allclose(at.omega, mean.T @ mean / (n - 1) + covariance.mean(0), rtol=1e-4, atol=1e-5)
    for k, step_size in ((0, 1e-4), (1, 1e-4), (2, 1e-4), (3, 1e-4)):
        ends = []
        for sign in (1, -1):
            moved = at.flatten()
            moved[k] += sign * step_size
            ends.append(lmm.by_subject(rows, lmm.of_vector(moved)).sum())
        slope, bend = (ends[0] - ends[1]) / (2 * step_size), (sum(ends) - 2 * step.ofv) / step_size**2
        assert abs(slope / bend) < 1e-4 * max(abs(at.flatten()[k]), 0.1)
    np.testing.assert_allclose(step.individuals.ebe, mean, atol=1e-7)
    np.testing.assert_allclose(step.individuals.cond_cov, covariance, atol=1e-8)


def test_iterations_without_a_test(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows(10))
    step = estimate_its(Population(model, data), initial(model), TwoStageSettings(iterations=5))
    assert [row.number for row in step.history] == list(range(6))
    assert step.status.code == "not_converged" and step.convergence is not None
    assert not step.convergence.tested


def test_a_subject_without_a_density_is_named(tmp_path: Path) -> None:
    stream = lmm.stream().replace("Y = A", "IF (ID.EQ.3) EXIT 1 7\nY = A")
    model, data = read(tmp_path, stream, lmm.rows(5))
    step = estimate_its(Population(model, data), initial(model), TwoStageSettings())
    assert step.status.code == "failed" and "subject 3" in step.status.message
    assert isinstance(step.estimate, Estimate)
