"""Control streams that people wrote: read in time, or refused in words; counts as NONMEM reported them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from elbomix.engine.ir.show import show
from elbomix.parsers.problem import ProblemError
from elbomix.parsers.read import read_data, read_model

FOLDERS = ("nmtran-parse", "nonmem", "nlmixr2data/nonmem-runs")
SECONDS = 2.0  # for one file, on a slow machine


def _streams(shared: Path) -> list[Path]:
    files = [f for folder in FOLDERS for f in sorted((shared / "corpus" / folder).rglob("*"))]
    return [f for f in files if f.suffix.lower() in (".ctl", ".mod", ".con")]


def test_every_stream_gives_a_model_or_problems_with_places(shared: Path) -> None:
    models = 0
    files = _streams(shared)
    for path in files:
        start = time.process_time()
        try:
            model = read_model(path)
        except ProblemError as error:
            assert error.problems
            assert all(p.span is not None for p in error.problems), path
        else:
            models += 1
            assert show(model)
        assert time.process_time() - start < SECONDS, path
    assert len(files) >= 250
    assert models >= 100  # those that need no more than what is supported so far


def test_invalid_streams_are_refused(shared: Path) -> None:
    folder = shared / "corpus" / "nmtran-parse"
    for name in (
        "psn__modelfit_diagnose_lst_errors_psn.ctl",
        "ddmore__284_NIVO-PPKFinalModel-CPT.ctl",
    ):
        with pytest.raises(ProblemError):
            read_model(folder / name)


def test_counts_are_those_of_the_reference_program(shared: Path) -> None:
    """Subjects, observations and records of every case that becomes a model."""
    checked = 0
    for path in sorted((shared / "corpus" / "nonmem").glob("*/case.json")):
        case = json.loads(path.read_text())
        for name in {case["control"], case.get("control_as_run")} - {None}:
            control = path.parent / name
            if not control.exists() or not case.get("data"):
                continue
            try:
                model = read_model(control)
            except ProblemError:
                continue
            data = read_data(model, path.parent / case["data"])
            found = (data.n_subjects, data.n_observations, data.n_records)
            assert found == (case["n_subjects"], case["n_obs"], case["n_records"]), control
            checked += 1
    assert checked >= 30
