"""Weighted residuals against their definitions computed by hand, and against tables that NONMEM wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import kstest, norm
from support.line_and_bolus import (
    OMEGA,
    SIGMA,
    TIMES,
    bolus_data,
    bolus_stream,
    concentrations,
    line_observations,
    line_rows,
    line_stream,
)
from support.streams import read

from elbomix.engine.diagnostics.residuals import Individual, Residuals
from elbomix.engine.diagnostics.weighted_residuals import inverse_root
from elbomix.engine.estimate import initial
from elbomix.engine.failure import ModelFailure
from elbomix.engine.objective.population import Population
from elbomix.engine.tables.items import TableSettings, check_tables
from elbomix.engine.tables.record_table import record_table

Array = NDArray[np.float64]
N = 30
BOLUS = bolus_stream(table="ID TIME IPRED CWRES G11 G21 H11 H21")
LINE = line_stream()


class Case:
    """A stream over data, at its initial estimates and given etas."""

    def __init__(self, folder: Path, stream: str, rows: list[dict[str, float]], eta: Array) -> None:
        self.model, self.data = read(folder, stream, rows)
        self.population = Population(self.model, self.data)
        self.eta, self.estimate = eta, initial(self.model)

    def residuals(
        self, *, interaction: bool, first_order: bool = False, **settings: object
    ) -> dict[str, Array]:
        made = Residuals(
            self.population,
            self.estimate,
            Individual(self.eta, self.eta),
            interaction=interaction,
            first_order=first_order,
            settings=TableSettings(**settings),  # type: ignore[arg-type]
        )
        return {k: v[self.data.is_observation] for k, v in made.columns().items()}

    def table(self, **options: bool) -> pd.DataFrame:
        made, _ = record_table(
            self.population,
            self.estimate,
            Individual(self.eta, self.eta),
            np.arange(float(self.data.n_subjects)),
            **options,
        )
        return made


@pytest.fixture(scope="module")
def bolus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Array]:
    made = bolus_data(N)
    return Case(tmp_path_factory.mktemp("bolus"), BOLUS, made.rows, made.eta), made.y


def whitened(residual: Array, covariance: Array) -> Array:
    return np.asarray(np.real(sqrtm(np.linalg.inv(covariance)))) @ residual


def differences(eta: Array, f: Callable[[Array], Array]) -> Array:
    h = 1e-5
    return np.stack([(f(eta + h * e) - f(eta - h * e)) / (2 * h) for e in np.eye(2)], -1)


def test_tables_show_the_codes_that_the_model_reads_as_zero(tmp_path: Path) -> None:
    stream = LINE.replace("IGNORE=@", "IGNORE=@ MISDAT=-99").replace("Y=", "SEEN=X\nY=")
    codes = [-99.0, 3.0, -99.0, 5.0, 0.0]
    rows = [row | {"X": x} for row, x in zip(line_rows(np.ones((1, 5))), codes, strict=True)]
    made = Case(tmp_path, stream, rows, np.zeros((1, 2))).table()
    assert made["X"].tolist() == codes and made["SEEN"].tolist() == [0, 3, 0, 5, 0]


def test_observations_held_out_of_the_fit_have_residuals_in_tables(tmp_path: Path) -> None:
    """MDV of 100: left out of estimation, 0 in every other step (NONMEM's help on DV and MDV)."""

    def case(folder: str, code: float) -> Case:
        (tmp_path / folder).mkdir()
        rows = [
            row | {"MDV": code if row["TIME"] == TIMES[2] else 0.0}
            for row in line_rows(line_observations(2, 3))
        ]
        return Case(tmp_path / folder, LINE, rows, np.full((2, 2), 0.1))

    observed, held, missing = case("0", 0.0), case("100", 100.0), case("1", 1.0)
    pd.testing.assert_frame_equal(held.table(), observed.table())
    assert held.population.n_observations.tolist() == missing.population.n_observations.tolist() == [4, 4]
    for name, values in missing.residuals(interaction=True).items():
        np.testing.assert_array_equal(held.residuals(interaction=True)[name], values, err_msg=name)


def test_residuals_of_a_linear_model(tmp_path: Path) -> None:
    """One covariance for all subjects, X Omega X' + sigma I; every expansion is the model itself."""
    y = line_observations(N, 51)
    case = Case(tmp_path, LINE, line_rows(y), np.random.default_rng(1).normal(size=(N, 2)))
    design = np.stack([np.ones(len(TIMES)), TIMES], 1)
    mean = design @ [2.0, -0.5]
    covariance = design @ OMEGA @ design.T + 0.4 * np.eye(len(TIMES))
    expected = np.stack([whitened(own - mean, covariance) for own in y])
    for interaction in (True, False):
        found = {k: v.reshape(N, -1) for k, v in case.residuals(interaction=interaction).items()}
        for column in ("PRED", "NPRED", "PREDI", "CPRED", "CPREDI"):
            np.testing.assert_allclose(found[column], np.tile(mean, (N, 1)), atol=1e-12, err_msg=column)
        for column in ("RES", "NRES", "RESI", "CRES", "CRESI"):
            np.testing.assert_allclose(found[column], y - mean, atol=1e-12, err_msg=column)
        for column in ("WRES", "NWRES", "WRESI", "CWRES", "CWRESI"):
            np.testing.assert_allclose(found[column], expected, atol=1e-11, err_msg=column)
        individual = (y - mean - case.eta @ design.T) / np.sqrt(0.4)
        for column in ("CIWRES", "CIWRESI"):
            np.testing.assert_allclose(found[column], individual, atol=1e-12, err_msg=column)


def test_weighted_residuals_of_data_from_the_model_are_standard_normal(tmp_path: Path) -> None:
    rows = line_rows(line_observations(N, 51))
    values = Case(tmp_path, LINE, rows, np.zeros((N, 2))).residuals(interaction=True)["WRES"]
    assert kstest(values, norm.cdf).pvalue > 1e-4  # the false-alarm rate; the seed is fixed
    lags = np.triu(np.corrcoef(values.reshape(N, -1).T), 1)
    assert np.abs(lags).max() < 0.65  # 10 correlations of 30 subjects: beyond it in fewer than 1e-3 of cases


def slopes_to_eps(f: Array) -> Array:
    return np.stack([f, np.ones_like(f)], -1)


def expected_variance(at: Array, to: Array) -> Array:
    """Return the mean of h Sigma h' over eta ~ N(``to``, Omega), h expanded at ``at``."""
    h = slopes_to_eps(concentrations(at))
    slope = differences(at, lambda e: slopes_to_eps(concentrations(e)))  # obs eps eta
    mean = h + slope @ (to - at)
    spread = np.einsum("jek,kl,jfl,ef->j", slope, OMEGA, slope, SIGMA)
    return np.asarray(np.einsum("je,ef,jf->j", mean, SIGMA, mean) + spread)


def variance(f: Array) -> Array:
    return 0.03 * f**2 + 0.02


@pytest.mark.parametrize("interaction", [True, False])
def test_residuals_of_a_model_that_is_not_linear(bolus: tuple[Case, Array], interaction: bool) -> None:
    """By finite differences: Hooker, Staatz and Karlsson (2007); with interaction h is expanded as f is."""
    case, y = bolus
    found = {k: v.reshape(N, -1) for k, v in case.residuals(interaction=interaction).items()}
    zero = np.zeros(2)
    for i in range(N):
        mode = case.eta[i]
        typical, own = concentrations(zero), concentrations(mode)
        slope = {"0": differences(zero, concentrations), "mode": differences(mode, concentrations)}
        conditional = own - slope["mode"] @ mode
        used = variance(own if interaction else typical)
        wanted = {
            "NWRES": (typical, slope["0"], variance(typical)),
            "CWRES": (conditional, slope["mode"], used),
            "CWRESI": (conditional, slope["mode"], expected_variance(mode, zero)),
        }
        if interaction:
            wanted["WRES"] = wanted["WRESI"] = (typical, slope["0"], expected_variance(zero, zero))
        else:
            wanted["WRES"] = wanted["WRESI"] = wanted["NWRES"]
        for column, (mean, j, v) in wanted.items():
            expected = whitened(y[i] - mean, j @ OMEGA @ j.T + np.diag(v))
            np.testing.assert_allclose(found[column][i], expected, atol=1e-7, err_msg=column)
        np.testing.assert_allclose(found["PRED"][i], typical, rtol=1e-12)
        np.testing.assert_allclose(found["RES"][i], y[i] - typical, atol=1e-12)
        np.testing.assert_allclose(found["CPRED"][i], conditional, atol=1e-8)
        np.testing.assert_allclose(found["CIPRED"][i], own, rtol=1e-12)
        np.testing.assert_allclose(found["CIWRES"][i], (y[i] - own) / np.sqrt(used), rtol=1e-10)
        np.testing.assert_allclose(found["CIWRESI"][i], (y[i] - own) / np.sqrt(variance(own)), rtol=1e-10)
        np.testing.assert_allclose(
            found["IWRS"][i], (y[i] - typical) / np.sqrt(variance(typical)), rtol=1e-10
        )


def test_after_a_first_order_method_all_residuals_are_those_of_eta_zero(bolus: tuple[Case, Array]) -> None:
    case, _ = bolus
    found = case.residuals(interaction=False, first_order=True)
    for column in ("CWRES", "WRES"):
        np.testing.assert_array_equal(found[column], found["NWRES"])
    for column in ("CIPRED", "CPRED"):
        np.testing.assert_array_equal(found[column], found["PRED"])
    np.testing.assert_array_equal(found["CIWRES"], found["IWRS"])
    with_interaction = case.residuals(interaction=True, first_order=True)
    np.testing.assert_array_equal(with_interaction["CWRESI"], with_interaction["WRESI"])


def test_random_effects_taken_as_fixed_effects(bolus: tuple[Case, Array]) -> None:
    """PRED is at the second eta as estimated, whose variance does not count."""
    case, y = bolus
    found = {k: v.reshape(N, -1) for k, v in case.residuals(interaction=False, fixed_etas=(2,)).items()}
    for i in range(N):
        at = np.array([0.0, case.eta[i, 1]])
        f, j = concentrations(at), differences(at, concentrations)[:, :1]
        np.testing.assert_allclose(found["PRED"][i], f, rtol=1e-12)
        expected = whitened(y[i] - f, 0.5 * j @ j.T + np.diag(variance(f)))
        np.testing.assert_allclose(found["WRES"][i], expected, atol=1e-7)


def test_roots_of_covariance_matrices() -> None:
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(4, 3, 3))
    covariance = factor @ factor.swapaxes(1, 2)
    for cholesky in (True, False):
        root = inverse_root(covariance, cholesky)
        np.testing.assert_allclose(
            root @ covariance @ root.swapaxes(1, 2), np.tile(np.eye(3), (4, 1, 1)), atol=1e-9
        )
        if cholesky:
            np.testing.assert_allclose(np.triu(root, 1), 0.0, atol=1e-12)
        else:
            np.testing.assert_allclose(root, root.swapaxes(1, 2), atol=1e-12)
    covariance[2] = -1.0
    assert np.isnan(inverse_root(covariance)[2]).all()
    assert np.isfinite(inverse_root(covariance)[[0, 1, 3]]).all()


