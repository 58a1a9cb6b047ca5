"""The command line on good and bad input: exit codes, messages with places, nothing half-written."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from elbomix import __version__, fit
from elbomix.compat.cli import command
from elbomix.parsers.problem import ProblemError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "theophylline"
CONTROL, DATA = "run1.ctl", "theophylline.csv"


@dataclass(frozen=True)
class Case:
    """One bad input: what is replaced in which file, and where the message must point."""

    file: str
    old: str
    new: str
    says: str  # regular expression
    options: tuple[str, ...] = ()
    at: str | None = None  # text on the line that the message must name (default: ``new``)


BAD = {
    "unknown record": Case(CONTROL, "$COVARIANCE PRINT=E", "$COVARANCIA PRINT=E", r"COVARANCIA"),
    "record not supported": Case(CONTROL, "$COVARIANCE PRINT=E", "$MIX", r"\$MIX"),
    "unknown option": Case(CONTROL, "MAXEVAL=9999", "MAXIVEL=9999", r"MAXIVEL"),
    "unbalanced parenthesis": Case(CONTROL, "TVKA*EXP(ETA(1))", "TVKA*EXP(ETA(1)", r"."),
    "theta beyond the declared": Case(CONTROL, "TVV  = THETA(3)", "TVV  = THETA(4)", r"THETA\(4\)"),
    "eta beyond the declared": Case(CONTROL, "TVV*EXP(ETA(3))", "TVV*EXP(ETA(4))", r"ETA\(4\)"),
    "undefined variable": Case(CONTROL, "TVV*EXP(ETA(3))", "TVX*EXP(ETA(3))", r"TVX"),
    "missing data file": Case(CONTROL, "theophylline.csv IGN", "nowhere.csv IGN", r"nowhere\.csv"),
    "negative omega": Case(CONTROL, "  0.2  ", "  -0.2 ", r"-0\.2|negative"),
    "block not positive definite": Case(
        CONTROL,
        "$OMEGA\n  0.2                     ; IIV KA\n  0.05                    ; IIV K\n",
        "$OMEGA BLOCK(2)\n  0.2\n  0.5 0.05\n$OMEGA\n",
        r"positive.definite",
        at="$OMEGA BLOCK(2)",
    ),
    "theta outside its bounds": Case(CONTROL, "(0, 30)", "(0, -30)", r"-30|bound"),
    "wrong number of columns": Case(DATA, "1,3.82,.,8.58,0,0,79.6,1", "1,3.82,.,8.58,0,0", r"6 fields"),
    "observation not a number": Case(DATA, "1,3.82,.,8.58,", "1,3.82,.,8.5B,", r"8\.5B"),
    "no observations": Case(CONTROL, "IGNORE=@", "IGNORE=@ IGNORE=(EVID.EQ.0)", r"observation"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the example in an empty folder, which is the current one."""
    (tmp_path / CONTROL).write_text((EXAMPLE / "theophylline.ctl").read_text(encoding="utf-8"))
    (tmp_path / DATA).write_text((EXAMPLE / DATA).read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def refused(folder: Path, *arguments: str) -> str:
    """Run a command that must be refused and return what it said; nothing may have been written."""
    before = sorted(folder.rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    assert sorted(folder.rglob("*")) == before
    return result.output


@pytest.mark.parametrize("command_name", ["fit", "check"])
@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input_is_refused_at_its_place(case: Case, command_name: str, folder: Path) -> None:
    path = folder / case.file
    text = path.read_text()
    assert text.count(case.old) == 1
    changed = text.replace(case.old, case.new)
    path.write_text(changed)
    said = refused(folder, command_name, CONTROL, *(case.options if command_name == "fit" else ()))
    offset = changed.index(case.at or case.new.strip())
    line = changed[:offset].count("\n") + 1
    assert re.search(case.says, said, re.IGNORECASE), said
    assert re.search(rf"{re.escape(case.file)}:{line}:\d+: error: ", said), said
    assert re.search(r"^ *\d+ \| .+\n +\^", said, re.MULTILINE), said


def test_every_problem_of_a_file_is_listed(folder: Path) -> None:
    text = (folder / CONTROL).read_text()
    text = text.replace("THETA(3)", "THETA(7)").replace("IRES  = DV", "IRES  = DX")
    (folder / CONTROL).write_text(text)
    said = refused(folder, "check", CONTROL)
    assert "THETA(7)" in said and "DX" in said
    assert "2 problems" in said


def test_a_covariate_with_missing_values_names_subject_and_column(folder: Path) -> None:
    text = (folder / DATA).read_text()
    (folder / DATA).write_text(re.sub(r"^(3,.*),70\.5,", r"\1,.,", text, flags=re.MULTILINE))
    said = refused(folder, "fit", CONTROL, "--covariates", "WT,SEX")
    assert "WT" in said and re.search(r"\b3\b", said)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--covariates", "AGE"), "AGE"),
        (("--covariates", "WT:cubic"), "cubic"),
        (("--covariates", "WT:power@"), "WT"),
        (("--covariates", "WT", "--on", "CL"), "CL"),
        (("--covariates", "WT", "--force", "V~SEX"), "SEX"),
        (("--covariates", "WT", "--force", "V~WT", "--forbid", "V~WT"), "WT"),
        (("--force", "V~WT"), "--covariates"),
        (("--on", "V"), "--covariates"),
        (("--covariates", "WT", "--evaluate"), "--covariates"),
        (("--method", "foce", "--covariates", "WT"), "--method vae"),
        (("--method", "magic"), "magic"),
        (("--data", "other.csv"), "other.csv"),
        (("--output", CONTROL), CONTROL),
        (("--seed", "-1"), "--seed"),
        (("--threads", "0"), "--threads"),
        (("--estimates-from", "none.ext"), "none.ext"),
        (("--estimates-from", DATA), DATA),
    ],
)
def test_bad_options_are_refused(options: tuple[str, ...], says: str, folder: Path) -> None:
    said = refused(folder, "fit", CONTROL, *options)
    assert says in said


