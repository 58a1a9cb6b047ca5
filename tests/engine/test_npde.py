"""Residuals against simulated observations: closed forms of linear models, distributions, limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import kstest, norm
from support.line_and_bolus import OMEGA, line_observations, line_stream
from support.nonmem_runs import load
from support.streams import read

from elbomix.engine.diagnostics.eps_dependence import is_linear
from elbomix.engine.diagnostics.residuals import Individual, Residuals
from elbomix.engine.diagnostics.simulation_residuals import Limits, draw_eps, draw_etas, placed
from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.objective.population import Population
from elbomix.engine.tables.items import TableSettings
from elbomix.engine.tables.record_table import record_table

Array = NDArray[np.float64]
FALSE_ALARM = 1e-4  # of every Kolmogorov-Smirnov test here; seeds are fixed
TIMES = np.array([0.5, 1.0, 2.0, 4.0])
LINE = line_stream("ID TIME NPDE NPD EPRED EWRES SEED=7 ESAMPLE=400")
DECAY = LINE.replace("Y=A+B*TIME+EPS(1)", "F1=EXP(A/4-EXP(B/2)*TIME/4)\nY={error}").replace(
    "$SIGMA 0.4", "$SIGMA 0.3"
)
ERRORS = {"Y=F1*(1+EPS(1))": True, "Y=F1*EXP(EPS(1))": False, "Y=F1*(1+EPS(1))**2": False}


def population(folder: Path, stream: str, y: Array, **columns: Array) -> Population:
    n = len(y)
    rows = [
        {"ID": i + 1.0, "TIME": t, "DV": y[i, j], **{k: v[i, j] for k, v in columns.items()}}
        for i in range(n)
        for j, t in enumerate(TIMES)
    ]
    return Population(*read(folder, stream, rows))


def simulated(
    own: Population, interaction: bool = True, limits: Limits | None = None, **settings: object
) -> dict[str, Array]:
    zero = np.zeros((own.n_subjects, own.model.n_etas))
    residuals = Residuals(
        own,
        initial(own.model),
        Individual(zero, zero),
        interaction=interaction,
        settings=TableSettings(**settings),  # type: ignore[arg-type]
    )
    return {k: v.reshape(own.n_subjects, -1) for k, v in residuals.simulated(limits).items()}


@pytest.mark.parametrize("simulated_observations", [False, True])
def test_moments_and_probabilities_of_a_linear_model(simulated_observations: bool, tmp_path: Path) -> None:
    """Mean X theta, covariance X Omega X' + sigma I; 40 000 draws leave an error of 1/200 of an SD."""
    y = line_observations(5, 3, TIMES)
    found = simulated(
        population(tmp_path, LINE, y), draws=40_000, seed=2, simulated_observations=simulated_observations
    )
    design = np.stack([np.ones(len(TIMES)), TIMES], 1)
    mean = design @ [2.0, -0.5]
    covariance = design @ OMEGA @ design.T + 0.4 * np.eye(len(TIMES))
    sd = np.sqrt(np.diag(covariance))
    root = np.real(sqrtm(np.linalg.inv(covariance)))
    bound = 5 / 200
    assert (np.abs(found["EPRED"] - mean) < bound * sd).all()
    np.testing.assert_allclose(found["ERES"], y - found["EPRED"], atol=1e-12)
    weighted = (y - mean) @ root
    allowed = bound * (2 + np.abs(weighted).max())  # of mean and of root
    assert (np.abs(found["EWRES"] - weighted) < allowed).all()
    assert (np.abs(found["ECWRES"] - weighted) < allowed).all()
    standard = (y - mean) / sd
    for name, score in (("NPD", standard), ("NPDE", weighted)):
        p, q = norm.cdf(found[name]), norm.cdf(score)
        assert (np.abs(p - q) < bound * 1.5).all(), name


@pytest.mark.parametrize("cholesky", [True, False])
def test_errors_of_data_from_the_model_are_standard_normal(cholesky: bool, tmp_path: Path) -> None:
    found = simulated(
        population(tmp_path, LINE, line_observations(300, 11, TIMES)), draws=2000, seed=4, cholesky=cholesky
    )
    npde = found["NPDE"]
    assert kstest(npde.ravel(), norm.cdf).pvalue > FALSE_ALARM
    assert kstest(found["NPD"][:, 1], norm.cdf).pvalue > FALSE_ALARM
    correlation = np.triu(np.corrcoef(npde.T), 1)
    assert np.abs(correlation).max() < 0.26  # 6 correlations of 300: SE 0.058; NPD has up to 0.8
    assert np.abs(np.triu(np.corrcoef(found["NPD"].T), 1)).max() > 0.5