def test_records_without_observations_have_predictions_but_no_residuals(bolus: tuple[Case, Array]) -> None:
    table = bolus[0].table()
    doses = table[table["MDV"] == 1]
    assert len(doses) == N
    for column in ("RES", "WRES", "CRES", "CWRES", "CRESI", "CWRESI", "CIRES", "CIWRES"):
        assert (doses[column] == 0).all(), column
    np.testing.assert_allclose(doses["PRED"], 100 / 20, rtol=1e-12)  # right after the bolus
    np.testing.assert_allclose(doses["IPRED"], 100 / (20 * np.exp(bolus[0].eta[:, 1])), rtol=1e-12)


def test_derivatives_and_individuals_in_tables(bolus: tuple[Case, Array]) -> None:
    case, _ = bolus
    table = case.table()
    observed = table[table["MDV"] == 0]
    slopes = np.concatenate([differences(e, concentrations) for e in case.eta])
    np.testing.assert_allclose(observed[["G11", "G21"]].to_numpy(), slopes, atol=1e-8)
    np.testing.assert_allclose(observed["H11"], observed["IPRED"], rtol=1e-12)
    assert (observed["H21"] == 1).all()
    first = table.groupby("ID").first()
    np.testing.assert_array_equal(first[["ETA1", "ETA2"]].to_numpy(), case.eta)
    np.testing.assert_array_equal(first["OBJI"], np.arange(N))
    np.testing.assert_allclose(first["CL"], 2 * np.exp(case.eta[:, 0]), rtol=1e-12)


