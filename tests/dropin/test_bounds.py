"""Tests of estimates for bounds: on by default, left out where the control stream says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.nonmem_runs import corpus
from support.streams import Row, read

from elbomix.compat.legacy import Choices, plan
from elbomix.compat.nonmem.lst_problem import problem_lines
from elbomix.compat.nonmem.lst_termination import termination_lines
from elbomix.engine.fit import Fit
from elbomix.engine.run.steps import run_steps

STREAM = """$PROBLEM subjects that do not differ
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
A = THETA(1)*EXP(ETA(1))
Y = A + EPS(1)
$THETA (0,2)
$OMEGA 0.1
$SIGMA 0.1
$ESTIMATION METHOD=1 {words}
$COVARIANCE MATRIX=R
"""
NEAR = "0PARAMETER ESTIMATE IS NEAR ITS BOUNDARY"
ADDRESS = " THIS MUST BE ADDRESSED BEFORE THE COVARIANCE STEP CAN BE IMPLEMENTED"


def fitted(folder: Path, words: str) -> Fit:
    rows: list[Row] = [
        {"ID": i + 1, "TIME": float(t), "DV": 3.0 + (0.3, -0.4, 0.1, 0.0)[t]}
        for i in range(20)
        for t in range(4)
    ]
    model, data = read(folder, STREAM.format(words=words), rows)
    model, steps = plan(model, "as-written", Choices(None, 1, 25, "compiled", False))
    (fit,) = run_steps(model, data, steps)
    return fit


def test_a_variance_ends_at_its_bound(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "")
    # NONMEM's bound: a hundredth of the initial standard deviation
    assert fit.estimate.omega[0, 0] == pytest.approx(0.1e-4, rel=1e-3)
    lines = termination_lines(fit)
    assert lines[lines.index(NEAR) + 1] == ADDRESS
    assert fit.uncertainty is None and "at a bound: OMEGA(1,1)" in fit.covariance_failure


@pytest.mark.parametrize("word", ["NOOMEGABOUNDTEST", "NOOBT"])
def test_the_test_is_left_out(tmp_path: Path, word: str) -> None:
    fit = fitted(tmp_path, word)
    assert fit.estimate.omega[0, 0] < 0.1e-4 and np.isfinite(fit.ofv)
    assert NEAR not in termination_lines(fit)
    text = [line for line in problem_lines(fit) if "BOUNDARY TEST" in line]
    assert [line.split()[-1] for line in text] == ["NO", "YES", "NO"]


def test_lines_are_those_of_nonmem() -> None:
    listing = corpus("nonmem") / "mox1-iov-ltbs-ss" / "mox1.lst"
    lines = [line.rstrip() for line in listing.read_text(encoding="latin-1").splitlines()]
    assert lines[lines.index(NEAR) + 1] == ADDRESS
    assert "0DEFAULT OMEGA BOUNDARY TEST OMITTED:    NO" in lines
