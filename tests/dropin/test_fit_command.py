"""``elbomix fit`` from the shell to the files, on the theophylline example."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "theophylline"
PROGRAM = [sys.executable, "-m", "elbomix.compat"]
ALWAYS = {
    *(f"theophylline.{end}" for end in ("lst", "ext", "phi", "cov", "cor", "coi", "shk", "shm")),
    *(f"theophylline_{plot}.{form}" for plot in ("convergence", "gof") for form in ("png", "pdf")),
    *("theophylline_final.ctl", "theophylline.ctl", "fit.json", "encoder.pt", "sdtab001", "patab001"),
}
WITH_SELECTION = {
    *("theophylline_covariates.png", "theophylline_covariates.pdf", "selection.csv", "covariate_path.csv")
}


@dataclass(frozen=True)
class Run:
    """A finished process and the folder it wrote."""

    done: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "fit.json").read_text())
        return content


def run(folder: Path, *options: str, file: Path | None = None) -> Run:
    arguments = [
        *PROGRAM,
        "fit",
        str(file or EXAMPLE / "theophylline.ctl"),
        "--output",
        str(folder),
        *options,
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL)
    return Run(done, folder)


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The main job: estimation with covariate selection."""
    return run(tmp_path_factory.mktemp("selected") / "out", "--covariates", "WT,SEX")


def test_the_run_succeeds_and_leaves_exactly_the_files_it_lists(selected: Run) -> None:
    assert selected.done.returncode == 0, selected.done.stderr
    names = {path.name for path in selected.folder.iterdir()}
    assert names == ALWAYS | WITH_SELECTION
    listed = selected.done.stdout.split("Files in ")[1].split("\n", 1)[1]
    assert {line.strip() for line in listed.splitlines() if line.strip()} == names


def test_progress_goes_to_stderr_and_the_table_to_stdout(selected: Run) -> None:
    progress, table = selected.done.stderr, selected.done.stdout
    for phase in ("burn-in", "main", "refinement"):
        assert re.search(rf"^{phase}\s+\d+\s+[-\d.]+", progress, re.MULTILINE)
    assert "Parameters" in table and "KA (1/h)" in table and "converged" in table
    assert "Traceback" not in progress and "Warning" not in progress


def test_weight_is_chosen_on_ka_and_v_alone(selected: Run) -> None:
    """The best of all 64 models by exact quadrature: -2LL 331.918, BICc 363.49 (tolerances: the issue's)."""
    content = selected.json
    effects = {(e["parameter"], e["covariate"], e["form"]) for e in content["selection"]["effects"]}
    assert effects == {("KA", "WT", "power"), ("V", "WT", "power")}
    assert content["status"] == "converged"
    assert 331.9 <= round(content["minus_two_ll"]["importance_sampling"]["value"], 1) <= 332.1
    assert content["bicc"] == pytest.approx(363.5, abs=0.2)
    table = pd.read_csv(selected.folder / "selection.csv")
    assert len(table) == 6 and table["selected"].sum() == 2
    path = pd.read_csv(selected.folder / "covariate_path.csv")
    assert {"KA~WT", "V~WT"} <= set(path.columns)


