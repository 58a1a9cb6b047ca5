"""The shipped data against every other source of the same figures, and the shipped models' reading."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "theophylline"


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    with (EXAMPLE / "theophylline.csv").open(encoding="ascii", newline="") as file:
        return list(csv.DictReader(file))


def test_every_subject_has_a_sample_before_the_dose_a_dose_and_ten_observations(
    records: list[dict[str, str]],
) -> None:
    assert list(records[0]) == ["ID", "TIME", "AMT", "DV", "EVID", "MDV", "WT", "SEX"]
    for subject in range(1, 13):
        own = [r for r in records if r["ID"] == str(subject)]
        assert [(r["EVID"], r["MDV"]) for r in own] == [("2", "1"), ("1", "1"), *[("0", "0")] * 10]
        times = [float(r["TIME"]) for r in own]
        assert times[:2] == [0, 0] and times == sorted(times)
        assert len({(r["WT"], r["SEX"]) for r in own}) == 1
    assert len(records) == 144


def test_observations_covariates_and_doses_are_those_of_the_papers_data(
    records: list[dict[str, str]], shared: Path
) -> None:
    ours = [r for r in records if r["EVID"] == "0"]
    doses = {r["ID"]: float(r["AMT"]) for r in records if r["EVID"] == "1"}
    with (shared / "corpus" / "vae_nlme" / "theophylline_data.tab").open() as file:
        theirs = list(csv.DictReader(file, delimiter=" "))
    assert len(ours) == len(theirs) == 120
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["ID"] == other["Id"]
        for name, column in (("TIME", "Time"), ("DV", "Concentration"), ("WT", "Weight"), ("SEX", "Sex")):
            assert float(mine[name]) == float(other[column])
        # their doses are printed with six significant digits
        assert doses[mine["ID"]] == pytest.approx(float(other["Dose"]), abs=5e-4)


def test_all_samples_and_doses_are_those_of_the_nonmem_distribution(
    records: list[dict[str, str]], shared: Path
) -> None:
    rows = (shared / "corpus" / "nonmem" / "theo-fo-control5" / "THEOPP").read_text().splitlines()
    doses: dict[int, tuple[float, float]] = {}
    samples: list[tuple[int, float, float]] = []
    for row in rows:
        fields = row.split()
        if not fields:
            continue
        subject = int(fields[0])
        if fields[1] != ".":
            doses[subject] = (float(fields[1]), float(fields[4]))
        else:
            samples.append((subject, float(fields[2]), float(fields[3])))
    assert [(int(r["ID"]), float(r["TIME"]), float(r["DV"])) for r in records if r["EVID"] != "1"] == samples
    for record in records:
        if record["EVID"] == "1":
            per_kg, weight = doses[int(record["ID"])]
            assert float(record["WT"]) == weight
            assert float(record["AMT"]) == pytest.approx(per_kg * weight, rel=1e-12)


def test_reference_weight_of_the_readme_is_the_mean_over_subjects(records: list[dict[str, str]]) -> None:
    weights = {r["ID"]: float(r["WT"]) for r in records}
    stated = re.search(r"mean \(([\d.]+) kg\)", (EXAMPLE / "README.md").read_text(encoding="utf-8"))
    assert stated is not None
    assert float(stated[1]) == pytest.approx(sum(weights.values()) / 12, abs=0.005)


@pytest.mark.parametrize("name", ["theophylline.ctl", "theophylline_ode.ctl"])
def test_control_streams_read_without_problems(name: str) -> None:
    from elbomix.parsers.read import read_data, read_model

    model = read_model(EXAMPLE / name)
    data = read_data(model)
    assert (data.n_subjects, data.n_observations, data.n_records) == (12, 120, 144)
    assert [t.initial for t in model.thetas] == [1.5, 0.1, 30]
    assert [t.label for t in model.thetas] == ["KA (1/h)", "K (1/h)", "V (L)"]
    assert (model.n_etas, model.n_eps) == (3, 1)
    assert [t.file for t in model.tables] != [None, None]
