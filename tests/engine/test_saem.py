"""SAEM against exact maxima of the likelihood, quadrature and NONMEM's own SAEM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import kstest, linregress, multivariate_normal
from support.nonmem_runs import load
from support.streams import read

from elbomix.engine.estimate import Estimate, initial, is_fixed, is_repeated
from elbomix.engine.failure import ModelFailure
from elbomix.engine.inner.metropolis import Kernels, Sweep, learn, start_chains
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.model import Model
from elbomix.engine.iteration import Iteration
from elbomix.engine.methods.importance_sampling import ImportanceSettings, estimate_importance
from elbomix.engine.methods.saem import SaemSettings, estimate_saem
from elbomix.engine.methods.trend import TrendTest, independent_interval, judge, trend_p_values
from elbomix.engine.objective.population import Population
from elbomix.parsers.read import read_data, read_model

Floats = NDArray[np.float64]
Rows = list[dict[str, float]]
FALSE_ALARM = 1e-4  # of each distributional test

HEAD = "$PROBLEM line\n$INPUT {columns}\n$DATA {file} IGNORE=@\n$PRED\n"
LINE = (
    HEAD
    + """A = THETA(1) + ETA(1)
B = THETA(2) + ETA(2)
Y = A + B*TIME + EPS(1)
$THETA 1 0.1
$OMEGA BLOCK(2) 0.2 0.01 0.1
$SIGMA 1
$ESTIMATION METHOD=SAEM
"""
)
OCCASIONS = (
    HEAD
    + """IOV = ETA(2)
