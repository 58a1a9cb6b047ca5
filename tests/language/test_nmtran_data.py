"""The data file, by the rules of NM-TRAN."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import parse_model, read_data, read_model

PRED = "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"
PREDPP = "$SUBROUTINES ADVAN2\n$PK\nKA=THETA(1)*EXP(ETA(1))\nK=1\n$ERROR Y=F+EPS(1)\n"


def data(
    folder: Path, content: str | bytes, inputs: str = "ID DV X", options: str = "", code: str = PRED
) -> DataSet:
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / "data.csv").write_bytes(raw)
    path = folder / "model.ctl"
    path.write_text(
        f"$PROBLEM p\n$INPUT {inputs}\n$DATA data.csv {options}\n{code}$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    return read_data(read_model(path))


def problems(folder: Path, content: str, **words: str) -> str:
    with pytest.raises(ProblemError) as caught:
        data(folder, content, **words)
    return str(caught.value).replace(str(folder) + "/", "")


@pytest.mark.parametrize(
    "content",
    [
        "1,2.5,3\n1,4,5\n2,6,7\n",
        "1 2.5 3\n1 4 5\n2 6 7\n",
        "  1   2.5   3  \n 1 4 5\n2 6 7\n",
        "1\t2.5\t3\n1\t4\t5\n2\t6\t7\n",
        "1 , 2.5, 3\n1 ,4 ,5\n2,6,7",
        "1,2.5,3\r\n1,4,5\r\n2,6,7\r\n",
        "\ufeff1,2.5,3\n1,4,5\n\n2,6,7\n   \n",
        "1,2.5,3,extra\n1,4,5,9,9\n2,6,7,text\n",
        "1,25-1,3\n1,.4E1,5\n2,6D0,7.\n",
        "# a comment, by default\n1,2.5,3\n1,4,5\n#\n2,6,7\n",
    ],
)
def test_the_same_records_in_many_layouts(tmp_path: Path, content: str) -> None:
    read = data(tmp_path, content)
    assert read.values["ID"].tolist() == [1, 1, 2]
    assert read.values["DV"].tolist() == [2.5, 4, 6]
    assert read.values["X"].tolist() == [3, 5, 7]
    assert (read.n_subjects, read.n_observations, read.n_records) == (2, 3, 3)
    assert read.ids.tolist() == [1, 2]
    assert read.subject.tolist() == [0, 0, 1]


def test_missing_fields_are_null_and_marked(tmp_path: Path) -> None:
    read = data(tmp_path, "1,.,3\n1,,.\n2,6, \n2,-99,+\n", options="MISDAT=-99 MISDAT=-98")
    assert read.values["DV"].tolist() == [0, 0, 6, 0]
    assert read.missing["DV"].tolist() == [True, True, False, True]
    assert read.values["X"].tolist() == [3, 0, 0, 0]
    assert read.missing["X"].tolist() == [False, True, True, False]
    for option in ("NULL=7", "NULL='7'", 'NULL "7"', "NULL 7"):
        assert data(tmp_path, "1,.,3\n", options=option).values["DV"].tolist() == [7]
    assert data(tmp_path, "1,.,3\n", options="NULL=.").values["DV"].tolist() == [0]


def test_codes_of_missing_values_are_for_tables(tmp_path: Path) -> None:
    """The model reads 0 where a field has the value of MISDAT, tables show it (NONMEM's help on $DATA)."""
    read = data(tmp_path, "1,5,-99.0\n1,-98,.\n2,6,2\n", options="MISDAT=-99 MISDAT=-98")
    assert read.values["X"].tolist() == [0, 0, 2] and read.values["DV"].tolist() == [5, 0, 6]
    assert {name: shown.tolist() for name, shown in read.shown.items()} == {
        "X": [-99, 0, 2],
        "DV": [5, -98, 6],
    }


def test_dropped_columns_may_hold_anything(tmp_path: Path) -> None:
    read = data(tmp_path, "alpha,1,2.5,?\nbeta,1,3,\n", inputs="NAME=DROP ID DV DROP")
    assert sorted(read.values) == ["DV", "ID"]
    assert read.values["DV"].tolist() == [2.5, 3]


def test_a_change_of_id_starts_a_new_individual(tmp_path: Path) -> None:
    read = data(tmp_path, "1,1,0\n2,1,0\n1,1,0\n")
    assert read.ids.tolist() == [1, 2, 1]
    assert read.subject.tolist() == [0, 1, 2]


def test_another_comment_character_replaces_the_default(tmp_path: Path) -> None:
    """Lines that begin with '#' are data again."""
    text = problems(tmp_path, "CID,DV,X\n#1,9,9\n1,2,3\n", options="IGNORE=C")
    assert "data.csv:2:1: error: '#1' in column ID is no number" in text


def test_short_lines_end_with_missing_items(tmp_path: Path) -> None:
    """NM-TRAN takes a line that ends early as one whose other items are null."""
    read = data(tmp_path, "1,2,3\n1,5\n2\n", options="NULL=4")
    assert read.values["DV"].tolist() == [2, 5, 4]
    assert read.values["X"].tolist() == [3, 4, 4]
    assert read.missing["X"].tolist() == [False, True, True]


def test_blank_lines_are_records_only_where_asked(tmp_path: Path) -> None:
    content = "1,2,3\n\n1,5,6\n  \n\n"
    assert data(tmp_path, content).values["DV"].tolist() == [2, 5]
    read = data(tmp_path, content, options="BLANKOK")
    assert read.values["DV"].tolist() == [2, 0, 5]
    assert read.line.tolist() == [1, 2, 3]


def test_a_line_may_end_the_data(tmp_path: Path) -> None:
    assert data(tmp_path, "1,2,3\n1,4,5\n FIN \n1,6,7\n").values["DV"].tolist() == [2, 4]


def test_words_may_follow_without_equals(tmp_path: Path) -> None:
    content = "C,1,1\n1,2,3\n1,4,5\n1,6,7\n"
    read = data(tmp_path, content, options="IGNORE C RECORDS 2 LAST20 30 WIDE LRECL 80 NULL 0")
    assert read.values["DV"].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", [10, 20, 30, 40]),
        ("IGNORE=(DV.EQ.20)", [10, 30, 40]),
        ("IGNORE=(DV=20)", [10, 30, 40]),
        ("IGNORE=(DV==20,DV 30)", [10, 40]),
        ("IGNORE(DV.EQ.20)", [10, 30, 40]),
        ("IGNORE=(DV.NE.20)", [20]),
        ("IGNORE=(DV/=20)", [20]),
        ("IGNORE=(DV.GT.20)", [10, 20]),
        ("IGNORE=(DV>=20)", [10]),
        ("IGNORE=(DV.LT.20)", [20, 30, 40]),
        ("IGNORE=(DV<=20)", [30, 40]),
        ("IGNORE=(DV.EQ.20.0)", [10, 20, 30, 40]),  # texts differ
        ("IGNORE=(DV.EQN.20.0)", [10, 30, 40]),  # numbers do not
        ("IGNORE=(DV.NEN.2E1)", [20]),
        ("IGNORE=(X.EQN.2)", [10, 30, 40]),
        ("IGNORE=(X.EQ.2)", [10, 20, 30, 40]),
        ("IGNORE=(X.EQ.2.0)", [10, 30, 40]),
        ("IGNORE=(C.EQ.b)", [10, 30, 40]),
        ("IGNORE=(C='b')", [10, 30, 40]),
        ('IGNORE=(C="b",C.EQ.d)', [10, 30]),
        ("IGNORE=(DV.EQ.20) IGNORE=(DV.EQ.30)", [10, 40]),
        ("ACCEPT=(DV.EQ.20)", [20]),
        ("ACCEPT=(DV.EQ.20,DV.GT.35)", [20, 40]),
        ("ACCEPT(DV.GT.15) IGNORE=(C.EQ.b)", [30, 40]),
        ("RECORDS=3", [10, 20, 30]),
        ("RECORDS=ID", [10, 20]),
        ("NRECS=IR", [10, 20]),
        ("RECORDS=3 IGNORE=(DV.EQ.20)", [10, 30]),  # lines are counted before some are left out
        ("RECORDS=ID IGNORE(C.EQ.'a')", [20]),
        ("IGNORE=(M.EQN.0)", [10, 20]),  # a missing value compares as zero
        ("IGNORE=(M.EQ..)", [10, 20, 30]),
    ],
)
def test_ignore_and_accept(tmp_path: Path, options: str, expected: list[float]) -> None:
    content = "1,10,1,a,5\n1,20,2.0,b,5\n2,30,3,c,0\n2,40,4,d,.\n"
    read = data(tmp_path, content, inputs="ID DV X C=DROP M", options=options)
    assert read.values["DV"].tolist() == expected


