"""Control streams that people wrote: how many become models, and that equal ones give equal models."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from elbomix.engine.ir.model import Model
from elbomix.engine.ir.show import show
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import read_models

# What the two streams of a case say differently, by the number of lines of their printouts that differ.
DIFFERENT = {
    "ddmore-301-meropenem-3cmt": "other initial values",
    "ddmore-214-hfs-markov": "another name of the table file",
    "pheno-real-foce": "other initial values, tables and options",
    "xpose-mx19-run001": "other initial values",
}

# The line that NM-TRAN refused in it is not in the text as it is kept.
MENDED = {"pharmpy__errors_control_stream_error.ctl"}
# Listings whose owners took the model code out, or left a piece of it.
STRIPPED = {
    "psn__oneEST_noSIM_large_s_matrix_cov_fail.ctl",  # the word DUMMY in place of code
    "psn__onePROB_multEST_firstEstTerm.ctl",
    "psn__output_nm74_sparse_matrix_bug.ctl",
    "psn__output_special_mod_objv_infinity.ctl",
    "psn__output_special_mod_two_prob_second_fail.ctl",
}


def _printout(models: tuple[Model, ...]) -> list[str]:
    """The printout without titles, labels, places of files and notes."""
    lines = [line.split("  #")[0] for model in models for line in show(model).splitlines()]
    return [line for line in lines if not line.startswith(("  title:", "  file:", "  note:"))]


def test_the_stream_as_run_gives_the_model_of_the_author(shared: Path) -> None:
    same = 0
    for path in sorted((shared / "corpus" / "nonmem").glob("*/case.json")):
        case = json.loads(path.read_text())
        if not case.get("control_as_run"):
            continue
        author = _printout(read_models(path.parent / case["control"]))
        as_run = _printout(read_models(path.parent / case["control_as_run"]))
        assert (author == as_run) != (case["name"] in DIFFERENT), case["name"]
        same += author == as_run
    assert same >= 15


def test_nearly_all_streams_become_models(shared: Path) -> None:
    """At least 98 in 100 of those that NONMEM took; the others are refused."""
    folder = shared / "corpus" / "nmtran-parse"
    with (folder / "index.csv").open(newline="") as file:
        invalid = {row["file"] for row in csv.DictReader(file) if row["intentionally_invalid"] != "no"}
    invalid -= MENDED
    refused: list[str] = []
    files = [folder / name for name in sorted(p.name for p in folder.iterdir() if p.suffix == ".ctl")]
    for path in files:
        try:
            read_models(path)
        except ProblemError:
            refused.append(path.name)
    assert invalid | STRIPPED <= set(refused)
    valid = {path.name for path in files} - invalid - STRIPPED
    assert len(valid.intersection(refused)) <= 0.02 * len(valid), refused


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("psn__modelfit_diagnose_lst_errors_psn.ctl", "HEJSAN", "unknown option HEJSAN"),
        ("ddmore__284_NIVO-PPKFinalModel-CPT.ctl", "PROB", "text before the first record"),
    ],
)
def test_invalid_streams_are_refused_at_their_line(shared: Path, name: str, line: str, text: str) -> None:
    path = shared / "corpus" / "nmtran-parse" / name
    with pytest.raises(ProblemError) as caught:
        read_models(path)
    problem = next(p for p in caught.value.problems if text in p.message)
    assert problem.span is not None
    rows = caught.value.texts[str(path)].split("\n")
    assert line in rows[problem.span.line - 1]