def test_variables_saved_in_a_pass_through_the_data(tmp_path: Path) -> None:
    """TVF is what IPRED was with eta = 0; RATIO reads it in the pass with the conditional estimates."""
    data = bolus_data(N)
    stream = BOLUS.replace(
        "IPRED=F\n", "IPRED=F\nIF (COMACT.EQ.1) TVF=F\nRATIO=0\nIF (TVF.NE.0) RATIO=F/TVF\n"
    )
    table = Case(tmp_path, stream, data.rows, data.eta).table()
    np.testing.assert_allclose(table["TVF"], table["PRED"], rtol=1e-12)
    np.testing.assert_allclose(table["RATIO"], table["IPRED"] / table["PRED"], rtol=1e-12)


def test_variables_of_the_differential_equations(tmp_path: Path) -> None:
    """What the right-hand side assigns is tabled at the amounts of the record."""
    data = bolus_data(N)
    stream = BOLUS.replace("ADVAN1 TRANS2", "ADVAN6 TOL=9").replace(
        "$ERROR", "$MODEL COMP=(CENTRAL)\n$DES\nOUT=CL/V*A(1)\nDADT(1)=-OUT\n$ERROR"
    )
    case = Case(tmp_path, stream.replace("CWRES G11", "CWRES OUT G11"), data.rows, data.eta)
    check_tables(case.model)
    table = case.table()
    np.testing.assert_allclose(table["OUT"], table["CL"] * table["IPRED"], rtol=1e-6)


