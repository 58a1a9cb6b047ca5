"""Weighted residuals against their definitions in numpy, shrinkage against a NONMEM run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from scipy.stats import kstest, norm
from support.streams import read

from elbomix.engine.diagnostics import shrinkage
from elbomix.engine.estimate import Estimate
from elbomix.engine.failure import ModelFailure
from elbomix.engine.fit import Fit, Individuals
from elbomix.engine.methods.vae import VaeSettings
from elbomix.engine.run import estimate

Array = NDArray[np.float64]
N = 30
TIMES = np.array([0.5, 1.0, 2.0, 4.0, 7.0])
SETTINGS = VaeSettings(seed=2, likelihood_draws=200, likelihood_replicates=2, finish_draws=200)
OMEGA = np.array([[0.5, 0.1], [0.1, 0.3]])

LINE = """$PROBLEM line
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A=THETA(1)+ETA(1)
B=THETA(2)+ETA(2)
Y=A+B*TIME+EPS(1)
$THETA 2 -0.5
$OMEGA BLOCK(2) 0.5 0.1 0.3
$SIGMA 0.4
$ESTIMATION METHOD=VAE
"""
BOLUS = """$PROBLEM bolus
$INPUT {columns}
$DATA {file} IGNORE=@
$SUBROUTINES ADVAN1 TRANS2
$PK
CL=THETA(1)*EXP(ETA(1))
V=THETA(2)*EXP(ETA(2))
S1=V
$ERROR
IPRED=F
Y=F+F*EPS(1)+EPS(2)
$THETA (0,2) (0,20)
$OMEGA BLOCK(2) 0.5 0.1 0.3
$SIGMA 0.03 0.02
$ESTIMATION METHOD=VAE
$TABLE ID TIME IPRED CWRES NOPRINT FILE=sdtab
"""


def line_rows() -> tuple[list[dict[str, float]], Array]:
    rng = np.random.default_rng(51)
    eta = rng.multivariate_normal([0, 0], OMEGA, N)
    y = 2 + eta[:, :1] + (eta[:, 1:] - 0.5) * TIMES + np.sqrt(0.4) * rng.normal(size=(N, len(TIMES)))
    return [
        {"ID": i + 1.0, "TIME": t, "DV": v} for i in range(N) for t, v in zip(TIMES, y[i], strict=True)
    ], y


def concentration(eta: Array) -> Array:
    cl, v = 2 * np.exp(eta[0]), 20 * np.exp(eta[1])
    return np.asarray(100 / v * np.exp(-cl / v * TIMES))


def bolus_rows() -> tuple[list[dict[str, float]], Array]:
    rng = np.random.default_rng(52)
    f = np.stack([concentration(e) for e in rng.multivariate_normal([0, 0], OMEGA, N)])
    y = f + f * np.sqrt(0.03) * rng.normal(size=f.shape) + np.sqrt(0.02) * rng.normal(size=f.shape)
    out: list[dict[str, float]] = []
    for i in range(N):
        out.append({"ID": i + 1.0, "TIME": 0.0, "AMT": 100.0, "DV": 0.0, "EVID": 1.0, "MDV": 1.0})
        out += [{"ID": i + 1.0, "TIME": t, "DV": v} for t, v in zip(TIMES, y[i], strict=True)]
    return out, y


def evaluated(folder: Path, stream: str, rows: list[dict[str, float]]) -> Fit:
    return estimate(*read(folder, stream, rows), SETTINGS, evaluate=True)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Array]:
    rows, y = line_rows()
    return evaluated(tmp_path_factory.mktemp("line"), LINE, rows), y


@pytest.fixture(scope="module")
def bolus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, Array]:
    rows, y = bolus_rows()
    return evaluated(tmp_path_factory.mktemp("bolus"), BOLUS, rows), y


def observed(fit: Fit, column: str) -> Array:
    return fit.table.loc[fit.table["MDV"] == 0, column].to_numpy().reshape(N, len(TIMES))


def whitened(residual: Array, covariance: Array) -> Array:
    return np.asarray(np.real(sqrtm(np.linalg.inv(covariance)))) @ residual


def test_residuals_of_a_linear_model(line: tuple[Fit, Array]) -> None:
    """One covariance for all subjects, X Omega X' + sigma I; every linearisation is the model itself."""
    fit, y = line
    design = np.stack([np.ones(len(TIMES)), TIMES], 1)
    mean = design @ [2.0, -0.5]
    covariance = design @ OMEGA @ design.T + 0.4 * np.eye(len(TIMES))
    expected = np.stack([whitened(own - mean, covariance) for own in y])
    np.testing.assert_allclose(observed(fit, "PRED"), np.tile(mean, (N, 1)), rtol=1e-12)
    for column in ("RES", "CRES", "CRESI"):
        np.testing.assert_allclose(observed(fit, column), y - mean, atol=1e-7, err_msg=column)
    for column in ("WRES", "CWRES", "CWRESI"):
        np.testing.assert_allclose(observed(fit, column), expected, atol=1e-6, err_msg=column)
    for column in ("CPRED", "CPREDI"):
        np.testing.assert_allclose(observed(fit, column), np.tile(mean, (N, 1)), atol=1e-7, err_msg=column)


