"""Data in fixed columns, read by the FORMAT specification of $DATA."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.nmtran.fixed_width import parse_format
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import read_data, read_model


def data(folder: Path, content: str, specification: str, options: str = "") -> DataSet:
    (folder / "data.txt").write_text(content)
    path = folder / "model.ctl"
    path.write_text(
        f"$PROBLEM p\n$INPUT ID DV X\n$DATA data.txt {specification} {options}\n"
        "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"
        "$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    return read_data(read_model(path))


@pytest.mark.parametrize(
    ("specification", "content"),
    [
        ("(F2.0,2F4.1)", " 1 2.5 3.0\n 1  40 500\n 2    -7.5\n"),
        ("(I2,2F4.1)", " 1 2.5 3.0\r\n 1  40 500\r\n 2    -7.5\r\n"),
        ("(1X,F2.0,F3.1,X,E4.2)", "x 1 25x 300\nx 1 40x50.0\nx 2   x-750\n"),
        ("(T5,F2.0,T1,2F2.0)", " 2 3 1\n 4 5 1\n 0-7 2\n"),
        ("(F2.0/2(F4.0,1X))", " 1\n 2.5  3.0\n 1\n   4  50.\n 2\n     -7.5\n"),
        ("(f2.0,2d6.1)", " 1 2.5D0 0.3E1\n 1  .4D1  50.0\n 2        -75\n"),
    ],
)
def test_fixed_columns(tmp_path: Path, specification: str, content: str) -> None:
    read = data(tmp_path, content, specification)
    expected = {"T5": ([2, 4, 0], [3, 5, -7])}.get(specification[1:3], ([2.5, 4, 0], [3, 50, -7.5]))
    assert read.values["ID"].tolist() == [1, 1, 2]
    assert (read.values["DV"].tolist(), read.values["X"].tolist()) == expected


def test_comments_and_conditions_hold_in_fixed_columns(tmp_path: Path) -> None:
    content = "C 1 1 1\n 1 2 3\n 1 4 5\nC\n 2 6 7\n\n\n"
    read = data(tmp_path, content, "(F2.0,2F2.0)", "IGNORE=C IGNORE=(DV.EQ.4)")
    assert read.values["DV"].tolist() == [2, 6]
    assert read.line.tolist() == [2, 5]


def test_places_in_fixed_columns(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"data.txt:4:3: error: 'ab' in column X is no number"):
        data(tmp_path, " 1\n 2 3\n 1\n 4ab\n", "(F2.0/2F2.0)")


NO_FORMATS = "() (F) (F0.0) (3Q2) (F2.0 F2.0) (F2.0)) (T0,F2.0) (9999999F2.0) ((((((((F1.0))))))))".split()


@pytest.mark.parametrize("wrong", [*NO_FORMATS, ""])
def test_no_format(wrong: str) -> None:
    assert parse_format(wrong) is None


@given(st.text("()0123456789FEXTI/,. ", max_size=30))
def test_a_format_is_read_or_refused(text: str) -> None:
    found = parse_format(text)
    assert found is None or all(field.stop > field.start >= 0 for field in found.fields)
