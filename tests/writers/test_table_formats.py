"""Formats of tables: whole lines by Fortran formats, ID formats, order and exclusion of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.nonmem_runs import load
from support.streams import Row, read

from elbomix.compat.nonmem.numbers import parse_format
from elbomix.compat.nonmem.record_format import parse_record_format
from elbomix.compat.nonmem.tables import table_label, table_problems, table_text
from elbomix.engine.fit import Fit
from elbomix.engine.methods.conditional import ConditionalSettings
from elbomix.engine.run.planned_step import PlannedStep
from elbomix.engine.run.steps import run_steps
from elbomix.parsers.read import parse_model

STREAM = """$PROBLEM tables
$INPUT {{columns}}
$DATA {{file}} IGNORE=@
$PRED
A = THETA(1)*EXP(ETA(1))
Y = A*EXP(-ETA(2)*TIME) + A*EPS(1)
"LAST
"  D2=HH(1,2)
$THETA 3
$OMEGA 0.1 0.1
$SIGMA 0.1
$ESTIMATION METHOD=1 INTERACTION MAXEVAL=0
{tables}
"""


def fitted(folder: Path, tables: str) -> Fit:
    rows: list[Row] = [
        {"ID": i + 1, "TIME": float(t), "DV": 3.0 + i - t, "OUT": float(t == 2)}
        for i in range(3)
        for t in range(3)
    ]
    model, data = read(folder, STREAM.format(tables=tables), rows)
    (fit,) = run_steps(model, data, [PlannedStep(1, "focei", ConditionalSettings(max_evaluations=0))])
    return fit


# What Fortran writes for these (ISO/IEC 1539-1, 13.7 and 13.9)
@pytest.mark.parametrize(
    ("form", "values", "lines"),
    [
        ("(F8.0,2(',',1PE12.5))", [1.0, 25.0, 0.5], ["      1., 2.50000E+01, 5.00000E-01"]),
        ("(1PE16.9,300(1PE24.16))", [2.0, -1.5], [" 2.000000000E+00 -1.5000000000000000E+00"]),
        ("(F4.1)", [1.0, 2.0, 3.0], [" 1.0", " 2.0", " 3.0"]),
        ("(I4,2(1X,F4.1))", [1.0, 2.0, 3.0, 4.0, 5.0], ["   1  2.0  3.0", "  4.0  5.0"]),
        ("(I3,' and',2X,F5.2,:,' more')", [7.0, 1.25], ["  7 and   1.25"]),
        ("(F6.1,1PE9.2,F6.1,0PF6.1)", [1.0, 1.0, 1.0, 1.0], ["   1.0 1.00E+00  10.0   1.0"]),
        ("(2(I2,/))", [1.0, 2.0], [" 1", " 2", ""]),
        ("(ES10.3, E10.3)", [123.0, 123.0], [" 1.230E+02 0.123E+03"]),
    ],
)
def test_lines_are_those_of_fortran(form: str, values: list[float], lines: list[str]) -> None:
    assert parse_record_format(form).lines(values) == lines


def test_labels_by_a_format() -> None:
    form = parse_record_format("(4X,A4,4(',',4X,A8))")
    assert form.lines(["ID", "TIME", "CLEARANCES"]) == ["      ID,        TIME,    CLEARANC,    "]


@pytest.mark.parametrize(
    "wrong", ["F8.0", "(F8)", "(F8.0", "('text')", "(F8.0)(", "(Q3.1)", "(99999(99999(F3.1)))"]
)
def test_what_is_no_format(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"'|too long"):
        parse_record_format(wrong)


def test_lines_of_a_table(tmp_path: Path) -> None:
    given = 'LFORMAT="(4X,A4,3(\',\',4X,A8))" RFORMAT="(F8.0," RFORMAT="3(\',\',1PE12.5))"'
    fit = fitted(tmp_path, f"$TABLE ID TIME DV MDV NOAPPEND NOPRINT ONEHEADER FILE=a {given}")
    lines = table_text(fit, fit.model.tables[0], 1).splitlines()
    assert lines[1].rstrip() == "      ID,        TIME,          DV,         MDV"
    assert lines[2].rstrip() == "      1., 0.00000E+00, 3.00000E+00, 0.00000E+00"
    assert len(lines) == 11


def test_formats_hold_until_others_are_given(tmp_path: Path) -> None:
    tables = """$TABLE ID TIME NOAPPEND NOPRINT NOHEADER FILE=a FORMAT=,F8.2 RFORMAT="(2F5.1)"