@pytest.mark.parametrize(
    ("option", "lines"),
    [
        ("IGNORE=@", ["ID,DV,X", "  id,1,2", "@1,2,3", "é,1,2", "#ID,1,2"]),
        ("IGNORE=C", ["C,1,2", "CMT,1,2"]),
        ("IGNORE=#", ["#1,2,3"]),
        ("", ["#1,2,3"]),
    ],
)
def test_comment_lines_are_skipped(tmp_path: Path, option: str, lines: list[str]) -> None:
    content = "\n".join([*lines, "1,2,3", *lines, "1,4,5"]) + "\n"
    read = data(tmp_path, content, options=option)
    assert read.values["DV"].tolist() == [2, 4]
    assert read.line.tolist() == [len(lines) + 1, 2 * len(lines) + 2]


def test_events_are_derived_where_the_file_has_none(tmp_path: Path) -> None:
    content = "1,0,100,0\n1,1,0,5\n1,2,0,6\n2,0,0,1\n"
    read = data(tmp_path, content, inputs="ID TIME AMT DV", code=PREDPP)
    assert read.event["EVID"].tolist() == [1, 0, 0, 0]
    assert read.event["MDV"].tolist() == [1, 0, 0, 0]
    assert read.values["EVID"].tolist() == read.event["EVID"].tolist()
    assert read.n_observations == 3
    read = data(tmp_path, "1,0,100,0,0\n1,1,0,1,9\n1,2,0,0,6\n", inputs="ID TIME AMT MDV DV", code=PREDPP)
    assert read.event["EVID"].tolist() == [1, 2, 0]
    read = data(tmp_path, "1,0,1,9\n1,1,2,9\n1,2,0,6\n", inputs="ID TIME EVID DV", code=PREDPP)
    assert read.event["MDV"].tolist() == [1, 1, 0]
    for name in ("AMT", "RATE", "II", "ADDL", "SS", "CMT"):
        assert read.event[name].tolist() == [0, 0, 0]


