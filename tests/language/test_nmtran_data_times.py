"""Clock times, dates and units of time in the data file, as NM-TRAN turns them into relative times."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.nmtran.clock import day_number, hours, parse_translate
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import read_data, read_model

PRED = "$PRED Y=THETA(1)+ETA(1)+EPS(1)\n"
PREDPP = "$SUBROUTINES ADVAN1\n$PK\nK=THETA(1)*EXP(ETA(1))\n$ERROR Y=F+EPS(1)\n"


def data(folder: Path, content: str, inputs: str, options: str = "", code: str = PRED) -> DataSet:
    (folder / "data.csv").write_text(content)
    path = folder / "model.ctl"
    path.write_text(
        f"$PROBLEM p\n$INPUT {inputs}\n$DATA data.csv {options}\n{code}$THETA 1\n$OMEGA 1\n$SIGMA 1\n"
    )
    return read_data(read_model(path))


def problems(folder: Path, content: str, inputs: str, options: str = "", code: str = PRED) -> str:
    with pytest.raises(ProblemError) as caught:
        data(folder, content, inputs, options, code)
    return str(caught.value).replace(str(folder) + "/", "")


def test_clock_times_of_the_users_guide(tmp_path: Path) -> None:
    """NONMEM Users Guide IV, chapter II.C.2 lists the same records with clock and with relative times."""
    clock = "9:00 9:15 9:34 10:07 11:01 12:49 14:06 16:02 18:03 21:07 33:22".split()
    relative = [0, 0.25, 0.57, 1.12, 2.02, 3.82, 5.1, 7.03, 9.05, 12.12, 24.37]
    other = "8:00 8:16 8:31 9:00 9:55 11:30 13:01 15:02 17:00 20:00 32:18".split()
    second = [0, 0.27, 0.52, 1.0, 1.92, 3.5, 5.02, 7.03, 9.0, 12.0, 24.3]
    content = "\n".join([*(f"1 {t} 5" for t in clock), *(f"2 {t} 5" for t in other)])
    read = data(tmp_path, content, "ID TIME DV")
    assert read.event["TIME"].tolist() == [*relative, *second]
    assert read.values["TIME"].tolist() == [*relative, *second]


def test_times_without_colons_count_as_clock_times_where_one_has_one(tmp_path: Path) -> None:
    """The example of the TIME data item in the NONMEM help."""
    assert data(tmp_path, "1,8:00,1\n1,14:45,1\n1,14.75,1\n", "ID TIME DV").event["TIME"].tolist() == [
        0,
        6.75,
        6.75,
    ]
    assert data(tmp_path, "1,8,1\n1,14.75,1\n", "ID TIME DV").event["TIME"].tolist() == [8, 14.75]


@pytest.mark.parametrize("dropped", ["=DROP", "=SKIP"])
def test_dates_of_the_help(tmp_path: Path, dropped: str) -> None:
    """The example of the DATE data item in the NONMEM help."""
    content = "1,10-1-86,9:15,1\n1,10-1-86,14:40,1\n1,10-2-86,8:30,1\n2,10-12,8,1\n2,10-14,10,1\n"
    read = data(tmp_path, content, f"ID DATE{dropped} TIME DV")
    assert read.event["TIME"].tolist() == [0, 5.42, 23.25, 0, 50]
    assert "DATE" not in read.values


@pytest.mark.parametrize(
    ("label", "first", "second"),
    [
        ("DATE", "2/28/2000", "3/1/2000"),
        ("DAT1", "28.02.2000", "01.03.2000"),
        ("DAT2", "2000-02-28", "2000-03-01"),
        ("DAT3", "00/28/2", "00/1/3"),
        ("DATE", "02-28-4", "03-01-4"),
    ],
)
def test_orders_of_dates(tmp_path: Path, label: str, first: str, second: str) -> None:
    read = data(tmp_path, f"1,{first},12:00,1\n1,{second},12:00,1\n", f"ID {label}=DROP TIME DV")
    assert read.event["TIME"].tolist() == [0, 48]  # by way of 29 February


def test_days_alone_are_whole_numbers(tmp_path: Path) -> None:
    read = data(tmp_path, "1,-1,8,1\n1,2,9:30,1\n1,40,8,1\n", "ID DATE TIME DV")
    assert read.event["TIME"].tolist() == [0, 73.5, 984]
    assert read.values["DATE"].tolist() == [-1, 2, 40]


def test_century_of_short_years() -> None:
    assert day_number("1/1/50", "mdy", 50) == day_number("1/1/2050", "mdy", 50)
    assert day_number("1/1/51", "mdy", 50) == day_number("1/1/1951", "mdy", 50)
    assert day_number("1/1/30", "mdy", -1) == day_number("1/1/1930", "mdy", -1)
    assert day_number("3/1", "mdy", 50) == 1 + (day_number("2/28", "mdy", 50) or 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8:30", 8.5),
        ("8:45:36", 8.76),
        ("-1:30", -1.5),
        ("33:15", 33.25),
        ("7", 7.0),
        ("1.5D1", 15.0),
        ("8:60", None),
        ("8:", None),
        ("a:10", None),
        ("1:2:3:4", None),
    ],
)
def test_hours(text: str, value: float | None) -> None:
    assert hours(text) == (None if value is None else pytest.approx(value, abs=1e-12))


def test_resets_restart_clock_times(tmp_path: Path) -> None:
    content = "1,8:00,1,100,0\n1,9:30,0,0,1\n1,7:00,4,100,0\n1,7:30,0,0,1\n1,6:00,3,0,0\n1,8:15,0,0,1\n"
    read = data(tmp_path, content, "ID TIME EVID AMT DV", code=PREDPP)
    assert read.event["TIME"].tolist() == [0, 1.5, 0, 0.5, 0, 2.25]
    plain = content.replace(":00", "").replace(":30", ".5").replace(":15", ".25")
    read = data(tmp_path, plain, "ID TIME EVID AMT DV", code=PREDPP)
    assert read.event["TIME"].tolist() == [8, 9.5, 7, 7.5, 6, 8.25]


@pytest.mark.parametrize(
    ("option", "times"),
    [
        ("TRANSLATE=(TIME/1.0000)", [0, 1.25, 25.3667]),
        ("TRANSLATE=(TIME/24)", [0, 0.05, 1.06]),
        ("TRANSLATE=(TIME/24.000)", [0, 0.052, 1.057]),
        ("TRANSLATE (TIME/24/4,II/24)", [0, 0.0521, 1.0569]),
        ("TRANSLATE=(TIME/0.01/6)", [0, 125, 2536.666667]),
    ],
)
def test_units_of_time(tmp_path: Path, option: str, times: list[float]) -> None:
    read = data(tmp_path, "1,8:00,1\n1,9:15,1\n1,33:22,1\n", "ID TIME DV", option)
    assert read.event["TIME"] == pytest.approx(times, abs=1e-9)


def test_units_of_intervals(tmp_path: Path) -> None:
    content = "1,0,100,2,12:20,0\n1,40,0,0,0,5\n"
    read = data(tmp_path, content, "ID TIME AMT ADDL II DV", code=PREDPP)
    assert read.event["II"].tolist() == [12.33, 0]
    read = data(tmp_path, content, "ID TIME AMT ADDL II DV", "TRANSLATE=(II/24/3)", PREDPP)
    assert read.event["II"].tolist() == [0.514, 0]
    assert read.event["TIME"].tolist() == [0, 40]


def test_translation_words() -> None:
    assert parse_translate("TIME/24,II/24.00/5") == {"TIME": (24.0, 2), "II": (24.0, 5)}
    for wrong in ("", "DV/24", "TIME", "TIME/0", "TIME/x", "TIME/24/30", "TIME/24/1/1"):
        assert parse_translate(wrong) is None


def test_places_of_bad_times(tmp_path: Path) -> None:
    assert "data.csv:2:3: error: '8:7x' in column TIME is no number" in problems(
        tmp_path, "1,8:00,1\n1,8:7x,1\n", "ID TIME DV"
    )
    text = problems(tmp_path, "1,30-2-86,8,1\n1,.,8,1\n", "ID DAT1=DROP TIME DV")
    assert "data.csv:1:3: error: '30-2-86' is no date" in text
    assert "hint: DAT1 is day month year" in text
    assert "data.csv:2:3: error: '.' is no date" in text
    text = problems(tmp_path, "1,3/2/86,8,1\n", "ID DAT1 TIME DV")
    assert "data.csv:1:3: error: '3/2/86' in column DAT1 is no number" in text
    assert "DAT1=DROP" in text
    text = problems(tmp_path, "1,10:00,1\n1,9:00,1\n", "ID TIME DV", code=PREDPP)
    assert "TIME -1 is before the record above (0)" in text


@settings(max_examples=50, deadline=None)
@given(
    start=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1)),
    minutes=st.lists(st.integers(0, 100_000), min_size=1, max_size=6),
    form=st.sampled_from(
        [("DATE", "%m/%d/%Y"), ("DAT1", "%d-%m-%y"), ("DAT2", "%Y.%m.%d"), ("DAT3", "%y/%d/%m")]
    ),
)
def test_relative_times_agree_with_the_calendar(
    tmp_path_factory: pytest.TempPathFactory, start: datetime, minutes: list[int], form: tuple[str, str]
) -> None:
    start = start.replace(second=0, microsecond=0)
    moments = [start + timedelta(minutes=m) for m in sorted(minutes)]
    content = "\n".join(f"1,{t.strftime(form[1])},{t.strftime('%H:%M')},1" for t in moments)
    read = data(tmp_path_factory.mktemp("dates"), content, f"ID {form[0]}=DROP TIME DV")
    expected = [round((t - moments[0]).total_seconds() / 3600, 2) for t in moments]
    np.testing.assert_allclose(read.event["TIME"], expected, atol=1e-9)
