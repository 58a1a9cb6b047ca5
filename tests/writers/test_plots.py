"""Plots: which are made, what each panel shows, and no global state of matplotlib."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.plots import convergence_figure, covariate_figure, gof_figure, write_plots


def test_files(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    written = write_plots(fit, tmp_path, "run001")
    names = [f"run001_{n}.{s}" for n in ("convergence", "covariates", "gof") for s in ("png", "pdf")]
    assert [p.name for p in written] == names
    for path in written:
        start = path.read_bytes()[:8]
        assert start.startswith(b"\x89PNG" if path.suffix == ".png" else b"%PDF")
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_run_without_iterations_has_only_goodness_of_fit(tmp_path: Path) -> None:
    fit = replace(theophylline_fit(tmp_path), history=())
    assert [p.name for p in write_plots(fit, tmp_path, "r")] == ["r_gof.png", "r_gof.pdf"]


def test_convergence_panels(tmp_path: Path) -> None:
    figure = convergence_figure(selection_fit(tmp_path))
    assert figure is not None
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:3] == ["Objective", "THETA1 KA", "THETA2 K"]
    assert "THETA4" not in " ".join(titles)  # fixed
    assert titles[-1] == "OMEGA(3,3)"
    lines = figure.axes[1].get_lines()
    assert [float(np.asarray(line.get_xdata())[0]) for line in lines[1:]] == [
        20,
        30,
    ]  # annealed; smoothing starts
    assert figure.axes[1].patches[0].get_width() == pytest.approx(10)  # type: ignore[attr-defined]


def test_excluded_effects_are_on_grey(tmp_path: Path) -> None:
    figure = covariate_figure(selection_fit(tmp_path))
    assert figure is not None
    white = [axis.get_facecolor() == (1.0, 1.0, 1.0, 1.0) for axis in figure.axes]
    assert white == [True, False, False, False, True, False]
    assert figure.axes[0].get_title() == "KA~WT  (chosen, 2.54)"


def test_no_selection_no_covariate_plot(tmp_path: Path) -> None:
    assert covariate_figure(theophylline_fit(tmp_path)) is None


def test_goodness_of_fit_shows_observations_only(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    figure = gof_figure(fit)
    assert figure is not None
    assert len(figure.axes) == 4
    assert len(figure.axes[0].collections[0].get_offsets()) == 120  # type: ignore[arg-type]
    without = replace(fit, table=fit.table.drop(columns=["IPRED", "CWRES"]))
    figure = gof_figure(without)
    assert figure is not None
    assert len(figure.axes) == 1