@pytest.mark.parametrize("error", list(ERRORS))
def test_residual_error_that_is_not_linear_is_simulated_as_it_is(error: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(21)
    n = 250
    eta = rng.multivariate_normal([0, 0], OMEGA, n)
    f = np.exp((2 + eta[:, :1]) / 4 - np.exp((eta[:, 1:] - 0.5) / 2) * TIMES / 4)
    eps = np.sqrt(0.3) * rng.normal(size=f.shape)
    y = (
        f
        * {"Y=F1*(1+EPS(1))": 1 + eps, "Y=F1*EXP(EPS(1))": np.exp(eps), "Y=F1*(1+EPS(1))**2": (1 + eps) ** 2}[
            error
        ]
    )
    own = population(tmp_path, DECAY.replace("Y={error}", error), y)
    assert is_linear(own.model) == ERRORS[error]
    npde = simulated(own, draws=1000, seed=8)["NPDE"]
    assert kstest(npde.ravel(), norm.cdf).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("code", "linear"),
    [
        ("Y=F1+EPS(1)*F1/2-EPS(2)", True),
        ("W=EPS(1)*F1\nY=F1+W", True),
        ("Y=F1*(1+EPS(1))*(1+EPS(2))", False),
        ("IF (TIME.GT.1) THEN\nY=F1+EPS(1)\nELSE\nY=F1*EXP(EPS(2))\nENDIF", False),
        ("IF (TIME.GT.1) THEN\nY=F1+EPS(1)\nELSE\nY=F1*EPS(2)+F1\nENDIF", True),
        ("Y=F1/(1+EPS(1))", False),
        ("W=EXP(EPS(1))\nW=F1\nY=W+EPS(2)", True),
        ("Y=F1\nIF (EPS(1).GT.0) Y=F1+EPS(1)", False),
    ],
)
def test_what_is_linear_in_eps(code: str, linear: bool, tmp_path: Path) -> None:
    stream = DECAY.replace("Y={error}", code).replace("$SIGMA 0.3", "$SIGMA 0.3 0.2")
    model, _ = read(tmp_path, stream, [{"ID": 1.0, "TIME": 1.0, "DV": 1.0}])
    assert is_linear(model) == linear


def test_draws_have_the_moments_asked_for() -> None:
    omega = np.array([[0.5, 0.2, 0.0], [0.2, 0.1, 0.0], [0.0, 0.0, 0.0]])
    eta = draw_etas(omega, 4000, 3, 1).reshape(-1, 3)
    np.testing.assert_allclose(np.cov(eta.T), omega, atol=5 * 0.5 * np.sqrt(2 / 12_000))
    assert (eta[:, 2] == 0).all()
    eps = draw_eps(np.array([[1.0, 0.3], [0.3, 2.0]]), 5000, np.array([3, 3, 5]), 1)
    np.testing.assert_array_equal(eps[:, 0], eps[:, 1])
    np.testing.assert_allclose(np.cov(eps[:, 0].T), [[1.0, 0.3], [0.3, 2.0]], atol=5 * 2 * np.sqrt(2 / 5000))
    assert abs(np.corrcoef(eps[:, 0, 0], eps[:, 2, 0])[0, 1]) < 5 / np.sqrt(5000)


def test_tables_with_simulated_residuals_repeat_exactly(tmp_path: Path) -> None:
    """SEED and ESAMPLE of the table decide; draws do not depend on what else is asked for."""
    y = line_observations(6, 5, TIMES)
    zero = np.zeros((6, 2))

    def table(folder: str, stream: str) -> Array:
        (tmp_path / folder).mkdir()
        own = population(tmp_path / folder, stream, y)
        made, _ = record_table(own, initial(own.model), Individual(zero, zero), np.zeros(6))
        return np.asarray(made[["EPRED", "NPDE"]])

    first = table("a", LINE)
    np.testing.assert_array_equal(first, table("b", LINE))
    assert (first != table("c", LINE.replace("SEED=7", "SEED=8"))).all(1).any()
    edges = norm.cdf(first[:, 1]) * 400
    np.testing.assert_allclose(edges, np.round(edges * 2) / 2, atol=1e-6)


