"""What the final table says, and that it says the same on a terminal and in a pipe."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.progress import duration
from elbomix.compat.report import figure, sections, show_report
from elbomix.engine.ir.model import Notice
from elbomix.engine.iteration import Status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.61234567, "1.612"),
        (0.0871234567, "0.08712"),
        (31.9123, "31.91"),
        (12345.6, "12346"),
        (-2.5, "-2.500"),
        (1.5e-9, "1.500e-09"),
        (4.2e15, "4.200e+15"),
        (0.0, "0"),
        (float("nan"), "-"),
        (None, "-"),
    ],
)
def test_figures_have_four_significant_digits(value: float | None, shown: str) -> None:
    assert figure(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0 s"), (59.4, "59 s"), (125, "2:05 min"), (3725, "1:02:05 h")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_plain_report_holds_the_figures_of_the_fit(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    out = io.StringIO()
    show_report([fit], [tmp_path / "b.lst", tmp_path / "a.ext"], out)
    said = out.getvalue()
    assert "converged: Parameters and objective were stable" in said
    assert "12 subjects" in said and "seed 42" in said
    assert fit.importance is not None and fit.linearised is not None
    for value in (fit.ofv, fit.importance.value, fit.linearised.value, fit.bicc):
        assert f"{value:.3f}" in said
    assert "min. ESS 800 of 3000 draws" in said
    # standard deviation of a variance of 0.41234567, and the shrinkage beside it
    row = next(line for line in said.splitlines() if line.strip().startswith("OMEGA(1,1)"))
    assert "0.4123" in row and "0.6421" in row and figure(fit.shrinkage.eta_sd[0], 3) in row
    # structural zeros are no parameters
    assert "OMEGA(2,1)" not in said
    assert said.index("a.ext") < said.index("b.lst")
    assert "effective sample size of subject 101" in said
    assert "\x1b" not in said


def test_relative_standard_errors(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    assert fit.uncertainty is not None
    (table,) = [s for s in sections([fit], []) if s.title == "Parameters"]
    column = table.header.index("RSE %")
    expected = 100 * fit.uncertainty.se[0] / abs(fit.estimate.theta[0])
    assert float(table.rows[0][column]) == pytest.approx(expected, rel=5e-3)  # three digits shown


def test_fixed_parameters_and_effects(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    parts = {s.title.split(" (")[0]: s for s in sections([fit], [])}
    rows = {row[0]: row for row in parts["Parameters"].rows}
    assert "fixed" in rows["THETA4"]
    # correlation of a block: 0.0052 / sqrt(0.021 * 0.011)
    assert "0.3421" in rows["OMEGA(3,2)"]
    effects = [(r[0], r[1], r[4]) for r in parts["Covariate effects"].rows]
    assert effects.count(("KA", "WT", "in")) == 1 and effects.count(("V", "WT", "in")) == 1
    assert sum(choice == "in" for *_, choice in effects) == 2 and len(effects) == 6


def test_a_run_that_did_not_converge_says_what_to_try(tmp_path: Path) -> None:
    fit = theophylline_fit(tmp_path)
    status = Status("not_converged", "The objective still drifted.", "Run longer.")
    notice = Notice("this step (FOCEI) was not run")
    fit = replace(fit, status=status, model=fit.model.replace(notices=(notice,)), uncertainty=None)
    out = io.StringIO()
    show_report([fit], [], out)
    said = out.getvalue()
    assert "not converged: The objective still drifted." in said
    assert "what to try: Run longer." in said and notice.message in said


def test_a_terminal_shows_the_same_cells(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    plain, rich = io.StringIO(), Terminal()
    show_report([fit], [], plain)
    show_report([fit], [], rich)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", rich.getvalue())
    for part in sections([fit], []):
        if part.title == "Parameters":
            for row in part.rows:
                assert row[0] in bare and row[2] in bare
                assert row[0] in plain.getvalue()
