"""Events: what NM-TRAN and PREDPP make of the items of a record."""

from __future__ import annotations

from pathlib import Path

import pytest

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import read_data, read_model, read_models

PREDPP = "$SUBROUTINES ADVAN2\n$PK\nKA=THETA(1)*EXP(ETA(1))\nK=1\n$ERROR Y=F+EPS(1)\n"
PRED = "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"


def data(folder: Path, content: str, inputs: str, options: str = "", code: str = PREDPP) -> DataSet:
    (folder / "data.csv").write_text(content)
    path = folder / "model.ctl"
    path.write_text(
        f"$PROBLEM p\n$INPUT {inputs}\n$DATA data.csv {options}\n{code}$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    return read_data(read_model(path))


def problems(folder: Path, content: str, inputs: str, code: str = PREDPP) -> str:
    with pytest.raises(ProblemError) as caught:
        data(folder, content, inputs, code=code)
    return str(caught.value).replace(str(folder) + "/", "")


@pytest.mark.parametrize("item", ["AMT", "RATE", "II", "ADDL", "SS"])
def test_any_dose_item_makes_a_dose(tmp_path: Path, item: str) -> None:
    read = data(tmp_path, "1,0,1,0\n1,1,0,5\n", f"ID TIME {item} DV")
    assert read.event["EVID"].tolist() == [1, 0]
    assert read.event["MDV"].tolist() == [1, 0]


@pytest.mark.parametrize(
    ("mdv", "evid"), [("0", 0), ("1", 2), ("100", 0), ("101", 2)], ids=["0", "1", "100", "101"]
)
def test_missing_observations_are_other_events(tmp_path: Path, mdv: str, evid: int) -> None:
    """The EVID data item in the NONMEM help: MDV of 1 or 101 without a dose gives EVID 2.

    100 is not there for estimation; for all else it is 0.
    """
    read = data(tmp_path, f"1,0,0,0,5\n1,1,{mdv},0,5\n", "ID TIME MDV AMT DV")
    assert read.event["EVID"].tolist() == [0, evid]
    assert read.values["MDV"].tolist() == [0, float(mdv) % 100]
    assert read.n_observations == 1 + (mdv == "0")
    assert read.for_tables().n_observations == 1 + (mdv in ("0", "100"))


def test_numbers_of_the_output_compartment(tmp_path: Path) -> None:
    content = "1,0,1,100,1,1000,0\n1,1,2,0,100,0,0\n1,2,0,0,-3,0,5\n1,3,0,0,2,0,6\n1,4,2,0,-1000,0,0\n"
    read = data(tmp_path, content, "ID TIME EVID AMT CMT PCMT DV")
    assert read.event["CMT"].tolist() == [1, 3, -3, 2, -3]
    assert read.event["PCMT"].tolist() == [3, 0, 0, 0, 0]
    assert read.values["CMT"].tolist() == [1, 100, -3, 2, -1000]


def test_optional_items_are_events_only_where_there(tmp_path: Path) -> None:
    read = data(tmp_path, "1,0,1,3,5\n1,0,2,0,6\n", "ID TIME L2 CALL DV")
    assert read.event["L2"].tolist() == [1, 2]
    assert read.event["CALL"].tolist() == [3, 0]
    assert not {"PCMT", "CONT"} & read.event.keys()


def test_continued_records_do_nothing(tmp_path: Path) -> None:
    content = "1,9,5,1,0\n1,0,100,0,0\n1,9,7,1,0\n1,2,0,0,5\n2,1,0,0,4\n"
    read = data(tmp_path, content, "ID TIME AMT CONT DV")
    assert read.event["TIME"].tolist() == [0, 0, 0, 2, 1]
    assert read.event["EVID"].tolist() == [2, 1, 2, 0, 0]
    assert read.event["AMT"].tolist() == [0, 100, 0, 0, 0]
    assert read.values["AMT"].tolist() == [5, 100, 7, 0, 0]


def test_l1_is_the_identification(tmp_path: Path) -> None:
    read = data(tmp_path, "7,1,5\n7,1,6\n7,2,5\n", "ID L1 DV", code=PRED)
    assert read.ids.tolist() == [1, 2]
    assert data(tmp_path, "7,1,5\n7,1,6\n", "ID=L1 X DV", code=PRED).n_subjects == 1


def test_data_without_id_are_those_of_one_subject(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,5\n2,6\n")
    text = "$PROBLEM p\n$INPUT X DV\n$DATA d.csv\n$PRED Y=THETA(1)+ETA(1)\n$THETA 1\n$OMEGA 1\n"
    (tmp_path / "m.ctl").write_text(text)
    model = read_model(tmp_path / "m.ctl")
    assert any("no ID" in notice.message for notice in model.notices)
    assert read_data(model).n_subjects == 1


@pytest.mark.parametrize(
    ("content", "inputs", "expected"),
    [
        (
            "1,0,100,0,1\n1,1,0,0,1\n",
            "ID TIME AMT EVID DV",
            "1:5: error: AMT 100 on a record that gives no dose",
        ),
        (
            "1,0,-1,2,1\n1,1,0,0,1\n",
            "ID TIME RATE EVID DV",
            "1:5: error: RATE -1 on a record that gives no dose",
        ),
        ("1,0,1,1,5\n1,1,0,0,1\n", "ID TIME PCMT EVID DV", ""),
        ("1,0,9,1,5\n1,1,0,0,1\n", "ID TIME PCMT EVID DV", "1:5: error: there is no compartment 9"),
        ("1,0,9,3,5\n1,1,0,0,1\n", "ID TIME CMT EVID DV", ""),
        (
            "1,0,1,5\n1,1,0,1\n",
            "ID TIME RAW_ DV",
            "1:5: error: averages of the data (RAW_) are not supported",
        ),
        (
            "1,0,0,5\n1,1,2,1\n",
            "ID TIME MRG_ DV",
            "2:5: error: marginal expectations (MRG_) are not supported",
        ),
        (
            "1,0,0,5\n1,1,1,1\n",
            "ID TIME RPT_ DV",
            "2:5: error: repeated records (RPT_) are not supported",
        ),
        ("1,0,1,5,101\n1,1,0,1,0\n", "ID TIME AMT DV MDV", "1:9: error: a dose or reset that does not count"),
    ],
)
def test_records_that_mean_nothing(tmp_path: Path, content: str, inputs: str, expected: str) -> None:
    if expected:
        assert f"data.csv:{expected}" in problems(tmp_path, content, inputs)
    else:
        assert data(tmp_path, content, inputs).n_observations == 1


def test_later_problems_go_on_in_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("".join(f"{i},{10 * i}\n" for i in range(1, 8)))

    def values(*options: str) -> list[list[float]]:
        text = "".join(
            f"$PROBLEM p\n$INPUT ID DV\n$DATA d.csv {o}\n"
            + (PRED if i == 0 else "")
            + "$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
            for i, o in enumerate(options)
        )
        (tmp_path / "m.ctl").write_text(text)
        return [read_data(model).values["DV"].tolist() for model in read_models(tmp_path / "m.ctl")]

    assert values("RECORDS=2", "RECORDS=3", "NOREWIND") == [[10, 20], [30, 40, 50], [60, 70]]
    assert values("RECORDS=2", "REWIND") == [[10, 20], [10, 20, 30, 40, 50, 60, 70]]
    assert values("", "RECORDS=1") == [[10, 20, 30, 40, 50, 60, 70], [10]]
    with pytest.raises(ProblemError, match="RECORDS=label"):
        values("RECORDS=ID", "")
