"""What files say of priors (steps that leave them out, the constant), and words that shape files."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.nonmem_runs import corpus
from support.streams import Row, read

from elbomix.compat.legacy import Choices, plan
from elbomix.compat.nonmem.lst_termination import termination_lines
from elbomix.compat.nonmem.titles import fit_line, fit_title, method_title
from elbomix.engine.fit import Fit
from elbomix.engine.objective.prior import PriorPenalty
from elbomix.engine.run.steps import run_steps
from elbomix.parsers.read import read_model

STREAM = """$PROBLEM prior
$INPUT {columns}
$DATA {file} IGNORE=@
$PRED
A = THETA(1)*EXP(ETA(1))
Y = A + EPS(1)
$THETA (0,2)
$OMEGA 0.1
$SIGMA 0.1
$PRIOR NWPRI
$THETAP (2 FIX)
$THETAPV (100 FIX)
$OMEGAP (0.1 FIX)
$OMEGAPD (4 FIX)
$ESTIMATION METHOD=1 MAXEVAL=0 NOPRIOR=1
$ESTIMATION METHOD=ITS NITER=2 NOPRIOR=1
$ESTIMATION METHOD=1 MAXEVAL=20 NOPRIOR=0
"""
CONSTANT = " PRIOR CONSTANT TO OBJECTIVE FUNCTION:"


@pytest.fixture(scope="module")
def fits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Fit, ...]:
    rows: list[Row] = [
        {"ID": i + 1, "TIME": float(t), "DV": 2.0 + 0.2 * i + 0.1 * t} for i in range(8) for t in range(3)
    ]
    model, data = read(tmp_path_factory.mktemp("prior"), STREAM, rows)
    model, steps = plan(model, "as-written", Choices(None, 1, 25, "compiled", False))
    return run_steps(model, data, steps)


def test_titles(fits: tuple[Fit, ...]) -> None:
    assert [fit_title(fit) for fit in fits] == [
        "First Order Conditional Estimation (No Prior) (Evaluation)",
        "Iterative Two Stage (No Prior)",
        "First Order Conditional Estimation",
    ]
    assert [line.startswith(CONSTANT) for fit in fits for line in termination_lines(fit)].count(True) == 1
    lines = termination_lines(fits[2])
    at = next(k for k, line in enumerate(lines) if line.startswith(CONSTANT))
    value, constant = float(lines[at + 1].split(":")[1]), float(lines[at].split(":")[1])
    assert value == pytest.approx(fits[2].ofv, rel=1e-14)
    assert float(lines[at + 2].split(":")[1]) == pytest.approx(value + constant, rel=1e-14)


@pytest.mark.parametrize(
    ("file", "titles"),
    [
        ("bauer-504-its/504_its.ext", [("its", False)]),
        ("bauer-504-saem-imp/504_saem.ext", [("saem", False), ("imp", True)]),
        ("bauer-superid30-level-foce/superid30_1_foce.ext", [("its", False), ("focei", False)]),
    ],
)
def test_titles_are_those_of_nonmem(file: str, titles: list[tuple[str, bool]]) -> None:
    text = (corpus("nonmem") / file).read_text(encoding="latin-1").splitlines()
    theirs = [line.split(": ")[1] for line in text if line.startswith("TABLE NO.")]
    assert theirs == [method_title(method, evaluated, with_prior=False) for method, evaluated in titles]


def test_the_constant_is_that_of_nonmem() -> None:
    folder: Path = corpus("nonmem") / "bauer-504-nuts"
    printed = next(
        line
        for line in (folder / "504_nuts.res").read_text(encoding="latin-1").splitlines()
        if CONSTANT in line
    )
    made = PriorPenalty(read_model(folder / "504_nuts.ctl")).constant
    assert made == pytest.approx(float(printed.split(":")[1]), rel=1e-14)


def test_words_that_shape_files(tmp_path: Path) -> None:
    text = STREAM.replace("NITER=2", "NITER=2 PHITYPE=1") + "$TABLE ID TIME\n$TABLE ID FILE=a NOPRINT\n"
    model, _ = read(tmp_path, text, [{"ID": 1, "TIME": 0, "DV": 1}])
    model, steps = plan(model, "as-written", Choices(None, 1, 25, "compiled", False))
    assert [step.shows_phi for step in steps] == [True, False, False]  # words hold for the steps after, too
    assert sum("written nowhere" in notice.message for notice in model.notices) == 1


def test_streamed_and_written_titles_agree(fits: tuple[Fit, ...]) -> None:
    assert fit_line(fits[1]).split(": ")[1] == method_title("its", with_prior=False)
