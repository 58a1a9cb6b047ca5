"""Subjects, observations and records: those that NONMEM reported for the same control stream and data."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from elbomix.engine.ir.dataset import DataSet
from elbomix.parsers.read import read_data, read_models


def _streams(folder: Path) -> list[tuple[Path, Path]]:
    """Return control streams (the author's and the one that was run) and data of all cases."""
    found = []
    for path in sorted(folder.glob("*/case.json")):
        case = json.loads(path.read_text())
        for name in dict.fromkeys((case["control"], case.get("control_as_run"))):
            if name and case.get("data") and (path.parent / name).exists():
                found.append((path.parent / name, path.parent / case["data"]))
    return found


def _counts(data: DataSet) -> tuple[int, int, int]:
    return data.n_subjects, data.n_observations, data.n_records


def test_counts_of_every_case(shared: Path) -> None:
    """No exceptions: every case's data are read by the author's stream and by the one that was run."""
    streams = _streams(shared / "corpus" / "nonmem")
    differences = []
    for control, path in streams:
        case = json.loads((control.parent / "case.json").read_text())
        expected = (case["n_subjects"], case["n_obs"], case["n_records"])
        found = _counts(read_data(read_models(control)[0], path))
        if found != expected:
            differences.append((control.parent.name, control.name, found, expected))
    assert differences == []
    assert len(streams) >= 78


_PRINTED = ("TOT. NO. OF INDIVIDUALS", "TOT. NO. OF OBS RECS", "NO. OF DATA RECS IN DATA SET")


def test_counts_of_simulated_runs(shared: Path) -> None:
    """The runs over the data sets of nlmixr2data: the counts are those that NONMEM printed."""
    folder = shared / "corpus" / "nlmixr2data"
    by_name = {path.name.lower(): path for path in folder.rglob("*.csv")}
    checked = 0
    for control in sorted((folder / "nonmem-runs").rglob("*.ctl")):
        (report,) = control.parent.glob("*.lst")
        text = report.read_text(errors="replace")
        printed = [re.search(rf"{re.escape(words)}:\s+(\d+)", text) for words in _PRINTED]
        expected = tuple(int(match.group(1)) for match in printed if match is not None)
        model = read_models(control)[0]
        data = read_data(model, by_name[Path(model.inputs.file).name.lower()])
        assert _counts(data) == expected, control
        checked += 1
    assert checked >= 20


@pytest.mark.parametrize("case", ["ddmore-298-sultiame"])
def test_clock_times_with_dates_increase(shared: Path, case: str) -> None:
    """A case with dates and clock times: relative times begin at 0 and agree with the calendar."""
    folder = shared / "corpus" / "nonmem" / case
    if not folder.exists():
        pytest.skip("the case is not there")
    control, path = next((c, d) for c, d in _streams(folder.parent) if c.parent == folder)
    data = read_data(read_models(control)[0], path)
    lines = path.read_text().splitlines()
    # 12.02.2018 07:55 (a reset) and 08:25 are the first two records
    assert lines[1].split(",")[2:4] == ["12.02.2018", "07:55"]
    assert data.event["TIME"][:2].tolist() == [0, 0.5]
    assert (data.event["TIME"] >= 0).all()
