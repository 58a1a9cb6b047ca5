"""Predictions and residuals against those that NONMEM printed, at its final estimates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.stats import norm
from support.nonmem_runs import CORPUS, Run, load
from support.streams import read

from elbomix.engine.diagnostics.residuals import Individual, Residuals
from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.objective.population import Population
from elbomix.engine.tables.items import TableSettings
from elbomix.engine.tables.record_table import record_table
from elbomix.engine.tables.tabulation import Tabulation

Array = NDArray[np.float64]
WANG = """$PROBLEM Wang 2007
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
KE=THETA(1)*EXP(ETA(1))
IPRE=10*EXP(-KE*TIME)
Y=IPRE*(1+EPS(1))
$THETA 0.5
$OMEGA 0.04
$SIGMA 0.1
$ESTIMATION METHOD=1 INTERACTION
"""
BY_SIMULATION = ("EPRED", "ERES", "EWRES", "ECWRES", "NPD", "NPDE")
# NONMEM's name of the column -> ours, where a table calls it otherwise
RENAMED = {"IPRE": "CIPRED", "IRES": "CIRES", "IWRE": "CIWRES"}
RESIDUALS = ("PRED", "RES", "WRES", "CPRED", "CWRES", "CIPRED", "CIRES", "CIWRES", "IPRED", "PREDV")
WITH_MODES = [
    "acop-run102",
    "acop-run105-cov",
    "bauer-402-2cmt-foce",
    "bauer-504-foce",
    "bauer-ad3tr4-blq-laplace",
    "expo-106-covmodel",
    "pheno-real-foce",
    "xpose-mx19-run001",
]


@pytest.fixture(scope="module")
def wang(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, Residuals]:
    folder = CORPUS / "nlmixr2data"
    if not folder.is_dir():
        pytest.skip("the reference values are not here")
    wanted = pd.read_csv(folder / "wang2007_nonmem_focei_prop.csv")
    data = pd.read_csv(folder / "Wang2007.csv")
    rows = [{"ID": float(r["ID"]), "TIME": float(r["Time"]), "DV": float(r["Y"])} for _, r in data.iterrows()]
    model, records = read(tmp_path_factory.mktemp("wang"), WANG, rows)
    eta = wanted["ETA1"].to_numpy()[::2][:, None]
    population = Population(model, records)
    return wanted, Residuals(population, initial(model), Individual(eta, eta), interaction=True)


def test_all_columns_of_a_focei_run(wang: tuple[pd.DataFrame, Residuals]) -> None:
    """Printed and etas given with five digits: values near 10, slopes of them to eta up to 3.1."""
    wanted, residuals = wang
    found = residuals.columns()
    compared = [c for c in wanted if c in found and c not in BY_SIMULATION]
    assert len(compared) >= 15
    for column in compared:
        np.testing.assert_allclose(found[column], wanted[column], atol=6e-5, err_msg=column)
    np.testing.assert_allclose(found["CIRES"], wanted["IRES"], atol=6e-5)
    np.testing.assert_allclose(found["CIWRES"], wanted["IWRES"], atol=6e-5)


def final(run: Run) -> Estimate:
    """Return the estimates of the last step of a run."""
    last = run.case["estimates"][-1]

    def full(lower: list[list[float]]) -> Array:
        matrix = np.zeros((len(lower), len(lower)))
        for i, row in enumerate(lower):
            matrix[i, : len(row)] = matrix[: len(row), i] = row
        return matrix

    return Estimate(run.theta, full(last["omega"]), full(last["sigma"]))


def at_means(run: Run, population: Population, estimate: Estimate) -> Array:
    """Return the conditional means of eta of a run by a method that samples, from PHI less MU."""
    path = next(run.folder.glob("*.phi"))
    lines = path.read_text(encoding="latin-1").splitlines()
    first = max(i for i, line in enumerate(lines) if "SUBJECT_NO" in line)
    names = lines[first].split()
    columns = [i for i, name in enumerate(names) if name.startswith("PHI(")]
    values = np.array([line.split() for line in lines[first + 1 :] if line.strip()], dtype=float)
    zero = np.zeros((population.n_subjects, population.model.n_etas))
    made = Tabulation(population)(estimate, zero)
    last = np.append(np.flatnonzero(np.diff(population.data.subject)), population.data.n_records - 1)
    mu = np.stack([made.of(f"MU_{k + 1}")[0][last] for k in range(zero.shape[1])], 1)
    return np.asarray(values[:, columns] - mu)


def compare(run: Run, table: pd.DataFrame, allowed: float, logarithmic: bool = False) -> None:
    """Compare all columns by name, allowing a unit in the last digit and predictions off by ``allowed``.

    Residuals are off by that much of the observation, weighted ones by that over the residual error (10 %).
    """
    dv = np.abs(table["DV"].to_numpy())
    compared = set()
    for printed in run.tables(run.model()):
        for name, values in printed.columns.items():
            column = RENAMED.get(name, name) if "CIWRES" not in printed.columns else name
            if column not in RESIDUALS or column not in table:
                continue
            scale = 10 * (1 + np.abs(values)) if "WRES" in column else np.abs(values) + dv + logarithmic
            difference = np.abs(table[column].to_numpy() - values)
            worst = int(np.argmax(difference - 1.01 * printed.unit(name) - allowed * scale))
            bound = 1.01 * printed.unit(name)[worst] + allowed * scale[worst]
            assert difference[worst] <= bound, (
                f"{printed.file} {name} at record {worst}: {table[column][worst]} against {values[worst]}"
            )
            compared.add(column)
    assert {"PRED", "CWRES"} & compared


@pytest.mark.parametrize("name", WITH_MODES)
def test_tables_of_conditional_methods(name: str) -> None:
    """Estimates and modes are known to six digits, which moves predictions by some units in the fifth."""
    run = load("nonmem", name)
    model = run.model()
    population = Population(model, run.data(model))
    eta = run.modes()
    assert eta is not None
    objective = np.zeros(population.n_subjects)
    table, _ = record_table(population, final(run), Individual(eta, eta), objective, interaction=True)
    compare(run, table, 3e-5, logarithmic=name == "bauer-ad3tr4-blq-laplace")


@pytest.mark.parametrize("name", ["bauer-504-its", "bauer-504-saem-imp"])
def test_tables_of_sampling_methods(name: str) -> None:
    """Conditional residuals are at the conditional means, other variables at the modes that tables show."""
    run = load("nonmem", name)
    model = run.model()
    population = Population(model, run.data(model))
    estimate = final(run)
    centre = at_means(run, population, estimate)
    printed = run.tables(model)[0].columns
    first = np.append(0, np.flatnonzero(np.diff(population.data.subject)) + 1)
    shown = np.stack([printed[f"ETA{k + 1}"][first] for k in range(model.n_etas)], 1)
    objective = np.zeros(population.n_subjects)
    table, _ = record_table(population, estimate, Individual(shown, centre), objective, interaction=True)
    compare(run, table, 1e-4)  # PHI holds six digits of numbers up to 4, so five of eta
    np.testing.assert_allclose(table["CL"], printed["CL"], rtol=1e-5)


def test_tables_of_a_first_order_run() -> None:
    run = load("nonmem", "theo-fo-control5")
    model = run.model()
    population = Population(model, run.data(model))
    zero = np.zeros((population.n_subjects, model.n_etas))
    table, _ = record_table(
        population,
        final(run),
        Individual(zero, zero, shown=False),
        np.zeros(population.n_subjects),
        interaction=False,
        first_order=True,
    )
    (printed,) = run.tables(model)
    for name in ("PRED", "RES", "WRES"):
        np.testing.assert_allclose(table[name], printed.columns[name], rtol=1e-4, atol=1e-4, err_msg=name)


def test_simulated_residuals_of_a_focei_run(wang: tuple[pd.DataFrame, Residuals]) -> None:
    """NONMEM drew 300 data sets, we draw 20 000: their difference is its Monte Carlo error.

    Twenty values a column, of which half (at time 0) do not depend on eta; beyond 4.5 SE once in 10^4 runs.
    """
    wanted, residuals = wang
    settings = TableSettings(draws=20_000, seed=5)
    population, estimate = residuals.population, residuals.estimate
    own = Residuals(
        population,
        estimate,
        Individual(residuals.centre, residuals.centre),
        interaction=True,
        settings=settings,
    )
    found = own.simulated()
    draws = 300
    spread = np.where(wanted["TIME"] == 0, 1e-4, np.sqrt(0.37))  # SD of the prediction over eta, at time 1
    error = 4.5 * spread / np.sqrt(draws) + 1e-4
    for column in ("EPRED", "ERES"):
        assert (np.abs(found[column] - wanted[column]) < error).all(), column
    # a mean off by d shifts these by d / SD of y; their SDs are known to 4.5 / sqrt(2 * 300) relatively
    for column in ("EWRES", "ECWRES", "NPD"):
        bound = error / 1.9 + 0.2 * np.abs(found[column]) * (wanted["TIME"] > 0) + 1e-3
        assert (np.abs(found[column] - wanted[column]) < bound).all(), column
    p, q = norm.cdf(found["NPDE"]), norm.cdf(wanted["NPDE"])
    assert (
        np.abs(p - q) < 4.5 * np.sqrt(np.maximum(p * (1 - p), 2 / draws) / draws) + error / 1.9 * 0.4
    ).all()