IF (OCC.EQ.2) IOV = ETA(3)
A = THETA(1) + ETA(1) + IOV
Y = A + THETA(2)*TIME + EPS(1) + TIME*EPS(2)
$THETA 1 0.1
$OMEGA 0.2
$OMEGA BLOCK(1) 0.1
$OMEGA BLOCK(1) SAME
$SIGMA 1 1
$ESTIMATION METHOD=SAEM
"""
)


def line_rows(n: int = 40) -> Rows:
    """Subjects with 2 to 6 samples each of a line with random intercept and slope."""
    rng = np.random.default_rng(4)
    out: Rows = []
    for i in range(n):
        a, b = rng.multivariate_normal([2.0, -0.5], [[0.5, 0.1], [0.1, 0.3]])
        for t in np.sort(rng.uniform(0, 4, rng.integers(2, 7))):
            out.append({"ID": i + 1, "TIME": t, "DV": a + b * t + rng.normal(0, 0.6)})
    return out


def occasion_rows(n: int = 60) -> Rows:
    """Subjects with two occasions of five samples, an error that grows with time."""
    rng = np.random.default_rng(7)
    out: Rows = []
    for i in range(n):
        a = 2.0 + rng.normal(0, 0.7)
        for occasion in (1, 2):
            level = a + rng.normal(0, 0.5)
            for t in np.linspace(0.2, 3, 5) + 3 * (occasion - 1):
                noise = rng.normal(0, 0.3) + t * rng.normal(0, 0.15)
                out.append({"ID": i + 1, "TIME": t, "OCC": occasion, "DV": level - 0.4 * t + noise})
    return out


def normal_ll(rows: Rows, moments: Callable[[list[dict[str, float]]], tuple[Floats, Floats]]) -> float:
    """Return -2 log-likelihood of jointly normal subjects, without 2 pi."""
    total = 0.0
    for i in sorted({r["ID"] for r in rows}):
        own = [r for r in rows if r["ID"] == i]
        mean, covariance = moments(own)
        total -= 2.0 * multivariate_normal.logpdf([r["DV"] for r in own], mean, covariance)
        total -= len(own) * np.log(2 * np.pi)
    return total


def line_objective(rows: Rows) -> Callable[[Floats], float]:
    """Return the exact objective of LINE over thetas, sigma, lower triangle of omega."""

    def objective(x: Floats) -> float:
        omega = np.array([[x[3], x[4]], [x[4], x[5]]])
        if x[2] <= 0 or np.linalg.eigvalsh(omega)[0] <= 0:
            return 1e10

        def moments(own: Rows) -> tuple[Floats, Floats]:
            design = np.array([[1.0, r["TIME"]] for r in own])
            return design @ x[:2], design @ omega @ design.T + x[2] * np.eye(len(own))

        return normal_ll(rows, moments)

    return objective


def occasion_objective(rows: Rows) -> Callable[[Floats], float]:
    """Return the exact objective of OCCASIONS over thetas, both sigmas, both omegas."""

    def objective(x: Floats) -> float:
        if x[2:].min() <= 0:
            return 1e10

        def moments(own: Rows) -> tuple[Floats, Floats]:
            t = np.array([r["TIME"] for r in own])
            same = np.equal.outer([r["OCC"] for r in own], [r["OCC"] for r in own])
            return x[0] + x[1] * t, x[4] + x[5] * same + np.diag(x[2] + x[3] * t**2)

        return normal_ll(rows, moments)

    return objective


def hessian(objective: Callable[[Floats], float], x: Floats) -> Floats:
    """Return the second derivative by differences."""
    n = len(x)
    step = 1e-3 * np.maximum(np.abs(x), 0.1)
    e = np.diag(step)
    made = np.zeros((n, n))
    for a in range(n):
        for b in range(n):
            corners = [objective(x + s * e[a] + t * e[b]) * s * t for s in (1, -1) for t in (1, -1)]
            made[a, b] = sum(corners) / (4 * step[a] * step[b])
    return made


def free(model: Model) -> NDArray[np.bool_]:
    return ~is_fixed(model) & ~is_repeated(model)


@pytest.mark.parametrize("kernel", ["population", "learned", "joint", "single"])
def test_each_kernel_leaves_the_posterior_as_it_is(kernel: str) -> None:
    # a normal prior and a normal observation of a sum: the posterior is normal in closed form
    omega = np.array([[0.5, 0.2], [0.2, 0.4]])
    mu = np.array([[1.0, -1.0], [0.0, 2.0]])
    y, variance, slope = np.array([0.8, -0.3]), 0.25, np.array([1.0, 0.5])

    def density(eta: Floats) -> Floats:
        return np.asarray((y - (eta @ slope)) ** 2 / variance)

    covariance = np.linalg.inv(np.linalg.inv(omega) + np.outer(slope, slope) / variance)
    mean = mu + (y[:, None] / variance * slope) @ covariance
    rng = np.random.default_rng(3)
    n_chains = 4000
    phi = mean + rng.multivariate_normal([0, 0], covariance, (n_chains, 2))
    chains = learn(start_chains(phi, density(phi - mu), omega))
    # the learned density is a wrong one on purpose
    chains = replace(chains, mean=mean + 0.3, covariance=np.tile(0.3 * omega, (2, 1, 1)))
    off = {"population": 0, "learned": 0, "joint": 0, "single": 0}
    sweep = Sweep(Kernels(**(off | {kernel: 2})), density, mu, omega, rng)
    for _ in range(5):
        chains = sweep(chains)
    assert (chains.phi != phi).any()
    np.testing.assert_allclose(chains.value, density(chains.phi - mu), rtol=1e-12)
    white = (chains.phi - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    for i in range(2):
        for k in range(2):
            assert kstest(white[:, i, k], "norm").pvalue > FALSE_ALARM


def test_the_learned_proposals_measure_the_evidence() -> None:
    omega, variance, y = np.array([[0.5]]), 0.25, np.array([0.8, -0.3])
    rng = np.random.default_rng(5)

    def density(eta: Floats) -> Floats:
        return np.asarray((y - eta[..., 0]) ** 2 / variance + np.log(variance))

    phi = rng.normal(0, 0.5, (5000, 2, 1))
    chains = start_chains(phi, density(phi), omega)
    sweep = Sweep(Kernels(), density, np.zeros((2, 1)), omega, rng)
    for _ in range(20):
        chains = learn(sweep(chains))
    exact = -0.5 * (y**2 / (omega[0, 0] + variance) + np.log(omega[0, 0] + variance))
    # 10000 draws whose weights vary by less than their mean: five standard errors
    np.testing.assert_allclose(chains.evidence, exact, atol=0.05)


def test_random_walks_reach_the_wanted_acceptance() -> None:
    rng = np.random.default_rng(2)
    seen: list[Floats] = []

    def density(eta: Floats) -> Floats:
        return np.asarray((eta**2).sum(-1) / 1e-4)

    chains = start_chains(np.zeros((8, 3, 2)), np.zeros((8, 3)), np.eye(2))
    for sweep_number in range(300):
        before = chains.phi
        chains = Sweep(Kernels(0, 0, 1, 0), density, np.zeros((3, 2)), np.eye(2), rng)(chains)
        if sweep_number >= 100:
            seen.append((chains.phi != before).any(-1).mean(0))
    np.testing.assert_allclose(np.mean(seen, 0), 0.4, atol=0.05)


def test_trends_are_those_of_linear_regression() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(10, 4)) + np.arange(10)[:, None] * np.array([0.0, 0.1, 0.5, 2.0])
    expected = [linregress(np.arange(10), column).pvalue for column in rows.T]
    np.testing.assert_allclose(trend_p_values(rows), expected, rtol=1e-10)
    assert trend_p_values(np.ones((10, 1)))[0] == 1.0
    tested = TrendTest("all", points=10)
    columns = np.array([True, False, False, False])
    assert judge(rows, columns, tested, 1).converged
    assert not judge(rows, ~columns, tested, 1).converged
    assert not judge(rows[:5], columns, tested, 1).converged


def test_the_interval_follows_the_autocorrelation() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(4000, 2))
    slow = np.zeros((4000, 2))
    for k in range(1, 4000):
        slow[k] = 0.8 * slow[k - 1] + noise[k]
    assert independent_interval(noise) <= 2
    # 1 + 2 sum 0.8^k = 9, cut where the correlation is below 0.05
    assert 6 <= independent_interval(slow) <= 12


def test_a_line_is_fitted_to_its_exact_maximum(tmp_path: Path) -> None:
    rows = line_rows()
    model, data = read(tmp_path, LINE, rows)
    population = Population(model, data)
    step = estimate_saem(population, initial(model), SaemSettings(burn_in=120, iterations=200, seed=1))
    objective = line_objective(rows)
    best = minimize(objective, step.estimate.flatten(), method="Nelder-Mead", options={"fatol": 1e-6})
    assert objective(step.estimate.flatten()) < best.fun + 0.05
    # Louis' information at the estimate, from draws: its own Monte Carlo error is a few per cent
    assert step.information is not None and step.scores is not None
    exact = np.linalg.inv(hessian(objective, best.x) / 2)
    ours = np.linalg.inv(step.information)
    np.testing.assert_allclose(np.sqrt(np.diag(ours)), np.sqrt(np.diag(exact)), rtol=0.1)
    assert step.convergence is not None and not step.convergence.tested
    phases = [row.phase for row in step.history]
    assert phases == ["burn-in"] * 120 + ["stochastic"] * 201
    assert [row.number for row in step.history] == list(range(-120, 201))


def test_posterior_moments_are_exact_in_a_line(tmp_path: Path) -> None:
    rows = line_rows()
    model, data = read(tmp_path, LINE, rows)
    settings = SaemSettings(iterations=400, chains=4, evaluate_only=True)
    start = Estimate(np.array([2.0, -0.5]), np.array([[0.5, 0.1], [0.1, 0.3]]), np.array([[0.36]]))
    step = estimate_saem(Population(model, data), start, settings)
    assert step.status.code == "evaluated"
    np.testing.assert_array_equal(step.estimate.flatten(), start.flatten())
    total = 0.0
    for i in range(data.n_subjects):
        own = [r for r in rows if r["ID"] == i + 1]
        design = np.array([[1.0, r["TIME"]] for r in own])
        residual = np.array([r["DV"] for r in own]) - design @ start.theta
        covariance = np.linalg.inv(np.linalg.inv(start.omega) + design.T @ design / 0.36)
        mean = covariance @ design.T @ residual / 0.36
        found = step.individuals
        # 1600 draws, correlated between sweeps by less than half
        np.testing.assert_allclose(
            found.cond_mean[i], mean, atol=5 * np.sqrt(2 * covariance.diagonal().max() / 1600)
        )
        np.testing.assert_allclose(found.cond_cov[i], covariance, atol=0.3 * covariance.max())
        # the posterior mean of p(y, eta) of a normal posterior: its value at the mode over 2^(2/2)
        rest = residual - design @ mean
        joint = rest @ rest / 0.36 + len(own) * np.log(0.36) + mean @ np.linalg.inv(start.omega) @ mean
        total += joint + np.linalg.slogdet(start.omega)[1] + 2 * np.log(2)
    assert step.ofv == pytest.approx(total, abs=0.5)


def test_occasions_thetas_without_etas_and_two_residual_errors(tmp_path: Path) -> None:
    rows = occasion_rows()
    model, data = read(tmp_path, OCCASIONS, rows)
    settings = SaemSettings(burn_in=120, iterations=200, seed=1)
    step = estimate_saem(Population(model, data), initial(model), settings)
    objective = occasion_objective(rows)
    values = step.estimate.flatten()[free(model)]
    best = minimize(objective, values, method="Nelder-Mead", options={"fatol": 1e-6, "maxiter": 4000})
    assert objective(values) < best.fun + 0.1
    assert step.estimate.omega[1, 1] == step.estimate.omega[2, 2]


def test_fixed_parameters_stay(tmp_path: Path) -> None:
    rows = line_rows(15)
    stream = LINE.replace("$THETA 1 0.1", "$THETA 1 -0.5 FIX").replace("$SIGMA 1", "$SIGMA 0.36 FIX")
    model, data = read(tmp_path, stream, rows)
    step = estimate_saem(Population(model, data), initial(model), SaemSettings(burn_in=20, iterations=20))
    assert step.estimate.theta[1] == -0.5 and step.estimate.sigma[0, 0] == 0.36
    assert step.information is not None
    assert (step.information[1] == 0).all()


def test_same_seed_same_digits_whatever_the_threads(tmp_path: Path) -> None:
    model, data = read(tmp_path, OCCASIONS, occasion_rows(12))
    settings = SaemSettings(burn_in=8, iterations=8, seed=5)
    steps = [estimate_saem(Population(model, data, n), initial(model), settings) for n in (1, 2, 3)]
    for other in steps[1:]:
        np.testing.assert_array_equal(steps[0].estimate.flatten(), other.estimate.flatten())
        np.testing.assert_array_equal(steps[0].individuals.cond_mean, other.individuals.cond_mean)
        assert steps[0].ofv == other.ofv
    again = estimate_saem(Population(model, data), initial(model), replace(settings, seed=6))
    assert again.ofv != steps[0].ofv


def test_burn_in_ends_where_nothing_drifts(tmp_path: Path) -> None:
    model, data = read(tmp_path, LINE, line_rows())
    rows: list[Iteration] = []
    settings = SaemSettings(burn_in=2000, iterations=5, test=TrendTest("all"))
    step = estimate_saem(Population(model, data), initial(model), settings, rows.append)
    assert step.convergence is not None and step.convergence.tested and step.convergence.converged
    assert step.status.code == "converged"
    assert 60 < sum(row.phase == "burn-in" for row in rows) < 2000
    assert rows == list(step.history)


def test_a_subject_without_a_density_is_named(tmp_path: Path) -> None:
    stream = LINE.replace("Y = A", "IF (ID.EQ.3) EXIT 1 7\nY = A")
    model, data = read(tmp_path, stream, line_rows(5))
    with pytest.raises(ModelFailure, match="subject 3"):
        estimate_saem(Population(model, data), initial(model), SaemSettings(burn_in=40, iterations=5))


def minus_two_ll(population: Population, at: Estimate, draws: int = 3000) -> float:
    """Return the marginal objective by importance sampling."""
    settings = ImportanceSettings(iterations=1, draws=draws, evaluate_only=True, information=False)
    return estimate_importance(population, at, settings).ofv


def case(name: str) -> tuple[Model, DataSet, Estimate, list[dict[str, object]]]:
    """Return a NONMEM run of SAEM: model, data, NONMEM's estimates, all its steps."""
    run = load("nonmem", name)
    steps = run.case["estimates"]
    step = next(s for s in steps if "Stochastic" in s["method"])

    def full(lower: list[list[float]]) -> Floats:
        return np.array([[lower[max(i, j)][min(i, j)] for j in range(len(lower))] for i in range(len(lower))])

    model = run.model()
    reference = Estimate(np.array(step["theta"], dtype=float), full(step["omega"]), full(step["sigma"]))
    return model, run.data(model), reference, steps