def test_without_compartments_events_mean_nothing(tmp_path: Path) -> None:
    read = data(tmp_path, "1,5,1,100\n1,6,0,0\n2,7,0,.\n", inputs="ID DV EVID AMT")
    assert read.event["EVID"].tolist() == [0, 0, 0]
    assert read.values["EVID"].tolist() == [1, 0, 0]
    assert read.event["TIME"].tolist() == [0, 1, 0]
    assert read.n_observations == 3
    read = data(tmp_path, "1,5,1\n1,6,0\n", inputs="ID DV MDV")
    assert read.n_observations == 1


def test_data_option_names_another_file(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "d.csv").write_text("1,2,3\n")
    (tmp_path / "m.ctl").write_text(
        f"$PROBLEM p\n$INPUT ID DV X\n$DATA 'other/d.csv'\n{PRED}$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    model = read_model(tmp_path / "m.ctl")
    assert read_data(model).n_records == 1
    (tmp_path / "more.csv").write_text("1,2,3\n2,3,4\n")
    assert read_data(model, tmp_path / "more.csv").n_subjects == 2
    with pytest.raises(ProblemError, match="absent"):
        read_data(model, tmp_path / "absent.csv")
    (tmp_path / "other" / "d.csv").unlink()
    with pytest.raises(ProblemError) as caught:
        read_data(model)
    assert "m.ctl:3:7: error: cannot read the data file" in str(caught.value)
    assert "$DATA 'other/d.csv'" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words", "expected"),
    [
        (
            "1,2,3\n1,abc,3\n",
            {},
            "data.csv:2:3: error: 'abc' in column DV is no number\n    2 | 1,abc,3\n          ^^^",
        ),
        ("ID,DV,X\n1,2,3\n", {}, "data.csv:1:1: error: 'ID' in column ID is no number"),
        ("1 , 2 ,NA\n", {}, "data.csv:1:8: error: 'NA' in column X is no number"),
        ("1,2,3\n", {"options": "IGNORE=(DV.EQ.2)"}, "error: no record is left of the data"),
        ("", {}, "error: no record is left of the data"),
        ("1,2,1\n", {"inputs": "ID DV MDV"}, "error: the data hold no observation"),
        ("1,2,7\n", {"inputs": "ID DV MDV"}, "data.csv:1:5: error: MDV must be 0 or 1 (100 or 101), not 7"),
        (
            "1,0,0,1\n1,5,0,1\n1,4,0,1\n",
            {"inputs": "ID TIME AMT DV", "code": PREDPP},
            "data.csv:3:3: error: TIME 4 is before the record above (5) in subject 1",
        ),
        (
            "1,0,7,1\n1,5,0,1\n",
            {"inputs": "ID TIME EVID DV", "code": PREDPP},
            "data.csv:1:5: error: EVID must be 0 to 4, not 7",
        ),
        (
            "1,0,-3,1\n1,5,0,1\n",
            {"inputs": "ID TIME RATE DV", "code": PREDPP},
            "data.csv:1:5: error: RATE -3 is negative",
        ),
        (
            "1,0,5,1\n1,5,0,1\n",
            {"inputs": "ID TIME CMT DV", "code": PREDPP},
            "data.csv:1:5: error: there is no compartment 5",
        ),
        (
            "1,0,-100,1\n1,5,0,1\n",
            {"inputs": "ID TIME AMT DV", "code": PREDPP},
            "data.csv:1:5: error: AMT -100 is negative",
        ),
    ],
)
def test_bad_data(tmp_path: Path, content: str, words: dict[str, str], expected: str) -> None:
    assert expected in problems(tmp_path, content, **words)