def test_a_missing_control_stream_is_refused(folder: Path) -> None:
    assert "none.ctl" in refused(folder, "fit", "none.ctl")
    assert "none.ctl" in refused(folder, "check", "none.ctl")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("METHOD=BAYES", "METHOD=BAYES"),
        ("METHOD=NUTS", "METHOD=NUTS"),
        ("METHOD=1 CENTERING", "CENTERING"),
        ("METHOD=HYBRID ZERO=(2)", "HYBRID"),
        ("METHOD=1 LNTWOPI", "LNTWOPI"),
        ("METHOD=1 INTER FNLETA=2", "FNLETA"),
        ("METHOD=1 INTER SIGDIGITS=many", "SIGDIGITS"),
        ("METHOD=IMP NITER=2.5", "NITER"),
        ("METHOD=SAEM CTYPE=7", "CTYPE"),
    ],
)
def test_a_step_that_cannot_run_is_refused_at_its_record(step: str, says: str, folder: Path) -> None:
    text = (folder / CONTROL).read_text()
    record = next(line for line in text.splitlines() if line.startswith("$ESTIMATION"))
    text = text.replace(record, f"$ESTIMATION METHOD=1 INTER MAXEVAL=99\n$ESTIMATION {step}")
    (folder / CONTROL).write_text(text)
    said = refused(folder, "fit", CONTROL, "--method", "as-written")
    line = text[: text.index(f"$ESTIMATION {step}")].count("\n") + 1
    assert re.search(rf"{CONTROL}:{line}:\d+: error: ", said), said
    assert says in said and "^" in said


def test_a_table_over_the_data_file_is_refused(folder: Path) -> None:
    text = (folder / CONTROL).read_text().replace("FILE=sdtab001", f"FILE={DATA}")
    (folder / CONTROL).write_text(text)
    said = refused(folder, "fit", CONTROL, "--output", ".")
    assert DATA in said


def test_check_counts_what_it_read(folder: Path) -> None:
    result = run("check", CONTROL)
    assert result.exit_code == 0, result.output
    assert "no problems (12 subjects, 120 observations, 144 records)" in result.output


def test_check_of_the_text_alone_needs_no_data(folder: Path) -> None:
    (folder / DATA).unlink()
    result = run("check", CONTROL, "--no-data")
    assert result.exit_code == 0, result.output
    assert "no problems (3 thetas, 3 etas, 1 eps)" in result.output
    assert run("check", CONTROL).exit_code == 2


def test_check_prints_the_model(folder: Path) -> None:
    result = run("check", CONTROL, "--show", "ir")
    assert result.exit_code == 0, result.output
    for word in ("THETA1", "KA (1/h)", "KA", "EXP", "Y"):
        assert word.lower() in result.output.lower()


def test_version_and_module_entry() -> None:
    result = run("--version")
    assert result.exit_code == 0 and __version__ in result.output
    done = subprocess.run(
        [sys.executable, "-m", "elbomix.compat", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == result.output


def test_help_names_the_exit_codes_and_answers_at_once() -> None:
    """The issue asks for 0.3 s; the best of five, since other work may slow any one of them."""

    def ask() -> float:
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "elbomix.compat", "--help"], capture_output=True, text=True, check=True
        )
        assert "Exit codes:" in done.stdout and "130" in done.stdout
        return time.perf_counter() - begun

    assert min(ask() for _ in range(5)) < 0.3


def test_a_fault_of_ours_shows_its_traceback_and_ends_with_3(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from elbomix.compat import cli

    def broken(**_: object) -> None:
        raise AssertionError("broken on purpose")

    main: Callable[[], None] = cli.main
    monkeypatch.setattr(cli, "command", broken)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert "Traceback" in said and "fault of elbomix" in said


def test_a_table_that_could_not_be_written_is_refused_before_the_run(folder: Path) -> None:
    text = (folder / CONTROL).read_text(encoding="utf-8")
    (folder / CONTROL).write_text(text.replace("ONEHEADER", "FORMAT=q9 ONEHEADER", 1), encoding="utf-8")
    with pytest.raises(ProblemError, match="table format 'q9'"):
        fit(folder / CONTROL, output=folder / "out")
    assert not (folder / "out").exists()
