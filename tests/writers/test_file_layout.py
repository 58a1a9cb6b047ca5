"""FORMAT, ORDER, NOTITLE and NOLABEL of $ESTIMATION in the files beside the report."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from support.streams import read

from elbomix.compat.fit_json import read_estimates
from elbomix.compat.nonmem.ext import parameter_labels, write_ext
from elbomix.compat.nonmem.file_layout import FileLayout, layout_problems
from elbomix.compat.nonmem.matrices import write_matrices
from elbomix.compat.nonmem.numbers import parse_format
from elbomix.compat.nonmem.phi import write_phi
from elbomix.compat.nonmem.shk import write_shk
from elbomix.compat.nonmem.shm import write_shm
from elbomix.engine.fit import Fit
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.run.planned_step import PlannedStep
from elbomix.engine.run.steps import run_steps
from elbomix.engine.uncertainty.covariance_step import CovarianceSettings

STREAM = """$PROBLEM layouts
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
Y = (THETA(1) + ETA(1))*EXP(-(THETA(2) + ETA(2))*TIME) + EPS(1)
$THETA 3 0.2
$OMEGA BLOCK(2) 0.3 0.01 0.02
$SIGMA 0.1
$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0 {words}
$COVARIANCE {covariance}
"""


def fitted(folder: Path, words: str, covariance: str = "") -> Fit:
    rows = [
        {
            "ID": i + 1,
            "TIME": float(t),
            "DV": (3.0 + 0.5 * np.sin(i)) * np.exp(-0.2 * t) + 0.1 * np.cos(7 * i + t),
        }
        for i in range(8)
        for t in range(4)
    ]
    model, data = read(folder, STREAM.format(words=words, covariance=covariance), rows)
    assert layout_problems(model) == []
    settings, (task,) = ConditionalSettings(max_evaluations=0), model.estimations
    step = PlannedStep(1, "focei", settings, covariance=CovarianceSettings("s"), task=task)
    (fit,) = run_steps(model, data, [step])
    return fit


def _split(line: str, mark: str | None) -> list[str]:
    """Split at ``mark``, but not at the comma inside ``ETC(1,1)``."""
    return line.split() if mark is None else re.split(rf"{mark}(?![^(]*\))", line)


def test_lines_are_those_that_nonmem_wrote() -> None:
    """Rows of .ext, .phi, .shm and .cov of NONMEM 7.4 with FORMAT=,1PE23.16."""
    layout = FileLayout(parse_format(",1PE23.16"))
    assert layout.labels(["ITERATION", "THETA1", "OBJ"]) == (
        " ITERATION              ,THETA1                 ,OBJ"
    )
    assert layout.line([layout.first(0), *layout.reals([2.0, 0.6000000000000000888])]) == (
        "            0           , 2.0000000000000000E+00, 6.0000000000000009E-01"
    )
    assert layout.line([layout.first(-1000000004), *layout.reals([0.0])]) == (
        "  -1000000004           , 0.0000000000000000E+00"
    )
    assert layout.line([layout.first(1), layout.identifier(1.0), *layout.reals([-0.033])]).startswith(
        "            1           ,                      1,-3.3000000000000002E-02"
    )
    assert layout.line([layout.first(1), layout.identifier(1.0), layout.count(1), *layout.reals([0.0])]) == (
        "            1           ,                      1,           1           , 0.0000000000000000E+00"
    )
    assert layout.line([layout.name("THETA1"), *layout.reals([0.0625])]) == (
        " THETA1                 , 6.2500000000000000E-02"
    )


def test_orders_of_parameters() -> None:
    """The orders of the help page: TSOL, and TOSU as the report has it."""
    labels = np.array(parameter_labels(1, 1, 3))
    assert list(labels[FileLayout().arranged(1, 1, 3)]) == list(labels)
    upper = ["(1,1)", "(2,1)", "(3,1)", "(2,2)", "(3,2)", "(3,3)"]
    found = labels[FileLayout(order="TOSU").arranged(1, 1, 3)]
    assert list(found) == ["THETA1", *(f"OMEGA{at}" for at in upper), "SIGMA(1,1)"]
    assert labels[FileLayout(order="OSTL").arranged(1, 1, 3)][-1] == "THETA1"


@pytest.mark.parametrize(
    ("words", "separator"),
    [("FORMAT=,1PE13.6 ORDER=TOSU", ","), ("DELIM=T", "\t"), ("FORMAT=c1PE12.5", ","), ("ORDER=SOTL", None)],
)
def test_files_hold_the_same_in_every_layout(tmp_path: Path, words: str, separator: str | None) -> None:
    plain = fitted(tmp_path, "")
    other = fitted(tmp_path, words)
    rows = []
    for fit, name in ((plain, "a"), (other, "b")):
        write_ext([fit], tmp_path / f"{name}.ext")
        estimate = read_estimates(tmp_path / f"{name}.ext", fit.model)
        np.testing.assert_allclose(estimate.flatten(), plain.estimate.flatten(), rtol=1e-5)
        mark = separator if fit is other else None
        found: dict[tuple[str, ...], float] = {}
        for path in (
            write_phi([fit], tmp_path / f"{name}.phi"),
            write_shk([fit], tmp_path / f"{name}.shk"),
            write_shm([fit], tmp_path / f"{name}.shm"),
            *write_matrices([fit], tmp_path / name),
        ):
            _, labels, *lines = path.read_text().splitlines()
            columns = [label.strip() for label in _split(labels, mark)]
            fields = [[field.strip() for field in _split(line, mark)] for line in lines]
            assert {len(row) for row in fields} == {len(columns)}
            if path.suffix in (".cov", ".cor", ".coi"):
                found |= {(path.suffix, *sorted((row[0], c))): float(v) for row in fields
                          for c, v in zip(columns[1:], row[1:], strict=True)}  # fmt: skip
            else:
                found |= {(path.suffix, str(k), c): float(v) for k, row in enumerate(fields)
                          for c, v in zip(columns, row, strict=True)}  # fmt: skip
        rows.append(found)
    assert rows[0].keys() == rows[1].keys()
    for key, value in rows[0].items():
        assert rows[1][key] == pytest.approx(value, rel=2e-5, abs=1e-12)


def test_lines_before_the_rows_may_be_left_out(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "NOTITLE=1 NOLABEL=1")
    assert write_phi([fit], tmp_path / "a.phi").read_text().startswith("            1            1 ")
    fit = fitted(tmp_path, "NOTITLE=0 NOLABEL")
    assert write_phi([fit], tmp_path / "a.phi").read_text().splitlines()[1].startswith("            1 ")


def test_the_covariance_step_has_its_own_format(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "FORMAT=,1PE13.6", "FORMAT=s1PE15.8")
    texts = {path.suffix: path.read_text() for path in write_matrices([fit], tmp_path / "run")}
    assert re.fullmatch(r" THETA1 {9}( [ -]\d\.\d{8}E[+-]\d\d){6}", texts[".cov"].splitlines()[2])
    assert "," in write_phi([fit], tmp_path / "run.phi").read_text().splitlines()[2]


@pytest.mark.parametrize("words", ["ORDER=TSO", "ORDER=TTOL", "FORMAT=x", "DELIM=F5"])
def test_what_is_no_layout_is_named_before_a_run(tmp_path: Path, words: str) -> None:
    model, _ = read(tmp_path, STREAM.format(words=words, covariance=""), [{"ID": 1, "TIME": 0.0, "DV": 1.0}])
    (problem,) = layout_problems(model)
    assert problem.span == model.estimations[0].span
