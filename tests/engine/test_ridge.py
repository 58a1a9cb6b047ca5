"""Fits whose objective has no minimum within reach, and those that only come from far away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.streams import read

from elbomix.engine.estimate import Array, initial
from elbomix.engine.methods.conditional import estimate_conditional
from elbomix.engine.methods.step import Step
from elbomix.engine.objective.population import Population

STREAM = """$PROBLEM saturation
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
EFFECT = THETA(1)*CONC/(THETA(2) + CONC)
Y = EFFECT + ETA(1) + EPS(1)
$THETA {theta}
$OMEGA 0.1
$SIGMA 0.1
$ESTIMATION METHOD=1 INTERACTION
"""
CONCENTRATIONS = np.array([0.5, 1.0, 2.0, 4.0, 8.0])


def fitted(folder: Path, effect: Array, theta: str) -> Step:
    """Return the fit to 30 subjects that have ``effect`` at each concentration, and their own intercept."""
    rng = np.random.default_rng(5)
    rows = [
        {"ID": float(i), "CONC": float(c), "DV": float(e + b + rng.normal(0, 0.3))}
        for i, b in enumerate(rng.normal(0, 0.3, 30), start=1)
        for c, e in zip(CONCENTRATIONS, effect, strict=True)
    ]
    model, data = read(folder, STREAM.format(theta=theta), rows)
    return estimate_conditional(Population(model, data), "focei", initial(model))


@pytest.mark.parametrize("theta", ["(0, 2) (0, 10)", "2 10"])
def test_a_line_fitted_by_a_saturation_curve_runs_off(tmp_path: Path, theta: str) -> None:
    """Bent upwards, the data are best described by the line that the curve becomes at infinity."""
    step = fitted(tmp_path, 0.3 * CONCENTRATIONS**1.1, theta)
    assert step.search is not None
    assert step.search.stopped == "runs_off"
    assert step.search.running_off == ("THETA1", "THETA2")
    assert step.status.code == "not_converged"
    assert "THETA1, THETA2" in step.status.message
    assert step.estimate.theta[1] > 100 * CONCENTRATIONS[-1]


@pytest.mark.parametrize("theta", ["(0, 0.01) (0, 500)", "0.01 0.02", "(0, 3000) (0, 0.003)"])
def test_a_far_start_alone_is_no_ridge(tmp_path: Path, theta: str) -> None:
    step = fitted(tmp_path, 3.0 * CONCENTRATIONS / (2.0 + CONCENTRATIONS), theta)
    assert step.search is not None
    assert step.search.stopped == "converged"
    assert step.search.running_off == ()
    # 30 subjects tell the curve to some 3 %
    np.testing.assert_allclose(step.estimate.theta, [3.0, 2.0], rtol=0.15)


def test_a_parameter_that_ends_at_its_bound_does_not_run_off(tmp_path: Path) -> None:
    """An effect that is there from the lowest concentration on: half of it is reached at none."""
    step = fitted(tmp_path, np.full(5, 2.0), "(0, 1.5) (0, 0.5)")
    assert step.search is not None
    assert step.search.stopped == "converged"
    assert step.search.near_bound == ("THETA2",)
