"""Layout of the other files: what readers match, and what NONMEM's own files look like."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.nonmem.lst import date_line
from elbomix.compat.nonmem.matrices import inverse_covariance
from elbomix.compat.nonmem.tables import table_problems, table_text, write_tables
from elbomix.compat.nonmem.write import write_nonmem
from elbomix.engine.estimate import Estimate
from elbomix.engine.fit import Fit
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.ir.parameter import CovarianceBlock
from elbomix.engine.ir.task import TableTask

NOW = datetime(2026, 3, 9, 13, 4, 5, tzinfo=UTC)
SHARED = Path(__file__).parents[2] / ".." / "shared" / "corpus" / "nonmem"


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    fit = selection_fit(tmp_path)
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    return fit


def test_every_file_is_written_and_no_temporary_one_is_left(fit: Fit, tmp_path: Path) -> None:
    suffixes = ("ext", "phi", "shk", "shm", "cov", "cor", "coi", "lst")
    expected = {f"run001.{s}" for s in suffixes} | {"sdtab001", "patab001", "run001.mod", "theo.csv"}
    assert {p.name for p in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("suffix", ["phi", "shk", "shm", "cov", "cor", "coi"])
def test_first_line_starts_in_column_one(fit: Fit, tmp_path: Path, suffix: str) -> None:
    first = (tmp_path / f"run001.{suffix}").read_text().splitlines()[0]
    assert re.fullmatch(r"TABLE NO\. {5}1: Variational [\w ]+: Problem=1 Subproblem=0 .* Iteration2=0", first)


def test_widths(fit: Fit, tmp_path: Path) -> None:
    phi = (tmp_path / "run001.phi").read_text().splitlines()
    assert phi[1].startswith(
        " SUBJECT_NO   ID           ETA(1)       ETA(2)       ETA(3)       ETC(1,1)     ETC(2,1)"
    )
    assert phi[1].endswith("ETC(3,3)     OBJ")
    assert {len(line) for line in phi[2:]} == {13 * 11 + 22}
    cov = (tmp_path / "run001.cov").read_text().splitlines()
    assert cov[1].startswith(" NAME         THETA1       THETA2 ")
    assert {len(line) for line in cov[2:]} == {13 * 14}
    assert cov[2].startswith(" THETA1       ")
    shk = (tmp_path / "run001.shk").read_text().splitlines()
    assert shk[1] == "TYPE          SUBPOP       ETA(1)       ETA(2)       ETA(3)"
    assert [int(line.split()[0]) for line in shk[2:]] == list(range(1, 11))
    assert shk[6].split()[2:] == ["1.20000E+01", "0.00000E+00", "0.00000E+00"]
    shm = (tmp_path / "run001.shm").read_text().splitlines()
    assert shm[1] == " SUBJECT_NO   ID           SUBPOP       PMIX         ETS(1)    ETS(2)    ETS(3)"


@pytest.mark.parametrize(("suffix", "case"), [("phi", 0), ("shk", 0), ("cov", 0), ("cor", 0)])
def test_label_lines_stand_where_those_of_nonmem_stand(
    fit: Fit, tmp_path: Path, suffix: str, case: int
) -> None:
    real = SHARED / "xpose-mx19-run001" / f"run001.{suffix}"
    if not real.is_file():
        pytest.skip("no corpus of NONMEM runs beside the repository")
    theirs = real.read_text().splitlines()[1]
    ours = (tmp_path / f"run001.{suffix}").read_text().splitlines()[1]

    def starts(line: str) -> list[int]:
        return [m.start() for m in re.finditer(r"\S+", line)]

    common = min(len(starts(ours)), len(starts(theirs)))
    assert starts(ours)[:common] == starts(theirs)[:common]


def test_fixed_parameters_are_zero_rows_and_cor_has_errors_on_its_diagonal(fit: Fit, tmp_path: Path) -> None:
    def read(suffix: str) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        lines = (tmp_path / f"run001.{suffix}").read_text().splitlines()[2:]
        return np.array([[float(t) for t in line.split()[1:]] for line in lines])

    assert fit.uncertainty is not None
    cov, cor, coi = read("cov"), read("cor"), read("coi")
    free = np.isfinite(fit.uncertainty.se)
    for matrix in (cov, cor, coi):
        assert not matrix[~free].any()
        assert not matrix[:, ~free].any()
        assert matrix == pytest.approx(matrix.T)
    assert np.diag(cor)[free] == pytest.approx(fit.uncertainty.se[free], rel=5e-6)
    product = fit.uncertainty.covariance @ inverse_covariance_of(fit)
    assert product[np.ix_(free, free)] == pytest.approx(np.eye(free.sum()), abs=1e-8)


def inverse_covariance_of(fit: Fit) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    assert fit.uncertainty is not None
    inverse = inverse_covariance(fit, fit.uncertainty)
    assert inverse is not None
    return inverse


def test_singular_covariance_has_no_inverse_file(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    assert fit.uncertainty is not None
    covariance = fit.uncertainty.covariance.copy()
    covariance[:2, :2] = 1.0
    covariance[:2, 2:] = covariance[2:, :2] = 0.0
    fit = replace(fit, uncertainty=replace(fit.uncertainty, covariance=covariance))
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    assert (tmp_path / "run001.cov").exists()
    assert not (tmp_path / "run001.coi").exists()


def test_subject_without_observations_has_zeros(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    data: DataSet = fit.data
    hidden = {**data.event, "MDV": np.where(data.subject == 2, 1.0, data.event["MDV"])}
    fit = replace(fit, data=replace(data, event=hidden))
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    row = (tmp_path / "run001.phi").read_text().splitlines()[4].split()
    assert row[:2] == ["3", "103"]
    assert {float(v) for v in row[2:]} == {0.0}
    assert (tmp_path / "run001.shm").read_text().splitlines()[4].split()[4:] == ["1", "1", "1"]


def task(**changes: object) -> TableTask:
    base = TableTask(("ID", "TIME", "DV"), "tab", headers="once", appended=False)
    return replace(base, **changes)  # type: ignore[arg-type]


def test_table_head_and_equal_lengths(fit: Fit, tmp_path: Path) -> None:
    lines = (tmp_path / "sdtab001").read_text().splitlines()
    assert lines[0].rstrip() == "TABLE NO.  1"
    assert lines[1].startswith(" ID          TIME        DV ")
    assert lines[1].split()[-4:] == ["DV", "PRED", "RES", "WRES"]
    assert lines[2].startswith("  1.0100E+02  0.0000E+00")
    assert re.search(r"\d+E[+-]\d+", lines[2])  # without which xpose drops the table
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 2 + fit.data.n_records
    first_only = (tmp_path / "patab001").read_text().splitlines()
    assert first_only[0].rstrip() == "TABLE NO.  2"
    assert len(first_only) == 2 + fit.data.n_subjects


@pytest.mark.parametrize(
    ("changes", "title", "labels", "rows"),
    [
        ({}, 1, 1, 132),
        ({"title": False}, 0, 1, 132),
        ({"labels": False}, 1, 0, 132),
        ({"headers": "none"}, 0, 0, 132),
        ({"rows": "last"}, 1, 1, 12),
        ({"rows": "first_last"}, 1, 1, 24),
    ],
)
def test_table_forms(fit: Fit, changes: dict[str, object], title: int, labels: int, rows: int) -> None:
    lines = table_text(fit, task(**changes), 3).splitlines()
    assert sum(line.startswith("TABLE NO.  3") for line in lines) == title
    assert sum(line.startswith(" ID") for line in lines) == labels
    assert len(lines) == title + labels + rows


def test_first_and_last_records(fit: Fit) -> None:
    first = table_text(fit, task(rows="first", headers="none"), 1).splitlines()
    last = table_text(fit, task(rows="last", headers="none"), 1).splitlines()
    assert {float(line.split()[1]) for line in first} == {0.0}
    assert {float(line.split()[1]) for line in last} == {24.0}


def test_headers_repeat_every_900_records(fit: Fit) -> None:
    table = fit.table.loc[np.repeat(fit.table.index, 15)].reset_index(drop=True)
    long = replace(fit, table=table, data=replace(fit.data, subject=np.repeat(fit.data.subject, 15)))
    lines = table_text(long, task(headers="repeat"), 1).splitlines()
    assert [k for k, line in enumerate(lines) if line.startswith("TABLE NO.")] == [0, 902, 1804]
    assert len(lines) == 1980 + 6


def test_comma_format_and_long_labels(fit: Fit) -> None:
    fit.table["A_VERY_LONG_NAME_INDEED"] = 1.0
    items = ("ID", "A_VERY_LONG_NAME_INDEED", "ETA(1)")
    lines = table_text(fit, task(items=items, format=",1PE23.16"), 1).splitlines()
    assert [label.strip() for label in lines[1].split(",")] == ["ID", "A_VERY_LONG_NAME_IND", "ETA(1)"]
    assert float(lines[2].split(",")[2]) == fit.table["ETA1"].iloc[0]


def test_missing_values_print_as_zero(fit: Fit) -> None:
    fit.table.loc[0, "DV"] = np.nan
    assert table_text(fit, task(headers="none"), 1).splitlines()[0].split()[2] == "0.0000E+00"


def test_tables_that_share_a_file_follow_one_another(fit: Fit, tmp_path: Path) -> None:
    model = fit.model.replace(tables=(task(file="both"), task(file="both", rows="first")))
    assert write_tables(replace(fit, model=model), tmp_path) == [tmp_path / "both"]
    assert len((tmp_path / "both").read_text().splitlines()) == 2 + 132 + 2 + 12


def test_unknown_item_and_wrong_format(fit: Fit) -> None:
    with pytest.raises(KeyError, match="NPDE"):
        table_text(fit, task(items=("ID", "NPDE")), 1)
    assert table_problems(fit.model) == []
    wrong = fit.model.replace(tables=(task(format="s1PX9"),))
    assert "s1PX9" in table_problems(wrong)[0].message


def test_report_lines_that_readers_match(fit: Fit, tmp_path: Path) -> None:
    text = (tmp_path / "run001.lst").read_text()
    assert "\n#" not in text
    patterns = [
        r"\A\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d UTC 2026\n\$PROBLEM",
        r"^NM-TRAN MESSAGES",
        r"^1NONLINEAR MIXED EFFECTS MODEL PROGRAM \(NONMEM\) VERSION 7\.\d\.\d",
        r"WRITTEN BY ELBOMIX",
        r"^ PROBLEM NO\.:\s+1\s*$",
        r"^ NO\. OF DATA RECS IN DATA SET:      132$",
        r"^ TOT\. NO\. OF OBS RECS:      120$",
        r"^ TOT\. NO\. OF INDIVIDUALS:       12$",
        r"^ #TBLN:      1\n #METH: Variational Autoencoder with Importance Sampling Objective\n",
        r"^ iteration +0  OBJ= ",
        r"^ #TERM:\n OPTIMIZATION WAS COMPLETED\n",
        r"^ ETABAR:        [ -]\d\.\d{4}E[+-]\d\d",
        r"^ ETASHRINKSD\(%\)(  \d\.\d{4}E[+-]\d\d){3}",
        r"^ #TERE:\n Elapsed estimation  time in seconds: +3\.75\n",
        r"^ Elapsed covariance  time in seconds: +0\.75\n",
        r"^ #OBJT:\*+ +FINAL VALUE OF OBJECTIVE FUNCTION +\*+$",
        r"^ #OBJV:\*{44} +-?\d+\.\d{3} {7}\*{50}$",
        r"^ THETA - VECTOR OF FIXED EFFECTS PARAMETERS   \*{9}$",
        r"EIGENVALUES OF COR MATRIX OF ESTIMATE",
        r"^ #CPUT: Total CPU Time in Seconds, +\d+\.\d{3}\nStop Time:\n\w{3} .*2026\n\Z",
    ]
    for pattern in patterns:
        assert re.search(pattern, text, re.MULTILINE), pattern


def test_objective_stands_nine_lines_below_its_title(fit: Fit, tmp_path: Path) -> None:
    lines = (tmp_path / "run001.lst").read_text().splitlines()
    title = next(k for k, line in enumerate(lines) if line.startswith(" #OBJT:"))
    assert lines[title + 9].startswith(" #OBJV:")


def test_report_has_three_digit_estimates_and_dots_for_fixed_ones(fit: Fit, tmp_path: Path) -> None:
    text = (tmp_path / "run001.lst").read_text()
    estimates, errors = text.split("STANDARD ERROR OF ESTIMATE")
    assert re.search(
        r"^ {9}1\.60E\+00  8\.70E-02  3\.19E\+01  1\.00E\+00  2\.54E\+00  8\.12E-01$", estimates, re.M
    )
    assert re.search(r"^ ETA3\n\+ {8}0\.00E\+00  5\.20E-03  1\.10E-02$", estimates, re.M)
    assert re.search(r"^ {9}\d\.\d\dE-01 .* \.{9}  ", errors, re.M)
    assert re.search(r"OM11      OM12      OM13      OM22      OM23      OM33 ", errors)


def test_block_form_names_repeated_blocks(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    blocks = (
        CovarianceBlock(1, 1, (0.4,), fixed=True),
        CovarianceBlock(2, 1, (0.02,)),
        CovarianceBlock(3, 1, (0.02,), same_as=1),
    )
    write_nonmem([replace(fit, model=fit.model.replace(omega=blocks))], tmp_path, "run001", NOW, NOW)
    text = (tmp_path / "run001.lst").read_text()
    assert "0OMEGA HAS BLOCK FORM:\n  1\n  0  2\n  0  0  2\n" in text
    assert re.search(r"^        1 {83}YES$", text, re.M)
    # a repeated block has no row of its own in the inverse
    names = [line.split()[0] for line in (tmp_path / "run001.coi").read_text().splitlines()[2:]]
    row = (tmp_path / "run001.coi").read_text().splitlines()[2 + names.index("OMEGA(3,3)")]
    assert {float(t) for t in row.split()[1:]} == {0.0}


def test_echoed_control_stream_can_be_given(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    write_nonmem([fit], tmp_path, "run001", NOW, NOW, control_stream="$PROBLEM another\n")
    assert (tmp_path / "run001.lst").read_text().splitlines()[1] == "$PROBLEM another"


def test_dates_are_in_the_c_locale() -> None:
    assert date_line(NOW) == "Mon Mar  9 13:04:05 UTC 2026"
    assert date_line(NOW.astimezone(timezone(timedelta(hours=3)))) == "Mon Mar  9 16:04:05 2026"


def test_model_without_random_effects_has_no_files_of_individuals(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    none = np.zeros((0, 0))
    few = replace(
        fit.shrinkage,
        eta_sd=none.ravel(),
        eta_var=none.ravel(),
        ebv_sd=none.ravel(),
        ebv_var=none.ravel(),
        etabar=none.ravel(),
        etabar_se=none.ravel(),
        etabar_p=none.ravel(),
    )
    fit = replace(
        fit,
        model=fit.model.replace(omega=(), tables=()),
        estimate=Estimate(fit.estimate.theta, none, fit.estimate.sigma),
        uncertainty=None,
        history=(),
        shrinkage=few,
    )
    written = write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    assert [p.suffix for p in written] == [".ext", ".lst"]
    text = (tmp_path / "run001.lst").read_text()
    assert "ETABAR" not in text
    assert "EPSSHRINKSD" in text


def test_tables_of_other_folders_lie_in_that_of_the_results(fit: Fit, tmp_path: Path) -> None:
    named = ("./here", "../run1.tab", "C:\\runs\\run2.tab")
    model = fit.model.replace(tables=tuple(task(file=name) for name in named))
    assert table_problems(model) == []
    files = write_tables(replace(fit, model=model), tmp_path)
    assert files == [tmp_path / name for name in ("here", "run1.tab", "run2.tab")]
    assert all(file.exists() for file in files)
    both = fit.model.replace(tables=(task(file="a/one"), task(file="b/one")))
    assert "a/one and b/one" in table_problems(both)[0].message


def test_appended_items_stand_at_the_end_only_but_for_dv(fit: Fit) -> None:
    items = ("ID", "DV", "PRED", "CWRES", "WRES")
    labels = table_text(fit, task(items=items, appended=True), 1).splitlines()[1].split()
    assert labels == ["ID", "DV", "CWRES", "DV", "PRED", "RES", "WRES"]
    labels = table_text(fit, task(items=items, appended=False), 1).splitlines()[1].split()
    assert labels == list(items)
