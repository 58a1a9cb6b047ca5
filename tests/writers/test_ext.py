"""The .ext file: rows while the run goes, final rows, what is left of a killed run."""

from __future__ import annotations

import importlib
import math
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.nonmem.ext import ExtStream, sd_and_correlation_errors, sd_and_correlations, write_ext
from elbomix.engine.estimate import Estimate
from elbomix.engine.fit import Fit
from elbomix.engine.iteration import Status


def read_rows(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep=r"\s+", skiprows=1).set_index("ITERATION")


def test_first_line_and_labels(tmp_path: Path) -> None:
    write_ext([theophylline_fit(tmp_path)], tmp_path / "r.ext")
    first, second, *rows = (tmp_path / "r.ext").read_text().splitlines()
    assert first.startswith("TABLE NO.     1: Variational Autoencoder")
    assert "Importance Sampling" in first  # the words by which xpose finds a method
    assert first.endswith(
        ": Goal Function=FINAL VALUE OF OBJECTIVE FUNCTION: Problem=1 Subproblem=0 Superproblem1=0 "
        "Iteration1=0 Superproblem2=0 Iteration2=0"
    )
    assert second.startswith(
        " ITERATION    THETA1       THETA2       THETA3       SIGMA(1,1)   OMEGA(1,1)   OM"
    )
    assert second.endswith("OMEGA(3,3)   OBJ")
    assert {len(row) for row in rows} == {13 + 13 * 10 + 22}


def test_final_rows_are_the_ones_readers_want(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    write_ext([fit], tmp_path / "r.ext")
    rows = read_rows(tmp_path / "r.ext")
    special = [i for i in rows.index if i <= -1000000000]
    assert special == [-1000000000 - k for k in range(8)]
    assert fit.uncertainty is not None
    assert rows.loc[-1000000001, "OMEGA(2,1)"] == 1e10
    assert rows.loc[-1000000002].iloc[:7].to_numpy() == pytest.approx(fit.uncertainty.eigenvalues, rel=1e-5)
    assert rows.loc[-1000000003].iloc[0] == pytest.approx(fit.uncertainty.condition_number, rel=1e-5)
    assert rows.loc[-1000000004, "OMEGA(1,1)"] == pytest.approx(math.sqrt(0.41234567), rel=1e-5)
    assert rows.loc[-1000000006, "OMEGA(2,1)"] == 1
    assert (rows.loc[-1000000007] == 0).all()


def test_iterations_are_numbered_like_a_stochastic_method(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    write_ext([fit], tmp_path / "r.ext")
    rows = read_rows(tmp_path / "r.ext")
    numbers = [i for i in rows.index if i > -1000000000]
    assert numbers == list(range(-9, 33))
    text = (tmp_path / "r.ext").read_text().splitlines()
    last = next(line for line in text if line.startswith(f"{32:13d}"))
    final = next(line for line in text if line.startswith("  -1000000000 "))
    assert last.split()[1:] == final.split()[1:]


def test_thetas_of_effects_left_out_are_dropped(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    write_ext([fit], tmp_path / "r.ext")
    rows = read_rows(tmp_path / "r.ext")
    thetas = [c for c in rows.columns if c.startswith("THETA")]
    assert thetas == [f"THETA{k}" for k in range(1, 7)]
    first = fit.history[0].estimate.theta
    assert rows.loc[-9, "THETA5"] == pytest.approx(first[4])
    assert rows.loc[-9, "THETA6"] == pytest.approx(first[8])  # the fifth candidate
    assert rows.loc[-1000000006, "THETA4"] == 1


@pytest.mark.parametrize(("code", "number"), [("converged", 0), ("not_converged", 1), ("evaluated", 2)])
def test_termination_row(tmp_path: Path, code: Any, number: float) -> None:
    fit = replace(theophylline_fit(tmp_path), status=Status(code, "."))
    write_ext([fit], tmp_path / "r.ext")
    assert read_rows(tmp_path / "r.ext").loc[-1000000007].iloc[0] == number


def test_optional_rows_are_absent_when_not_asked(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    write_ext([replace(fit, model=fit.model.replace(covariance=None))], tmp_path / "a.ext")
    assert not {-1000000002, -1000000003} & set(read_rows(tmp_path / "a.ext").index)
    write_ext([replace(fit, uncertainty=None)], tmp_path / "b.ext")
    assert not {-1000000001, -1000000005} & set(read_rows(tmp_path / "b.ext").index)


def test_errors_of_sd_and_correlation_against_differences() -> None:
    omega = np.array([[0.4, 0.05], [0.05, 0.09]])
    estimate = Estimate(np.array([1.0]), omega, np.array([[0.3]]))
    generator = np.random.default_rng(1)
    root = 0.01 * generator.standard_normal((5, 5))
    covariance = root @ root.T
    values = estimate.flatten()

    def transformed(flat: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
        full = np.array([[flat[2], flat[3]], [flat[3], flat[4]]])
        return sd_and_correlations(Estimate(flat[:1], full, flat[1:2].reshape(1, 1)))

    step = 1e-6
    jacobian = np.array(
        [(transformed(values + step * e) - transformed(values - step * e)) / (2 * step) for e in np.eye(5)]
    ).T
    expected = np.sqrt(np.diag(jacobian @ covariance @ jacobian.T))
    # central differences with this step are good to 1e-9
    assert sd_and_correlation_errors(estimate, covariance)[1:] == pytest.approx(expected[1:], rel=1e-6)


def stream(fit: Fit, path: Path, count: int) -> None:
    with ExtStream(path, fit.base_model, burn_in=10) as observer:
        for iteration in fit.history[:count]:
            observer(1, "vae", False, iteration)


def test_stream_has_every_row_at_once(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    observer = ExtStream(tmp_path / "r.ext", fit.base_model)
    for k, iteration in enumerate(fit.history, start=1):
        observer(1, "vae", False, iteration)
        assert len(read_rows(tmp_path / "r.ext")) == k  # still open
    observer.close()
    rows = read_rows(tmp_path / "r.ext")
    assert [c for c in rows.columns if c.startswith("THETA")] == [f"THETA{k}" for k in range(1, 11)]
    assert rows.index[0] == -10_000
    assert list(rows.index[9:13]) == [-9991, 0, 1, 2]
    assert rows.iloc[-1]["THETA5"] == pytest.approx(2.5432)


def test_row_with_a_number_that_is_not_finite_is_left_out(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    history = (replace(fit.history[0], objective=math.nan), *fit.history[1:])
    stream(replace(fit, history=history), tmp_path / "r.ext", 3)
    assert len(read_rows(tmp_path / "r.ext")) == 2


@pytest.mark.filterwarnings("ignore")  # pharmpy's own
def test_killed_run_reads_as_interrupted(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from support.fits import theophylline_fit
        from elbomix.compat.nonmem.ext import ExtStream
        folder = Path(sys.argv[1])
        fit = theophylline_fit(folder)
        observer = ExtStream(folder / "run001.ext", fit.base_model, burn_in=10)
        for iteration in fit.history[:25]:
            observer(1, "vae", False, iteration)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    rows = read_rows(tmp_path / "run001.ext")
    assert len(rows) == 25
    tools: Any = importlib.import_module("pharmpy.tools")
    results = tools.read_modelfit_results(tmp_path / "run001.mod")
    assert math.isnan(results.ofv)
    # pharmpy marks the missing end by a row of NaN after the rows that are there
    assert results.ofv_iterations.dropna().iloc[-1] == pytest.approx(fit.history[24].objective, rel=1e-12)
