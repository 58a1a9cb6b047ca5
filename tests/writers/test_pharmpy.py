"""pharmpy reads everything back from the files of a run."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.nonmem.write import write_nonmem
from elbomix.engine.fit import Fit
from elbomix.engine.iteration import Status

pytestmark = pytest.mark.filterwarnings("ignore")  # pharmpy's own and those of the libraries it loads

STARTED = datetime(2026, 3, 9, 23, 59, 30, tzinfo=UTC)
ENDED = datetime(2026, 3, 10, 0, 1, 0, tzinfo=UTC)


def read(folder: Path) -> Any:
    tools: Any = importlib.import_module("pharmpy.tools")
    return tools.read_modelfit_results(folder / "run001.mod")


@pytest.fixture(params=[theophylline_fit, selection_fit], ids=["theophylline", "selection"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Fit, Any]:
    build: Callable[[Path], Fit] = request.param
    fit = build(tmp_path)
    write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    return fit, read(tmp_path)


# tolerances: 6 printed digits (s1PE12.5), 5 in tables (s1PE11.4), 5 in the report
SIX_DIGITS, FIVE_DIGITS = 5e-6, 5e-5


def free_values(fit: Fit, values: np.ndarray[Any, Any]) -> list[float]:
    assert fit.uncertainty is not None
    return [float(v) for v in values[np.isfinite(fit.uncertainty.se)]]


def test_objective_and_estimates(run: tuple[Fit, Any]) -> None:
    fit, results = run
    assert results.ofv == pytest.approx(fit.ofv, rel=1e-14)
    expected = free_values(fit, fit.estimate.flatten())
    assert sorted(results.parameter_estimates) == pytest.approx(sorted(expected), rel=SIX_DIGITS)
    assert results.minimization_successful
    assert results.log_likelihood is not None
    assert fit.importance is not None
    assert results.log_likelihood == pytest.approx(fit.importance.value, rel=1e-12)


def test_standard_errors_and_matrices(run: tuple[Fit, Any]) -> None:
    fit, results = run
    assert fit.uncertainty is not None
    expected = free_values(fit, fit.uncertainty.se)
    assert results.covstep_successful
    assert sorted(results.standard_errors) == pytest.approx(sorted(expected), rel=SIX_DIGITS)
    covariance = results.covariance_matrix.to_numpy()
    free = np.isfinite(fit.uncertainty.se)
    truth = fit.uncertainty.covariance[np.ix_(free, free)]
    order = [list(results.standard_errors).index(v) for v in results.standard_errors]
    assert order == list(range(len(expected)))
    assert np.sort(np.diag(covariance)) == pytest.approx(np.sort(np.diag(truth)), rel=SIX_DIGITS)
    assert np.linalg.eigvalsh(covariance) == pytest.approx(np.linalg.eigvalsh(truth), rel=1e-3)
    # columns have six digits each, so the product deviates by the condition number times that
    product = results.precision_matrix.to_numpy() @ covariance
    assert product == pytest.approx(np.eye(len(expected)), abs=0.05)
    assert np.diag(results.correlation_matrix.to_numpy()) == pytest.approx(1.0)
    assert results.condition_number == pytest.approx(fit.uncertainty.condition_number, rel=SIX_DIGITS)


def test_individuals(run: tuple[Fit, Any]) -> None:
    fit, results = run
    assert list(results.individual_estimates.index) == list(fit.data.ids)
    assert results.individual_estimates.to_numpy() == pytest.approx(fit.individuals.ebe, rel=SIX_DIGITS)
    assert results.individual_ofv.to_numpy() == pytest.approx(fit.individuals.objective, rel=1e-12)
    assert results.individual_ofv.sum() == pytest.approx(results.ofv, rel=1e-12)
    second = results.individual_estimates_covariance.iloc[1].to_numpy()
    assert second == pytest.approx(fit.individuals.cond_cov[1], rel=SIX_DIGITS)


def test_shrinkage_times_and_residuals(run: tuple[Fit, Any]) -> None:
    fit, results = run
    modeling: Any = importlib.import_module("pharmpy.modeling")
    reports: Any = importlib.import_module("pharmpy.tools.external.nonmem.results_file")
    folder = Path(fit.model.path).parent
    report = reports.NONMEMResultsFile(folder / "run001.lst")
    table = report.table[1]
    assert table["eta_shrinkage"].iloc[:, 0].to_numpy() == pytest.approx(
        fit.shrinkage.eta_sd, rel=FIVE_DIGITS
    )
    assert table["eps_shrinkage"].to_numpy().ravel()[0] == pytest.approx(12.0)
    assert float(table["OBJV"]) == pytest.approx(fit.ofv, abs=5e-4)
    assert results.runtime_total == 90
    assert results.estimation_runtime == pytest.approx(3.75)
    observed = fit.data.is_observation
    assert len(results.residuals) == observed.sum()
    cwres = fit.table["CWRES"][observed].to_numpy()
    assert results.residuals["CWRES"].to_numpy() == pytest.approx(cwres, rel=FIVE_DIGITS)
    predictions = results.predictions
    assert predictions["IPRED"].to_numpy() == pytest.approx(fit.table["IPRED"].to_numpy(), rel=FIVE_DIGITS)
    assert len(predictions) == len(modeling.read_model(folder / "run001.mod").dataset)


def test_iterations_end_at_the_final_objective(run: tuple[Fit, Any]) -> None:
    _, results = run
    history: pd.Series[float] = results.ofv_iterations
    assert history.index.get_level_values("iteration")[0] == 0
    assert history.iloc[-1] == results.ofv
    assert not history.isna().any()


def test_selection_is_in_the_report(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    text = (tmp_path / "run001.lst").read_text()
    lines = {line.split()[0]: line.split() for line in text.splitlines() if "~" in line}
    assert lines["KA~WT"][2:4] == ["YES", "TH"]
    assert lines["K~SEX=1"][2] == "NO"
    assert float(lines["V~WT"][-1]) - float(lines["V~WT"][-2]) == pytest.approx(4.25)
    assert "INDEPENDENT CHECK BY HiGHS: AGREES" in text


def test_without_standard_errors(tmp_path: Path) -> None:
    fit = replace(theophylline_fit(tmp_path), uncertainty=None)
    (tmp_path / "run001.cov").write_text("of an earlier run")
    written = write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    assert not {".cov", ".cor", ".coi"} & {p.suffix for p in written}
    assert not (tmp_path / "run001.cov").exists()
    results = read(tmp_path)
    assert results.ofv == pytest.approx(fit.ofv)
    assert results.covstep_successful is False
    assert np.isnan(results.standard_errors).all()


def test_not_converged_is_no_success(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    fit = replace(
        fit, status=Status("not_converged", "The limit of 500 iterations was reached.", "Allow more.")
    )
    write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    results = read(tmp_path)
    assert not results.minimization_successful
    assert results.ofv == pytest.approx(fit.ofv)


def test_evaluation(tmp_path: Path) -> None:
    fit = replace(
        theophylline_fit(tmp_path), history=(), status=Status("evaluated", "No parameter was moved.")
    )
    write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    results = read(tmp_path)
    assert results.ofv == pytest.approx(fit.ofv)
    assert results.minimization_successful
    assert " (Evaluation):" in (tmp_path / "run001.ext").read_text().splitlines()[0]


def test_failed_run_is_reported_as_failed(tmp_path: Path) -> None:
    fit = replace(
        theophylline_fit(tmp_path),
        ofv=float("nan"),
        status=Status("failed", "The objective became infinite.", "Check the initial estimates."),
    )
    written = write_nonmem([fit], tmp_path, "run001", STARTED, ENDED)
    assert {p.suffix for p in written} == {".ext", ".lst"} | (
        {".cov", ".cor", ".coi"} & {p.suffix for p in written}
    )
    results = read(tmp_path)
    assert not results.minimization_successful
    assert "nan" not in (tmp_path / "run001.ext").read_text().lower()