$TABLE ID TIME NOAPPEND NOPRINT NOHEADER FILE=b
$TABLE ID TIME NOAPPEND NOPRINT NOHEADER FILE=c RFORMAT="NONE"
$TABLE ID TIME NOAPPEND NOPRINT NOHEADER FILE=d FORMAT=s1PE11.4"""
    fit = fitted(tmp_path, tables)
    texts = [table_text(fit, task, 1).splitlines()[1] for task in fit.model.tables]
    assert texts == ["  1.0  1.0", "  1.0  1.0", "     1.00,    1.00", "  1.0000E+00  1.0000E+00"]


def test_nonmem_carries_a_format_on() -> None:
    run = load("nonmem", "xpose-mx19-run001")
    text = run.stream.read_text(encoding="latin-1").split("; Problem no. 2")[0]
    model = parse_model(text, str(run.stream))
    formats = [task.format for task in model.tables]
    printed = [
        line.split()[1]
        for line in (run.folder / "run001.lst").read_text(encoding="latin-1").splitlines()
        if line.startswith(" FORMAT:")
    ]
    assert [form.upper() for form in formats] == printed[: len(formats)]


def test_order_and_exclusion_of_rows(tmp_path: Path) -> None:
    tables = """$TABLE ID DV BY DV FILE=a NOPRINT NOAPPEND NOHEADER EXCLUDE_BY OUT IDFORMAT=I
$TABLE ID DV FILE=b NOPRINT NOAPPEND NOHEADER IDFORMAT=I6 FIRSTONLY
$TABLE ID DV FILE=c NOPRINT NOAPPEND NOHEADER IDFORMAT=F6.1 FIRSTONLY
$TABLE ID DV FILE=d NOPRINT NOAPPEND NOHEADER IDFORMAT=Z FIRSTONLY"""
    fit = fitted(tmp_path, tables)
    texts = [table_text(fit, task, 1).splitlines() for task in fit.model.tables]
    rows = [line.split() for line in texts[0]]
    assert [(int(a), float(b)) for a, b in rows] == [
        (1, 2.0),
        (1, 3.0),
        (2, 3.0),
        (2, 4.0),
        (3, 4.0),
        (3, 5.0),
    ]
    assert [text[0] for text in texts] == [
        " 1            2.0000E+00",
        "      1       3.0000E+00",
        "    1.0       3.0000E+00",
        "  1.0000E+00  3.0000E+00",
    ]


def test_labels_of_columns() -> None:
    """The user's own name of a data item, as NONMEM's listings and tables have it; ET10 for a late eta."""
    omega = " ".join(["0.1"] * 12)
    text = STREAM.format(tables="$TABLE ID TIME DV CP DROPS ETAS(9:11) IT=A FILE=a")
    text = text.replace("{columns}", "ID WEEK=TIME CP=DV DATE=DROP DROPS=AMT").replace("{file}", "d.csv")
    model = parse_model(text.replace("$OMEGA 0.1 0.1", f"$OMEGA {omega}"))
    labels = [table_label(model, item) for item in (*model.tables[0].items, "DV", "PRED")]
    assert labels == "ID WEEK CP CP DROPS ETA9 ET10 ET11 IT CP PRED".split()


@pytest.mark.parametrize(("text", "separator"), [(",", ","), ("s", " "), ("T", "\t")])
def test_a_separator_alone_keeps_the_numbers(text: str, separator: str) -> None:
    form = parse_format(text, "1PE11.4")
    assert (form.separator, form.number(25.0)) == (separator, " 2.5000E+01")


def test_formats_without_blanks() -> None:
    row = [1.0, -0.05]
    for text, line in (
        ("CSV", "1.000000000000000,-5.0000000000000003E-02"),
        ("c1PE11.4", "1.0000E+00,-5.0000E-02"),
    ):
        form = parse_format(text)
        assert form.row([form.number(value) for value in row]) == line
    quoted = parse_format("QCSV")
    assert quoted.row([quoted.label("ID"), quoted.label("OMEGA(2,1)")]) == 'ID,"OMEGA(2,1)"'


def test_derivatives_to_eps_and_eta(tmp_path: Path) -> None:
    fit = fitted(tmp_path, "$TABLE ID G11 H11 D2 A NOAPPEND NOPRINT FILE=a")
    # the slope to eps is A, whose derivative to ETA(1) is A
    item = next(item for item in fit.model.tables[0].items if item.startswith("D2"))
    np.testing.assert_allclose(fit.table[item.split("=")[1]], fit.table["A"], rtol=1e-12)


def test_formats_that_are_none_are_named_before_a_run(tmp_path: Path) -> None:
    fit = fitted(tmp_path, '$TABLE ID NOPRINT FILE=a RFORMAT="(F8)"')
    assert "RFORMAT" in table_problems(fit.model)[0].message