def test_weighted_residuals_of_data_from_the_model_are_standard_normal(line: tuple[Fit, Array]) -> None:
    values = observed(line[0], "WRES").ravel()
    assert kstest(values, norm.cdf).pvalue > 1e-4  # the false-alarm rate; the seed is fixed
    lags = np.triu(np.corrcoef(observed(line[0], "WRES").T), 1)
    assert (
        np.abs(lags).max() < 0.65
    )  # 10 correlations of 30 subjects: beyond 0.65 in fewer than 1e-3 of cases


def differences(eta: Array, f: Callable[[Array], Array]) -> Array:
    h = 1e-5
    return np.stack([(f(eta + h * e) - f(eta - h * e)) / (2 * h) for e in np.eye(2)], 1)


def variance(f: Array) -> Array:
    return 0.03 * f**2 + 0.02


def test_residuals_of_a_model_that_is_not_linear(bolus: tuple[Fit, Array]) -> None:
    """WRES at eta = 0; CWRES (Hooker, Staatz and Karlsson 2007) with the slopes at the modes."""
    fit, y = bolus
    zero = np.zeros(2)
    for i in range(N):
        mode = fit.individuals.ebe[i]
        slope = {"0": differences(zero, concentration), "mode": differences(mode, concentration)}
        first = concentration(zero)
        conditional = concentration(mode) - slope["mode"] @ mode
        wanted = {
            "WRES": (first, slope["0"], first),
            "CWRES": (conditional, slope["mode"], first),
            "CWRESI": (conditional, slope["mode"], concentration(mode)),
        }
        for column, (mean, j, at) in wanted.items():
            covariance = j @ OMEGA @ j.T + np.diag(variance(at))
            found = observed(fit, column)[i]
            np.testing.assert_allclose(found, whitened(y[i] - mean, covariance), atol=1e-6, err_msg=column)
        np.testing.assert_allclose(observed(fit, "PRED")[i], first, rtol=1e-12)
        np.testing.assert_allclose(observed(fit, "RES")[i], y[i] - first, atol=1e-12)
        np.testing.assert_allclose(observed(fit, "CPRED")[i], conditional, atol=1e-7)
        np.testing.assert_allclose(observed(fit, "IPRED")[i], concentration(mode), rtol=1e-9)


def test_records_without_observations_have_predictions_but_no_residuals(bolus: tuple[Fit, Array]) -> None:
    fit, _ = bolus
    doses = fit.table[fit.table["MDV"] == 1]
    assert len(doses) == N
    for column in ("RES", "WRES", "CRES", "CWRES", "CRESI", "CWRESI"):
        assert (doses[column] == 0).all(), column
    np.testing.assert_allclose(doses["PRED"], 100 / 20, rtol=1e-12)  # right after the bolus
    np.testing.assert_allclose(doses["IPRED"], 100 / (20 * np.exp(fit.individuals.ebe[:, 1])), rtol=1e-9)


def test_table_repeats_individuals(bolus: tuple[Fit, Array]) -> None:
    fit, _ = bolus
    first = fit.table.groupby("ID").first()
    np.testing.assert_array_equal(first[["ETA1", "ETA2"]].to_numpy(), fit.individuals.ebe)
    assert first["OBJI"].sum() == pytest.approx(fit.ofv)
    np.testing.assert_allclose(first["CL"], 2 * np.exp(fit.individuals.ebe[:, 0]), rtol=1e-12)