def test_the_final_control_stream_runs_and_has_the_same_likelihood(selected: Run, tmp_path: Path) -> None:
    final = selected.folder / "theophylline_final.ctl"
    checked = subprocess.run([*PROGRAM, "check", str(final)], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout
    again = run(tmp_path / "again", "--evaluate", file=final)
    assert again.done.returncode == 0, again.done.stderr
    assert again.json["status"] == "evaluated"
    likelihood = again.json["minus_two_ll"]["importance_sampling"]
    first = selected.json["minus_two_ll"]["importance_sampling"]
    # both are Monte Carlo: five standard errors of the difference, and the digits a control stream holds
    tolerance = 5 * (likelihood["se"] ** 2 + first["se"] ** 2) ** 0.5 + 1e-3
    assert likelihood["value"] == pytest.approx(first["value"], abs=tolerance)


def test_evaluation_at_earlier_estimates_and_stale_files(selected: Run, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(selected.folder, folder)
    (folder / "notes.txt").write_text("mine")
    estimates = selected.folder / "fit.json"
    refused = run(folder, "--evaluate", "--estimates-from", str(estimates))
    # estimates of the selected model have thetas that the base model lacks
    assert refused.done.returncode == 2 and "THETA4" in refused.done.stderr
    assert (folder / "selection.csv").exists()

    plain = run(folder, "--evaluate", "--quiet")
    assert plain.done.returncode == 0 and plain.done.stdout == "" and plain.done.stderr == ""
    assert plain.json["selection"] is None
    left = {path.name for path in folder.iterdir()}
    assert not WITH_SELECTION & left and "notes.txt" in left

    shifted = run(tmp_path / "shifted", "--evaluate", "--estimates-from", str(folder / "theophylline.ext"))
    assert shifted.done.returncode == 0, shifted.done.stderr
    # an .ext file holds six significant digits
    assert shifted.json["ofv"] == pytest.approx(plain.json["ofv"], abs=1e-2)


def test_the_same_seed_gives_the_same_digits(selected: Run, tmp_path: Path) -> None:
    again = run(tmp_path / "out", "--covariates", "WT,SEX", "--quiet")
    for name in ("theophylline.ext", "theophylline.phi", "theophylline.cov", "selection.csv", "sdtab001"):
        assert (again.folder / name).read_bytes() == (selected.folder / name).read_bytes(), name


def test_data_named_on_the_command_line(tmp_path: Path) -> None:
    control = tmp_path / "model" / "run1.ctl"
    control.parent.mkdir()
    text = (EXAMPLE / "theophylline.ctl").read_text().replace("theophylline.csv", "gone.csv")
    control.write_text(text)
    (control.parent / "six.csv").write_text(
        "".join(
            line
            for line in (EXAMPLE / "theophylline.csv").read_text().splitlines(keepends=True)
            if line.startswith("ID") or int(line.split(",")[0]) <= 6
        )
    )
    done = run(tmp_path / "out", "--data", "six.csv", "--evaluate", "--quiet", file=control)
    assert done.done.returncode == 0, done.done.stderr
    assert done.json["n_subjects"] == 6 and done.json["n_observations"] == 60


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
@pytest.mark.parametrize("method", ["vae", "saem"])
def test_an_interrupted_run_leaves_readable_rows(method: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    arguments = [*PROGRAM, "fit", str(EXAMPLE / "theophylline.ctl"), "--output", str(folder)]
    arguments += ["--method", method]
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # tests that run in the background of a shell ignore the signal, and would hand that on
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    rows = folder / "theophylline.ext"
    deadline = time.monotonic() + 120
    while not (rows.exists() and rows.read_text().count("\n") > 5):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "interrupted" in said and "Traceback" not in said
    title, header, *body = rows.read_text().splitlines()
    assert title.startswith("TABLE NO.") and len(body) >= 3
    columns = len(header.split())
    for row in body:
        assert len([float(word) for word in row.split()]) == columns
    assert not (folder / "fit.json").exists()


def test_a_classical_run_needs_no_torch(tmp_path: Path) -> None:
    """Its import alone costs a second."""
    program = (
        "import sys; from elbomix import fit; "
        "done = fit(sys.argv[1], method='foce', output=sys.argv[2]); "
        "assert done.status.code == 'converged', done.status; "
        "assert 'torch' not in sys.modules and 'pyomo' not in sys.modules"
    )
    arguments = [sys.executable, "-c", program, str(EXAMPLE / "theophylline.ctl"), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "out" / "encoder.pt").exists()


def test_a_control_stream_of_the_users_own_is_left_alone(tmp_path: Path) -> None:
    from elbomix.compat.output_folder import _is_ours

    mine, ours = tmp_path / "mine.ctl", tmp_path / "ours.ctl"
    mine.write_text("$PROBLEM mine\n")
    ours.write_text("; initial values: final estimates, with the selected covariate effects\n$PROBLEM\n")
    assert [_is_ours(p) for p in (mine, ours, tmp_path / "free.ctl")] == [False, True, True]
