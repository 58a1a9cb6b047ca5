"""Importance sampling against exact likelihoods, exact maxima and quadrature."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal, multivariate_t
from support import linear_mixed as lmm
from support.nonmem_runs import corpus
from support.streams import read

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.iteration import Iteration
from elbomix.engine.methods.importance_sampling import (
    ImportanceSettings,
    enough_draws,
    estimate_importance,
)
from elbomix.engine.methods.importance_step import ProposalSettings
from elbomix.engine.methods.trend import TrendTest
from elbomix.engine.objective.importance_density import Points, Proposal, base_points
from elbomix.engine.objective.population import Population
from elbomix.parsers.read import read_data, read_model

Floats = NDArray[np.float64]
FALSE_ALARM = 1e-4  # of each distributional test
EVALUATE = ImportanceSettings(iterations=3, draws=1000, evaluate_only=True, information=False)
AT = Estimate(np.array([2.0, -0.5, 0.7]), np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([[0.36]]))


def proposal(df: int = 0, tail: float | None = None) -> Proposal:
    covariance = np.array([[[0.5, 0.2], [0.2, 0.4]], [[1.0, -0.3], [-0.3, 0.2]]])
    return Proposal(
        np.array([[1.0, -1.0], [0.0, 2.0]]), covariance, np.array([1.3, 0.7]), np.full(2, df), tail
    )


@pytest.mark.parametrize("df", [0, 4, 7])
def test_densities_are_those_of_the_draws(df: int) -> None:
    made = proposal(df)
    for points in ("random", "sobol"):
        drawn, density = made.draw(base_points(4096, 2, 2, points, 7, "test"))
        for i in range(2):
            scale = made.scale[i] * made.covariance[i]
            if df == 0:
                expected = multivariate_normal.logpdf(drawn[:, i], made.centre[i], scale)
            else:
                expected = multivariate_t.logpdf(drawn[:, i], made.centre[i], scale, df)
            np.testing.assert_allclose(density[:, i], expected, rtol=1e-9)
            for k in range(2):
                white = (drawn[:, i, k] - made.centre[i, k]) / np.sqrt(scale[k, k])
                law = ("norm",) if df == 0 else ("t", (df,))
                assert kstest(white, *law).pvalue > FALSE_ALARM


def test_two_scales_are_a_mixture() -> None:
    made = proposal(tail=5.0)
    drawn, density = made.draw(base_points(4000, 2, 2, "random", 7, "test"))
    for i in range(2):
        parts = [
            multivariate_normal.logpdf(drawn[:, i], made.centre[i], s * made.covariance[i])
            for s in (made.scale[i], 5.0)
        ]
        np.testing.assert_allclose(density[:, i], np.logaddexp(*parts) - np.log(2), rtol=1e-9)
        # E[1 / q] over a box, by draws of q, is the area of the box: 4000 draws, five standard errors
        inside = (np.abs(drawn[:, i] - made.centre[i]) < 0.5).all(1)
        terms = np.where(inside, np.exp(-density[:, i]), 0.0)
        assert terms.mean() == pytest.approx(1.0, abs=5 * terms.std() / np.sqrt(4000))


@pytest.mark.parametrize("points", ["random", "sobol"])
def test_draws_from_two_densities_integrate_to_one(points: Points) -> None:
    broad = np.array([[3.0, 0.5], [0.5, 2.0]])
    for made in (
        proposal(tail=5.0),
        replace(proposal(), guarded=np.array([True, False]), broad=broad),
        replace(proposal(tail=5.0), guarded=np.array([False, True]), broad=broad),
    ):
        drawn, density = made.draw(base_points(4096, 2, 2, points, 7, "test"))
        for i in range(2):
            scales = [made.scale[i] * made.covariance[i]]
            centres = [made.centre[i], made.centre[i]]
            if made.guarded is not None and made.guarded[i]:
                scales, centres = [*scales, broad], [centres[0], np.zeros(2)]
            elif made.tail is not None:
                scales.append(5.0 * made.covariance[i])
            parts = [
                multivariate_normal.logpdf(drawn[:, i], c, s) for c, s in zip(centres, scales, strict=False)
            ]
            np.testing.assert_allclose(density[:, i], np.logaddexp.reduce(parts) - np.log(len(parts)))
            inside = (np.abs(drawn[:, i] - made.centre[i]) < 0.5).all(1)
            terms = np.where(inside, np.exp(-density[:, i]), 0.0)
            assert terms.mean() == pytest.approx(1.0, abs=5 * terms.std() / np.sqrt(4096))


def test_posteriors_in_pieces_are_found(tmp_path: Path) -> None:
    # before its lag a subject's response is 0: the density of a lag jumps at every sample, and the search for
    # its mode stays between two of them
    rng = np.random.default_rng(5)
    rows: list[dict[str, float]] = []
    times = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0])

    def response(lag: Floats) -> Floats:
        after = times - np.asarray(lag)[..., None]
        return np.where(after > 0, 4.0 * np.exp(-0.3 * after), 0.0)

    for i in range(30):
        y = response(np.exp(rng.normal(0, 0.6))) + rng.normal(0, 0.25, len(times))
        rows += [{"ID": i + 1, "TIME": float(t), "DV": float(v)} for t, v in zip(times, y, strict=True)]
    stream = (
        "$PROBLEM lag\n$INPUT {columns}\n$DATA {file} IGNORE=@\n$PRED\nLAG = THETA(1)*EXP(ETA(1))\n"
        "A = 0\nIF (TIME.GT.LAG) A = 4*EXP(-0.3*(TIME - LAG))\nY = A + EPS(1)\n"
        "$THETA (0,1)\n$OMEGA 0.36\n$SIGMA 0.0625\n$ESTIMATION METHOD=IMP\n"
    )
    model, data = read(tmp_path, stream, rows)
    grid = np.linspace(-6, 6, 200001) * 0.6
    log_prior = -0.5 * grid**2 / 0.36 - 0.5 * np.log(2 * np.pi * 0.36)
    exact = 0.0
    for i in range(30):
        y = np.array([row["DV"] for row in rows if row["ID"] == i + 1])
        square = np.square(y - response(np.exp(grid))).sum(-1) / 0.0625 + len(times) * np.log(0.0625)
        exact -= 2.0 * (logsumexp(log_prior - 0.5 * square) + np.log(grid[1] - grid[0]))
    settings = replace(EVALUATE, iterations=10, draws=300)
    found = estimate_importance(Population(model, data), initial(model), settings)
    assert found.objective_se is not None and found.objective_se < 1.0  # 1.5 by normal densities alone
    assert found.effective_draws is not None and found.effective_draws.min() > 50  # likewise 4
    assert found.ofv == pytest.approx(exact, abs=4 * found.objective_se)


def test_even_points_integrate_better_than_random_ones() -> None:
    errors = {}
    for points in ("random", "sobol"):
        base = base_points(1024, 50, 5, points, 3, "test")
        smooth = np.cos(0.4 * base.normal.sum(-1)).mean(0) - np.exp(-0.08 * 5)
        errors[points] = np.sqrt((smooth**2).mean())
    # cos has a variance below 1/2: 50 means of 1024
    assert errors["random"] < 1.5 * np.sqrt(0.5 / 1024)
    assert errors["sobol"] < 0.5 * errors["random"]


@pytest.mark.parametrize(
    "shape",
    [
        ProposalSettings(),
        ProposalSettings(acceptance=0.0),
        ProposalSettings(df=4),
        ProposalSettings(tail_acceptance=0.05),
        ProposalSettings(points="sobol"),
        ProposalSettings(acceptance=1.0),
    ],
)
def test_the_objective_is_the_likelihood(tmp_path: Path, shape: ProposalSettings) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    step = estimate_importance(Population(model, data), AT, replace(EVALUATE, proposal=shape))
    exact = lmm.by_subject(rows, AT)
    assert step.objective_se is not None and step.effective_draws is not None
    # where the proposal is the posterior itself there is no error left but that of its moments
    assert step.ofv == pytest.approx(exact.sum(), abs=4 * step.objective_se + 1e-9)
    assert step.objective_se < 0.6
    assert step.status.code == "evaluated"
    assert step.individuals.objective.sum() == pytest.approx(step.ofv)
    mean, covariance = lmm.posteriors(rows, AT)
    error = np.sqrt(np.einsum("ikk->ik", covariance) / step.effective_draws[:, None])
    assert (np.abs(step.individuals.cond_mean - mean) < 5 * error).all()
    np.testing.assert_allclose(step.individuals.ebe, mean, atol=1e-6)
    np.testing.assert_allclose(step.individuals.cond_cov, covariance, atol=0.25 * covariance.max())


def test_drawing_from_the_prior(tmp_path: Path) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    settings = replace(EVALUATE, iterations=0, draws=20000, proposal=ProposalSettings(from_prior=True))
    step = estimate_importance(Population(model, data), AT, settings)
    assert step.objective_se is not None
    assert step.ofv == pytest.approx(lmm.by_subject(rows, AT).sum(), abs=4 * step.objective_se)


def test_standard_errors_are_honest(tmp_path: Path) -> None:
    rows = lmm.rows(15)
    model, data = read(tmp_path, lmm.stream(), rows)
    population, exact = Population(model, data), lmm.by_subject(rows, AT).sum()
    z = []
    for seed in range(30):
        shape = ProposalSettings(acceptance=0.2, seed=seed)
        step = estimate_importance(population, AT, replace(EVALUATE, iterations=1, draws=200, proposal=shape))
        assert step.objective_se is not None
        z.append((step.ofv - exact) / step.objective_se)
    # 30 standard normal values: |mean| < 4 / sqrt(30), SD within the 1e-4 points of chi square with 29 df
    assert abs(np.mean(z)) < 4 / np.sqrt(30)
    assert 0.5 < np.std(z) < 1.6


@pytest.mark.parametrize("not_mu", [frozenset[int](), frozenset({1})])
def test_information_and_scores_are_exact(tmp_path: Path, not_mu: frozenset[int]) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    settings = replace(EVALUATE, draws=4000, iterations=1, information=True, not_mu=not_mu)
    even = ProposalSettings(acceptance=0.6, points="sobol")
    step = estimate_importance(Population(model, data), AT, replace(settings, proposal=even))
    assert step.information is not None and step.scores is not None
    values = AT.flatten()

    def objective(x: Floats) -> float:
        return float(lmm.by_subject(rows, lmm.of_vector(x)).sum())

    exact = lmm.hessian(objective, values) / 2
    size = np.sqrt(np.diag(exact))
    np.testing.assert_allclose(
        step.information / np.outer(size, size), exact / np.outer(size, size), atol=0.03
    )
    np.testing.assert_allclose(
        np.sqrt(np.diag(np.linalg.inv(step.information))), np.sqrt(np.diag(np.linalg.inv(exact))), rtol=0.03
    )
    for k in range(len(values)):
        moved = [values + s * 1e-5 * np.eye(len(values))[k] for s in (1, -1)]
        ahead, behind = (lmm.by_subject(rows, lmm.of_vector(x)) for x in moved)
        slope = 0.5 * (ahead - behind) / 2e-5
        np.testing.assert_allclose(step.scores[:, k], slope, atol=0.03 * np.abs(slope).max())


@pytest.mark.parametrize("method", ["imp", "impmap"])
def test_a_fit_ends_at_the_exact_maximum(tmp_path: Path, method: str) -> None:
    rows = lmm.rows()
    model, data = read(tmp_path, lmm.stream(), rows)
    seen: list[Iteration] = []
    settings = ImportanceSettings(
        iterations=200,
        draws=400,
        mode_iterations=1 if method == "imp" else 200,
        proposal=ProposalSettings(acceptance=0.6, points="sobol"),
        test=TrendTest("all", 1, 10),
    )
    step = estimate_importance(Population(model, data), initial(model), settings, seen.append, method=method)  # type: ignore[arg-type]
    assert step.status.code == "converged" and step.convergence is not None and step.convergence.converged
    assert seen == list(step.history) and len(seen) < 200
    exact = lmm.maximum(rows, step.estimate)
    gain = lmm.by_subject(rows, step.estimate).sum() - lmm.by_subject(rows, exact).sum()
    assert gain < 0.02  # of -2 log-likelihood left to gain
    assert step.information is not None
    error = np.sqrt(np.diag(np.linalg.inv(step.information)))
    assert (np.abs(step.estimate.flatten() - exact.flatten()) < 0.1 * error).all()


def test_a_step_before_gives_the_first_proposals(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    population = Population(model, data)
    first = estimate_importance(population, AT, EVALUATE)
    settings = replace(EVALUATE, iterations=0, mode_iterations=0)
    second = estimate_importance(population, AT, settings, individuals=first.individuals)
    assert second.effective_draws is not None and second.effective_draws.min() > 200
    assert second.ofv == pytest.approx(
        first.ofv, abs=4 * (first.objective_se or 0) + 4 * (second.objective_se or 0)
    )


def test_more_draws_where_the_objective_is_noisy(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows())
    settings = replace(EVALUATE, draws=100, objective_sd=0.3, iterations=4)
    step = estimate_importance(Population(model, data), AT, settings)
    assert step.objective_se is not None and step.objective_se < 0.33
    assert 100 < step.settings["last_draws"] <= 10000  # type: ignore[operator]


def test_draws_rise_and_fall_within_their_limits() -> None:
    # the variance of the objective is inverse to their number; fewer leave room for its noise
    settings = ImportanceSettings(draws=300, most_draws=5000, objective_sd=1.0)
    assert [enough_draws(settings, 400, se) for se in (2.0, 1.1, 0.99, 0.8, 0.5, 0.1, np.inf)] == [
        1600,
        math.ceil(400 * 1.1**2),
        400,
        400,
        300,
        300,
        5000,
    ]
    assert enough_draws(settings, 2000, 0.6) == math.ceil(2 * 2000 * 0.6**2)
    assert enough_draws(replace(settings, objective_sd=0.0), 400, 9.0) == 400


def test_same_seed_same_digits_whatever_the_threads(tmp_path: Path) -> None:
    model, data = read(tmp_path, lmm.stream(), lmm.rows(12))
    settings = ImportanceSettings(iterations=4, draws=50)
    steps = [estimate_importance(Population(model, data, n), initial(model), settings) for n in (1, 2, 3)]
    for other in steps[1:]:
        np.testing.assert_array_equal(steps[0].estimate.flatten(), other.estimate.flatten())
        assert steps[0].ofv == other.ofv
    other_seed = replace(settings, proposal=ProposalSettings(seed=5))
    assert estimate_importance(Population(model, data), initial(model), other_seed).ofv != steps[0].ofv


def test_a_subject_without_a_density_is_named(tmp_path: Path) -> None:
    stream = lmm.stream().replace("Y = A", "IF (ID.EQ.3) EXIT 1 7\nY = A")
    model, data = read(tmp_path, stream, lmm.rows(5))
    step = estimate_importance(Population(model, data), initial(model), EVALUATE)
    assert step.status.code == "failed" and "subject 3 " in step.status.message
    assert step.ofv == np.inf


def test_a_skewed_posterior_against_a_fine_grid(tmp_path: Path) -> None:
    # a count of one observation: log-normal mean, Poisson likelihood, one eta: integrated by 20001 points
    stream = (
        "$PROBLEM counts\n$INPUT {columns}\n$DATA {file} IGNORE=@\n$PRED\nM = EXP(THETA(1) + ETA(1))\n"
        "Y = EXP(-M + DV*LOG(M) - GAMLN(DV + 1))\n$THETA 0.3\n$OMEGA 1.5\n$ESTIMATION METHOD=IMP LIKELIHOOD\n"
    )
    counts = [0, 1, 5, 12, 2]
    model, data = read(tmp_path, stream, [{"ID": i + 1, "DV": c} for i, c in enumerate(counts)])
    at = initial(model)
    settings = replace(EVALUATE, draws=4000, proposal=ProposalSettings(acceptance=0.0, points="sobol"))
    step = estimate_importance(Population(model, data), at, settings)
    eta = np.linspace(-12, 12, 20001)
    mean = np.exp(0.3 + eta)
    prior = np.exp(-0.5 * eta**2 / 1.5) / np.sqrt(2 * np.pi * 1.5)
    for i, count in enumerate(counts):
        density = prior * np.exp(-mean + count * np.log(mean)) / np.prod(np.arange(1.0, count + 1))
        exact = -2 * np.log(density.sum() * (eta[1] - eta[0]))
        # relative error of the mean of 4000 weights about 1 / sqrt(4000), far less with even points
        assert step.individuals.objective[i] == pytest.approx(exact, abs=0.02)


@pytest.mark.slow
def test_theophylline_reaches_the_maximum_of_quadrature(root: Path) -> None:
    model = read_model(root / "examples" / "theophylline" / "theophylline.ctl")
    data = read_data(model)
    table = pd.read_csv(corpus("theo_oracle") / "theophylline_64_subsets.csv")
    exact = float(table.loc[table["n_beta"] == 0, "m2ll_agq"].iloc[0])
    settings = ImportanceSettings(
        iterations=200,
        draws=1000,
        proposal=ProposalSettings(acceptance=0.0, points="sobol"),
        test=TrendTest("all", 1, 10),
        information=False,
    )
    step = estimate_importance(Population(model, data), initial(model), settings)
    assert step.status.code == "converged"
    # the value at the end, by many more draws: its error is far below the 0.1 that are allowed
    sure = replace(settings, iterations=2, draws=8000, evaluate_only=True)
    again = estimate_importance(Population(model, data), step.estimate, sure)
    constant = data.n_observations * np.log(2 * np.pi)
    assert again.objective_se is not None and again.objective_se < 0.06
    assert exact - 0.06 < again.ofv + constant < exact + 0.1