CORRELATED = """$PROBLEM two responses at a time
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
IF (DVID.EQ.1) Y=A+A*EPS(1)
IF (DVID.EQ.2) Y=2*A+EPS(2)
$THETA 4
$OMEGA 0.2
$SIGMA BLOCK(2) 0.05 0.03 0.1
$ESTIMATION METHOD=1 INTERACTION
"""


def test_residuals_that_share_eps(tmp_path: Path) -> None:
    """Pairs of the two responses are correlated through the covariance of their eps, within one L2 only."""
    rng = np.random.default_rng(9)
    rows = [
        {"ID": i + 1.0, "TIME": float(t), "L2": float(t), "DVID": d, "DV": 4 * d + rng.normal()}
        for i in range(3)
        for t in (1, 2)
        for d in (1.0, 2.0)
    ]
    eta = rng.normal(size=(3, 1)) * 0.4
    case = Case(tmp_path, CORRELATED, rows, eta)
    found = case.residuals(interaction=True)
    y = np.array([r["DV"] for r in rows]).reshape(3, 4)
    sigma = np.array([[0.05, 0.03], [0.03, 0.1]])
    slope = np.array([[1.0], [2.0], [1.0], [2.0]])
    for i in range(3):
        own = 4 + eta[i, 0]
        h = np.diag([own, 1.0])
        pair = h @ sigma @ h
        within = np.kron(np.eye(2), pair)
        cwres = whitened(y[i] - 4 * slope[:, 0], 0.2 * slope @ slope.T + within)
        np.testing.assert_allclose(found["CWRES"].reshape(3, 4)[i], cwres, atol=1e-10)
        ciwres = whitened(y[i] - own * slope[:, 0], within)
        np.testing.assert_allclose(found["CIWRES"].reshape(3, 4)[i], ciwres, atol=1e-10)


CENSORED = BOLUS.replace(
    "Y=F+F*EPS(1)+EPS(2)",
    "SD=SQRT(0.03*F*F+0.02)\nIF (BLQ.EQ.0) THEN\nF_FLAG=0\nY=F+F*EPS(1)+EPS(2)\nELSE\nF_FLAG=1\n"
    "Y=PHI((0.5-F)/SD)\n{mark}\nENDIF",
)


@pytest.mark.parametrize("mark", ["MDVRES=1", "X=1"])
def test_observations_that_are_not_normal(mark: str, tmp_path: Path) -> None:
    """Without MDVRES a subject that has any has no weighted residuals of the population at all."""
    data = bolus_data(N)
    rows, y, eta = data.rows, data.y, data.eta
    for row in rows:
        row["BLQ"] = float(row["TIME"] == TIMES[-1] and row["ID"] <= 5)
    stream = CENSORED.replace("{mark}", mark)
    case = Case(tmp_path, stream, rows, eta)
    table = case.table()
    observed = table[table["MDV"] == 0]
    cwres = observed["CWRES"].to_numpy().reshape(N, -1)
    assert (cwres[:5, -1] == 0).all()
    assert (observed["CIWRES"].to_numpy().reshape(N, -1)[:5, :-1] != 0).all()
    assert (observed["RES"].to_numpy().reshape(N, -1)[:5, -1] == 0).all()
    if mark == "X=1":
        assert (cwres[:5] == 0).all()
        assert (cwres[5:] != 0).all()
        return
    for i in range(5):
        own, j = concentrations(eta[i])[:-1], differences(eta[i], concentrations)[:-1]
        covariance = j @ OMEGA @ j.T + np.diag(variance(own))
        np.testing.assert_allclose(
            cwres[i, :-1], whitened(y[i, :-1] - own + j @ eta[i], covariance), atol=1e-7
        )


@pytest.mark.parametrize(
    ("item", "message"),
    [("SOMETHING", "SOMETHING"), ("F", "item F"), ("G31", "ETA"), ("H31", "EPS"), ("VARCALC=1", "VARCALC")],
)
def test_an_unknown_table_item_is_refused(item: str, message: str, tmp_path: Path) -> None:
    model, _ = read(tmp_path, BOLUS.replace("CWRES G11", f"CWRES {item} G11"), bolus_data(N).rows)
    with pytest.raises(ModelFailure, match=message) as caught:
        check_tables(model)
    assert caught.value.span is not None