@pytest.mark.parametrize(("name", "expected"), [("pheno-saem", 366.336), ("bauer-504-saem-imp", 598.612)])
def test_the_objective_is_the_one_nonmem_reports(name: str, expected: float) -> None:
    model, data, reference, _ = case(name)
    settings = SaemSettings(iterations=250, chains=4, evaluate_only=True, information=False)
    step = estimate_saem(Population(model, data), reference, settings)
    # posterior means of densities over 1000 draws: 60 subjects with 2 % each on the -2 log scale
    assert step.ofv == pytest.approx(expected, abs=1.0)
    # each subject too: theirs are means over as many draws, correlated ones
    table = load("nonmem", name).folder.glob("*.phi")
    rows = next(table).read_text().split("TABLE NO.")[1].splitlines()[2:]
    theirs = np.array([float(row.split()[-1]) for row in rows])
    assert theirs.sum() == pytest.approx(expected, abs=1e-3)
    assert np.abs(step.individuals.objective - theirs).max() < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "burn_in", "iterations"),
    [("pheno-saem", 300, 500), ("bauer-504-saem-imp", 200, 300), ("bauer-pmixture-saem", 100, 150)],
)
def test_fits_are_as_likely_as_those_of_nonmem(name: str, burn_in: int, iterations: int, seed: int) -> None:
    model, data, reference, _ = case(name)
    population = Population(model, data, 2)
    step = estimate_saem(
        population, initial(model), SaemSettings(burn_in=burn_in, iterations=iterations, seed=seed)
    )
    ours, theirs = minus_two_ll(population, step.estimate), minus_two_ll(population, reference)
    assert ours < theirs + 0.5
    assert step.information is not None


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_theophylline_reaches_the_maximum_of_quadrature(root: Path, seed: int) -> None:
    model = read_model(root / "examples" / "theophylline" / "theophylline.ctl")
    data = read_data(model)
    population = Population(model, data, 2)
    step = estimate_saem(population, initial(model), SaemSettings(burn_in=200, iterations=300, seed=seed))
    constant = data.n_observations * np.log(2 * np.pi)
    # the maximum by quadrature with 9 nodes for each eta
    assert minus_two_ll(population, step.estimate) + constant < 338.4119 + 0.1
