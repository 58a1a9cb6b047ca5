"""Shrinkage and etabar against their definitions, and against what NONMEM printed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import inv, sqrtm
from scipy.stats import norm
from support.nonmem_runs import Run, load
from support.streams import read

from elbomix.engine.diagnostics.residuals import Individual, Residuals
from elbomix.engine.diagnostics.shrinkage import influential, shrinkage, subpopulation_shrinkage
from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.individuals import Shrinkage
from elbomix.engine.objective.population import Population
from elbomix.engine.tables.record_table import record_table
from elbomix.engine.tables.tabulation import Tabulation

Array = NDArray[np.float64]
NAMES = {
    "ETABAR": "etabar",
    "SE": "etabar_se",
    "N": "count",
    "P VAL.": "etabar_p",
    "ETASHRINKSD": "eta_sd",
    "ETASHRINKVR": "eta_var",
    "EBVSHRINKSD": "ebv_sd",
    "EBVSHRINKVR": "ebv_var",
    "EPSSHRINKSD": "eps_sd",
    "EPSSHRINKVR": "eps_var",
    "RELATIVEINF": "relative_information",
}
RUNS = [
    "acop-run102",
    "acop-run105-cov",
    "bauer-402-2cmt-foce",
    "bauer-504-foce",
    "bauer-504-its",
    "bauer-504-saem-imp",
    "bauer-ad3tr4-blq-imp",
    "bauer-ad3tr4-blq-laplace",
    "bolus2cpt-ode",
    "mox1-iov-ltbs-ss",
    "pheno-linearized-pred",
    "pheno-real-foce",
    "warfarin-advan2",
    "warfarin-ode-lag",
    "warfarin-pkpd-turnover",
    "wbc-friberg-ode",
    "xpose-mx19-run001",
]


def fields(line: str) -> list[str]:
    return re.split(r"[,\s]+(?![^(]*\))", line.strip().rstrip(","))


def phi(path: Path) -> dict[str, Array]:
    """Return the columns of the last table of a .phi or .phm file."""
    lines = path.read_text(encoding="latin-1").splitlines()
    first = max(i for i, line in enumerate(lines) if "SUBJECT_NO" in line)
    names = fields(lines[first])
    rows = np.array([fields(line) for line in lines[first + 1 :] if line.strip()], dtype=float)
    return {name: rows[:, i] for i, name in enumerate(names)}


def conditional(columns: dict[str, Array], n: int) -> tuple[Array, Array]:
    """Return eta (or phi) and covariance of every row."""
    eta, cov = ("ETA", "ETC") if "ETA(1)" in columns else ("PHI", "PHC")
    values = np.stack([columns[f"{eta}({k + 1})"] for k in range(n)], 1)
    covariance = np.zeros((len(values), n, n))
    for i in range(n):
        for j in range(i + 1):
            covariance[:, i, j] = covariance[:, j, i] = columns[f"{cov}({i + 1},{j + 1})"]
    return values, covariance


def printed(run: Run) -> list[dict[str, Array]]:
    """Return what the last step of the report says, for each subpopulation."""
    text = (run.folder / run.case["lst"]).read_text(encoding="latin-1")
    begin = text.rindex("ETABAR IS")
    found: list[dict[str, list[float]]] = [{}]
    name = ""
    for line in text[begin : text.index("#TERE", begin)].splitlines()[2:]:
        match = re.match(r" ([A-Z][A-Za-z .]*?)(?:\(%\))?:?\s+([-\d.E+\s]+)$", line)
        key = "" if match is None else match[1].upper()
        key = {"ETASHRINK": "ETASHRINKSD", "EBVSHRINK": "EBVSHRINKSD", "EPSSHRINK": "EPSSHRINKSD"}.get(
            key, key
        )
        if "SUBMODEL" in line and found[-1]:
            found.append({})
        if match is not None and key in NAMES:
            name = key
            found[-1][name] = [float(v) for v in match[2].split()]
        elif re.match(r"\s{8,}[-\d]", line) and name:
            found[-1][name] += [float(v) for v in line.split()]
        elif not line.strip():
            name = ""
    return [{k: np.array(v) for k, v in part.items()} for part in found]


def final(run: Run) -> Estimate:
    last = run.case["estimates"][-1]
    parts = []
    for key in ("omega", "sigma"):
        matrix = np.zeros((len(last[key]), len(last[key])))
        for i, row in enumerate(last[key]):
            matrix[i, : len(row)] = matrix[: len(row), i] = row
        parts.append(matrix)
    return Estimate(run.theta, *parts)


def mu(population: Population, estimate: Estimate, component: NDArray[np.int64] | None = None) -> Array:
    """Return MU of every subject, at its last record."""
    zero = np.zeros((population.n_subjects, population.model.n_etas))
    made = Tabulation(population)(estimate, zero, component)
    last = np.append(np.flatnonzero(np.diff(population.data.subject)), population.data.n_records - 1)
    return np.stack([made.of(f"MU_{k + 1}")[0][last] for k in range(zero.shape[1])], 1)


def compare(found: Shrinkage, wanted: dict[str, Array], estimate: Estimate, digits: float = 2e-4) -> None:
    """Compare with printed numbers of five digits, from etas that were printed with six."""
    assert {"ETABAR", "SE", "ETASHRINKSD", "EPSSHRINKSD"} <= wanted.keys()
    sd = np.sqrt(np.diag(estimate.omega))
    for name, values in wanted.items():
        ours = np.asarray(getattr(found, NAMES[name]), dtype=float)
        floor = 1e-5 * np.maximum(sd, 0.5) if name == "ETABAR" else np.array(1e-3)
        assert (np.abs(ours - values) <= digits * np.abs(values) + floor).all(), (name, ours, values)


def evaluated(run: Run) -> tuple[Shrinkage, Estimate]:
    """Return the shrinkage of a run at its final estimates and conditional modes, or means."""
    model = run.model()
    population, estimate = Population(model, run.data(model)), final(run)
    columns = phi(next(run.folder.glob("*.phi")))
    eta, covariance = conditional(columns, model.n_etas)
    if "PHI(1)" in columns:
        eta = eta - mu(population, estimate)
    interaction = run.case["estimates"][-1]["method"] != "First Order Conditional Estimation"
    individual = Individual(eta, eta)
    _, residuals = record_table(population, estimate, individual, np.zeros(len(eta)), interaction=interaction)
    return shrinkage(estimate, eta, covariance, residuals.without_options().by_eps()), estimate


@pytest.mark.parametrize("name", RUNS)
def test_what_nonmem_printed(name: str) -> None:
    run = load("nonmem", name)
    (wanted,) = printed(run)
    found, estimate = evaluated(run)
    compare(found, wanted, estimate)


def test_what_a_later_nonmem_printed() -> None:
    """From 7.5.1 on the variance of etas is divided by the number of subjects, before by one less."""
    run = load("nonmem", "expo-106-covmodel")
    found, estimate = evaluated(run)
    (wanted,) = printed(run)
    share = (1 - found.eta_var / 100) * 159 / 160
    later = replace(found, eta_var=100 * (1 - share), eta_sd=100 * (1 - np.sqrt(share)))
    compare(later, wanted, estimate)


@pytest.mark.parametrize(
    ("name", "all_etas"), [("bauer-pmixture-foce", False), ("bauer-pmixture-saem", True)]
)
def test_subpopulations_as_nonmem_prints_them(name: str, all_etas: bool) -> None:
    """Two subpopulations with two etas each: after FOCE those of the other one do not count."""
    run = load("nonmem", name)
    model = run.model()
    population, estimate = Population(model, run.data(model)), final(run)
    columns = phi(next(run.folder.glob("*.phm")))
    values, covariance = conditional(columns, model.n_etas)
    n = population.n_subjects
    values = values.reshape(n, 2, -1).swapaxes(0, 1)
    covariance = covariance.reshape(n, 2, model.n_etas, model.n_etas).swapaxes(0, 1)
    if "PHI(1)" in columns:
        values = values - np.stack([mu(population, estimate, np.full(n, c)) for c in (1, 2)])
    probabilities = columns["PMIX"].reshape(n, 2)
    found = subpopulation_shrinkage(
        population, estimate, values, covariance, probabilities, interaction=True, all_etas=all_etas
    )
    for own, wanted in zip(found, printed(run), strict=True):
        compare(own, wanted, estimate)


def test_by_hand() -> None:
    rng = np.random.default_rng(5)
    eta = rng.normal(size=(20, 3)) * [0.6, 0.2, 0.0]
    factor = 0.2 * rng.normal(size=(20, 3, 3)) * [[1.0], [1.0], [0.0]]
    covariance = factor @ factor.swapaxes(1, 2)
    omega = np.diag([0.49, 0.16, 0.0])
    omega[0, 1] = omega[1, 0] = 0.07
    iwres = rng.normal(size=(50, 3))
    iwres[:10, 0] = np.nan
    iwres[:, 2] = np.nan
    found = shrinkage(Estimate(np.zeros(1), omega, np.eye(3)), eta, covariance, iwres)
    np.testing.assert_allclose(found.eta_var[:2], 100 * (1 - eta.var(0, ddof=1)[:2] / [0.49, 0.16]))
    np.testing.assert_allclose(found.eta_sd[:2], 100 * (1 - eta.std(0, ddof=1)[:2] / [0.7, 0.4]))
    mean = covariance.mean(0)
    np.testing.assert_allclose(found.ebv_var[:2], 100 * np.diag(mean)[:2] / [0.49, 0.16])
    np.testing.assert_allclose(found.ebv_sd[:2], 100 - 100 * np.sqrt(1 - np.diag(mean)[:2] / [0.49, 0.16]))
    assert found.relative_information is not None
    left = np.eye(2) - mean[:2, :2] @ np.linalg.inv(omega[:2, :2])
    np.testing.assert_allclose(found.relative_information[:2], 100 / np.diag(np.linalg.inv(left)))
    np.testing.assert_allclose(found.etabar, eta.mean(0))
    np.testing.assert_allclose(found.etabar_se, eta.std(0) / np.sqrt(20))
    z = np.abs(eta.mean(0) / np.maximum(eta.std(0) / np.sqrt(20), 1e-300))
    np.testing.assert_allclose(found.etabar_p, 2 * norm.sf(z))
    squares = np.array([(iwres[10:, 0] ** 2).mean(), (iwres[:, 1] ** 2).mean(), 0.0])
    np.testing.assert_allclose(found.eps_var, np.maximum(100 * (1 - squares), 1e-10))
    np.testing.assert_allclose(found.eps_sd, np.maximum(100 * (1 - np.sqrt(squares)), 1e-10))
    # an eta without variance; an eps that no observation depends on
    assert (found.eta_sd[2], found.ebv_sd[2], found.etabar[2], found.etabar_p[2]) == (100, 0, 0, 1)
    np.testing.assert_array_equal(found.count, 20)


def test_etas_that_no_observation_depends_on_can_be_left_out(tmp_path: Path) -> None:
    stream = """$PROBLEM lines
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
B=0
IF (TREATED.EQ.1) B=ETA(2)
Y=A+B*TIME+EPS(1)
$THETA 2
$OMEGA 0.5 0.3
$SIGMA 0.4
$ESTIMATION METHOD=1
"""
    rng = np.random.default_rng(2)
    rows = [
        {"ID": i + 1.0, "TIME": float(t), "DV": rng.normal(), "TREATED": float(i < 4), "MDV": float(i == 9)}
        for i in range(10)
        for t in (1, 2)
    ]
    model, data = read(tmp_path, stream, rows)
    population, estimate = Population(model, data), initial(model)
    eta = rng.normal(size=(10, 2)) * np.array([[1, 1]] * 4 + [[1, 0]] * 6)
    counted = influential(population.likelihood, estimate, eta)
    np.testing.assert_array_equal(counted, [[True, True]] * 4 + [[True, False]] * 5 + [[False, False]])
    residuals = Residuals(population, estimate, Individual(eta, eta), interaction=True)
    found = shrinkage(estimate, eta, np.zeros((10, 2, 2)), residuals.by_eps(), counted)
    np.testing.assert_array_equal(found.count, [9, 4])
    np.testing.assert_allclose(found.etabar, [eta[:9, 0].mean(), eta[:4, 1].mean()])
    np.testing.assert_allclose(
        found.eta_var,
        np.maximum(100 * (1 - np.array([eta[:9, 0].var(ddof=1) / 0.5, eta[:4, 1].var(ddof=1) / 0.3])), 1e-10),
    )


def test_each_eps_has_the_residuals_it_took_part_in(tmp_path: Path) -> None:
    stream = """$PROBLEM lines
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
IF (TIME.LT.3) THEN
Y=A+A*EPS(1)+EPS(2)
ELSE
Y=A+EPS(2)
ENDIF
$THETA 2
$OMEGA 0.5
$SIGMA 0.1 0.4 0.2
$ESTIMATION METHOD=1 INTERACTION
"""
    rng = np.random.default_rng(8)
    times = np.arange(1.0, 6.0)
    y = 2 + rng.normal(size=(12, 5))
    rows = [{"ID": i + 1.0, "TIME": t, "DV": y[i, j]} for i in range(12) for j, t in enumerate(times)]
    model, data = read(tmp_path, stream, rows)
    population, estimate = Population(model, data), initial(model)
    eta = 0.3 * rng.normal(size=(12, 1))
    residuals = Residuals(population, estimate, Individual(eta, eta), interaction=True)
    a = 2 + eta
    early = times < 3
    iwres = (y - a) / np.sqrt(np.where(early, 0.1 * a**2, 0.0) + 0.4)
    found = shrinkage(estimate, eta, np.zeros((12, 1, 1)), residuals.by_eps())
    expected = [1 - (iwres[:, early] ** 2).mean(), 1 - (iwres**2).mean(), 1.0]
    np.testing.assert_allclose(found.eps_var, np.maximum(100 * np.array(expected), 1e-10), rtol=1e-9)


def test_options_of_tables_do_not_change_shrinkage(tmp_path: Path) -> None:
    """Pairs of correlated observations are weighted by the symmetric root of their inverse covariance."""
    stream = """$PROBLEM pairs
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
IF (KIND.EQ.1) Y=A+A*EPS(1)
IF (KIND.EQ.2) Y=2*A+A*EPS(2)
$THETA 2
$OMEGA 0.5
$SIGMA BLOCK(2) 0.1 0.06 0.4
$ESTIMATION METHOD=1
$TABLE ID DV CWRES WRESCHOL FIXEDETAS=(1) FILE=run.tab
"""
    rng = np.random.default_rng(11)
    y = np.array([2.0, 4.0]) + rng.normal(size=(12, 3, 2))
    rows = [
        {"ID": i + 1.0, "TIME": float(t), "DV": y[i, t, kind], "KIND": kind + 1.0, "L2": t + 1.0}
        for i in range(12)
        for t in range(3)
        for kind in range(2)
    ]
    model, data = read(tmp_path, stream, rows)
    population, estimate = Population(model, data), initial(model)
    eta = 0.3 * rng.normal(size=(12, 1))
    _, made = record_table(population, estimate, Individual(eta, eta), np.zeros(12), interaction=False)
    assert made.settings.cholesky and made.settings.fixed_etas == (1,)
    typical = 2.0  # without interaction the errors are those of eta = 0
    root = inv(np.real(sqrtm(typical**2 * estimate.sigma)))
    residual = y - (2.0 + eta)[:, None] * np.array([1.0, 2.0])
    found = made.without_options().by_eps().reshape(12, 3, 2, 2)
    np.testing.assert_allclose(found[..., [0, 1], [0, 1]], residual @ root.T, rtol=1e-9)
    assert not np.allclose(made.by_eps().reshape(12, 3, 2, 2)[..., [0, 1], [0, 1]], residual @ root.T)