def test_shrinkage_by_hand(bolus: tuple[Fit, Array]) -> None:
    fit, y = bolus
    individuals, omega = fit.individuals, np.diag(OMEGA)
    f = np.stack([concentration(e) for e in individuals.ebe])
    iwres = (y - f) / np.sqrt(variance(f))
    found = fit.shrinkage
    np.testing.assert_allclose(found.eta_var, 100 * (1 - individuals.ebe.var(0, ddof=1) / omega))
    np.testing.assert_allclose(found.eta_sd, 100 * (1 - individuals.ebe.std(0, ddof=1) / np.sqrt(omega)))
    conditional = np.einsum("ikk->ik", individuals.cond_cov).mean(0)
    np.testing.assert_allclose(found.ebv_var, 100 * conditional / omega)
    np.testing.assert_allclose(found.eps_var, np.full(2, 100 * (1 - (iwres**2).mean())), rtol=1e-6)
    np.testing.assert_allclose(found.etabar, individuals.ebe.mean(0))
    z = individuals.ebe.mean(0) / (individuals.ebe.std(0) / np.sqrt(N))
    np.testing.assert_allclose(found.etabar_p, 2 * norm.sf(np.abs(z)))


def test_each_eps_has_the_residuals_it_took_part_in(tmp_path: Path) -> None:
    rows, y = bolus_rows()
    stream = BOLUS.replace(
        "Y=F+F*EPS(1)+EPS(2)", "IF (TIME.LT.3) THEN\nY=F*(1+EPS(1))\nELSE\nY=F+EPS(2)\nENDIF"
    )
    fit = evaluated(tmp_path, stream, rows)
    f = np.stack([concentration(e) for e in fit.individuals.ebe])
    early = TIMES < 3
    first, second = ((y - f) / (np.sqrt(0.03) * f))[:, early], ((y - f) / np.sqrt(0.02))[:, ~early]
    np.testing.assert_allclose(
        fit.shrinkage.eps_var, [100 * (1 - (part**2).mean()) for part in (first, second)], rtol=1e-6
    )


def test_an_unknown_table_item_is_refused_before_fitting(tmp_path: Path) -> None:
    rows, _ = bolus_rows()
    with pytest.raises(ModelFailure, match="NPDE"):
        evaluated(tmp_path, BOLUS.replace("CWRES NOPRINT", "NPDE NOPRINT"), rows)


@pytest.mark.parametrize("error", ["Y=F*(1+EPS(1))", "Y=LOG(F)+EPS(1)"])
def test_an_observation_that_no_estimate_can_explain_is_named(error: str, tmp_path: Path) -> None:
    """A sample before the first dose under an error model that needs a positive prediction."""
    rows, _ = bolus_rows()
    rows.insert(6, {"ID": 2.0, "TIME": 0.0, "DV": 0.5})
    stream = BOLUS.replace("Y=F+F*EPS(1)+EPS(2)", error).replace("0.03 0.02", "0.03")
    for evaluate in (True, False):
        with pytest.raises(ModelFailure, match=r"data.csv:8: subject 2") as caught:
            estimate(*read(tmp_path, stream, rows), SETTINGS, evaluate=evaluate)
        assert "MDV=1" in caught.value.hint


def test_shrinkage_as_nonmem_prints_it(shared: Path) -> None:
    """Modes, conditional variances and IWRES of a NONMEM 7.3 run in, the .shk file of that run out."""
    folder = shared / "corpus" / "nonmem" / "xpose-mx19-run001"
    if not folder.is_dir():
        pytest.skip("the NONMEM run is not here")

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(folder / name, sep=r"\s+", skiprows=1)

    phi, ext, shk, records = (table(n) for n in ("run001.phi", "run001.ext", "run001.shk", "sdtab001"))
    numbers = range(1, 4)
    final = ext[ext["ITERATION"] == -1000000000].iloc[0]
    omega = np.diag([final[f"OMEGA({k},{k})"] for k in numbers])
    ebe = phi[[f"ETA({k})" for k in numbers]].to_numpy()
    covariance = np.zeros((len(ebe), 3, 3))
    for k in numbers:
        covariance[:, k - 1, k - 1] = phi[f"ETC({k},{k})"]
    individuals = Individuals(ebe, ebe, covariance, ebe, phi["OBJ"].to_numpy())
    iwres = records.loc[records["EVID"] == 0, "IWRES"].to_numpy()[:, None]
    found = shrinkage(Estimate(np.zeros(7), omega, np.eye(1)), individuals, iwres)
    wanted = shk.set_index("TYPE")[[f"ETA({k})" for k in numbers]].to_numpy()
    # files of five or six digits
    np.testing.assert_allclose(found.etabar, wanted[0], rtol=1e-4)
    np.testing.assert_allclose(found.etabar_se, wanted[1], rtol=1e-4)
    np.testing.assert_allclose(found.etabar_p, wanted[2], rtol=1e-3)
    np.testing.assert_allclose(found.eta_sd, wanted[3], rtol=1e-4)
    np.testing.assert_allclose(found.eps_sd, wanted[4, :1], rtol=1e-4)
    np.testing.assert_allclose(found.ebv_sd, wanted[5], rtol=1e-4)