def test_names_of_simulated_residuals_are_items_of_a_table(tmp_path: Path) -> None:
    """NPD is no abbreviation of the option NPDTYPE."""
    model, _ = read(
        tmp_path,
        LINE.replace("NPDE NPD EPRED", "NPD NPDE EPRED NPDTYPE=1"),
        [{"ID": 1.0, "TIME": 1.0, "DV": 1.0}],
    )
    (table,) = model.tables
    assert table.items == ("ID", "TIME", "NPD", "NPDE", "EPRED", "EWRES")
    assert TableSettings.of(model) == TableSettings(draws=400, seed=7, simulated_observations=True)


def test_observations_below_a_limit_take_a_uniform_place_there() -> None:
    """Nguyen, Comets and Mentre (2012): the place of censored data is uniform below what the model says."""
    rng = np.random.default_rng(31)
    draws, n = 500, 4000
    observation = rng.normal(size=(draws, n))
    limits = Limits(np.full(n, -0.5), np.full(n, np.inf))
    data = rng.normal(size=n)
    known = np.where(data < -0.5, -99.0, data)
    moved, simulations = placed(known, observation, limits, 1)
    assert (moved[data < -0.5] <= -0.5).all()
    np.testing.assert_array_equal(moved[data >= -0.5], data[data >= -0.5])
    assert kstest(moved, norm.cdf).pvalue > FALSE_ALARM
    assert kstest(simulations.ravel()[::97], norm.cdf).pvalue > FALSE_ALARM
    assert (simulations[observation > -0.5] == observation[observation > -0.5]).all()


CENSORED = LINE.replace(
    "Y=A+B*TIME+EPS(1)",
    "LOQ=0.4\nSD=SQRT(0.4)\nTYPE=1\nIF (BLQ.EQ.1) TYPE=2\nIF (TYPE.EQ.2) DV_LOQ=LOQ\n"
    "IF (TYPE.NE.2.OR.NPDE_MODE.EQ.1) THEN\nF_FLAG=0\nY=A+B*TIME+EPS(1)\nELSE\nF_FLAG=1\n"
    "Y=PHI((LOQ-A-B*TIME)/SD)\nMDVRES=1\nENDIF",
)


def test_errors_of_censored_data_are_standard_normal(tmp_path: Path) -> None:
    """The data say 0 where an observation lies below 0.4: its error is computed as that of a censored one."""
    y = line_observations(300, 12, TIMES)
    below = y < 0.4
    own = population(tmp_path, CENSORED, np.where(below, 0.0, y), BLQ=below.astype(float))
    zero = np.zeros((300, 2))
    table, _ = record_table(own, initial(own.model), Individual(zero, zero), np.zeros(300))
    npde = table["NPDE"].to_numpy()
    assert below.mean() > 0.2
    assert len(np.unique(npde)) > 300
    assert kstest(npde, norm.cdf).pvalue > FALSE_ALARM
    assert (table["CWRES"].to_numpy()[below.ravel()] == 0).all()
    assert (table["CWRES"].to_numpy()[~below.ravel()] != 0).all()


@pytest.mark.parametrize(("name", "draws"), [("expo-106-covmodel", 300), ("bauer-402-2cmt-foce", 1000)])
def test_errors_of_a_run_against_those_of_nonmem(name: str, draws: int) -> None:
    """Two estimates of one probability by as many draws each differ by their binomial error.

    The root they are decorrelated by is an estimate too, so the bound on the mean square is 2 for 1.
    """
    run = load("nonmem", name)
    model = run.model()
    last = run.case["estimates"][-1]
    omega, sigma = (np.zeros((len(last[k]), len(last[k]))) for k in ("omega", "sigma"))
    for matrix, key in ((omega, "omega"), (sigma, "sigma")):
        for i, row in enumerate(last[key]):
            matrix[i, : len(row)] = matrix[: len(row), i] = row
    own = Population(model, run.data(model))
    zero = np.zeros((own.n_subjects, model.n_etas))
    residuals = Residuals(
        own,
        Estimate(run.theta, omega, sigma),
        Individual(zero, zero),
        interaction=True,
        settings=TableSettings(draws=draws),
    )
    found = residuals.simulated()
    observed = own.data.is_observation
    for table in run.tables(model):
        for column in {"NPD", "NPDE"} & set(table.columns):
            p, q = norm.cdf(found[column][observed]), norm.cdf(table.columns[column][observed])
            middle = (p + q) / 2
            error = np.sqrt(2 * np.maximum(middle * (1 - middle), 0.5 / draws) / draws)
            assert np.mean(((p - q) / error) ** 2) < 2.0, column