def test_a_reset_lets_time_start_again(tmp_path: Path) -> None:
    content = "1,0,0,1\n1,5,0,1\n1,0,3,0\n1,1,0,1\n1,0,4,1\n"
    read = data(tmp_path, content, inputs="ID TIME EVID DV", code=PREDPP)
    assert read.n_records == 5


def test_problems_are_limited(tmp_path: Path) -> None:
    """A wrong file does not bury the reader: ten lines of each kind at most."""
    text = problems(tmp_path, "1,x,3\n" * 500)
    assert text.count("is no number") == 10


def test_large_files_are_read_fast(tmp_path: Path) -> None:
    """100 000 records take less than 3 s of a slow processor; 0.6 s on a usual one."""
    rows = "\n".join(f"{i // 10},{i % 10}.5,{i * 0.001:.4f},{70 + i % 30},1,0,0" for i in range(100_000))
    (tmp_path / "big.csv").write_text(rows)
    model = parse_model(
        f"$PROBLEM p\n$INPUT ID X DV WT A B C\n$DATA big.csv\n{PRED}$THETA 1\n$OMEGA 1\n$SIGMA 1\n",
        str(tmp_path / "m.ctl"),
    )
    start = time.process_time()
    read = read_data(model)
    assert time.process_time() - start < 3
    assert read.n_subjects == 10_000
    assert read.values["DV"][-1] == 99.999


_fields = st.one_of(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: f"{x:.6g}"),
    st.integers(-1000, 1000).map(str),
    st.sampled_from([".", "", "1D2", "1+2", "-.5"]),
)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(1, 3).map(str), _fields, _fields), min_size=1, max_size=8),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_comma_separated_fields_agree_with_a_plain_reading(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], end: str
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    read = data(folder, end.join(",".join(row) for row in rows) + end)

    def plain(text: str) -> float:
        special = {"": 0.0, ".": 0.0, "1D2": 100.0, "1+2": 100.0}
        return special[text] if text in special else float(text)

    expected = np.array([[plain(field) for field in row] for row in rows])
    assert np.array_equal(np.column_stack([read.values[n] for n in ("ID", "DV", "X")]), expected)
