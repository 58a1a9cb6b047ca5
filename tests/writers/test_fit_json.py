"""fit.json: its schema, and starting values read back from it or from an .ext file."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.fits import selection_fit, theophylline_fit

from elbomix.compat.files import write_whole
from elbomix.compat.fit_json import fit_json, read_estimates, write_fit_json
from elbomix.compat.nonmem.ext import write_ext
from elbomix.engine.estimate import Estimate
from elbomix.engine.fit import Fit
from elbomix.parsers.problem import ProblemError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "corpus" / "nonmem"


def test_schema(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    path = write_fit_json([fit], tmp_path / "fit.json")
    content = json.loads(path.read_text())
    assert content["schema"] == 1
    step_keys = {
        "status", "message", "remedy", "method", "ofv", "minus_two_ll", "minus_two_elbo", "bicc",
        "parameters", "selection", "seconds", "seed", "warnings",
        "ofv_se", "search", "convergence", "covariance", "resampling",
    }  # fmt: skip
    extra = {"schema", "n_subjects", "n_observations", "steps", "versions", "sha256"}
    assert set(content) == step_keys | extra
    assert set(content["steps"][0]) == step_keys
    assert content["status"] == "converged"
    assert content["ofv"] == fit.ofv
    assert fit.importance is not None
    sampled = content["minus_two_ll"]["importance_sampling"]
    assert sampled == {"value": fit.importance.value, "se": 0.02, "ess_min": 800.0, "draws": 3000}
    assert (content["n_subjects"], content["n_observations"]) == (12, 120)
    assert set(content["versions"]) == {"elbomix", "python", "torch", "numpy"}
    assert content["sha256"]["data"] == hashlib.sha256((tmp_path / "theo.csv").read_bytes()).hexdigest()
    assert content["sha256"]["control_stream"] == fit.model.source_sha256
    selection = content["selection"]
    effects = [(e["parameter"], e["covariate"], e["form"], e["theta"]) for e in selection["effects"]]
    assert effects == [("KA", "WT", "power", 5), ("V", "WT", "power", 6)]
    chosen = [c["selected"] for c in selection["candidates"]]
    assert chosen == [True, False, False, False, True, False]
    assert selection["candidates"][1]["value"] is None  # NaN
    assert selection["certificate"]["agrees"] is True


def test_parameters(tmp_path: Path) -> None:
    fit = selection_fit(tmp_path)
    parameters = {p["name"]: p for p in fit_json([fit])["parameters"]}
    assert list(parameters) == [
        *(f"THETA{k}" for k in range(1, 7)),
        "SIGMA(1,1)", "OMEGA(1,1)", "OMEGA(2,2)", "OMEGA(3,2)", "OMEGA(3,3)",
    ]  # fmt: skip
    assert parameters["THETA1"]["label"] == "KA"
    assert parameters["THETA4"] == {"name": "THETA4", "label": "", "value": 1.0, "se": None, "fixed": True}
    assert parameters["OMEGA(3,2)"]["value"] == 0.0052


def test_without_likelihoods_and_selection(tmp_path: Path) -> None:
    fit = replace(
        theophylline_fit(tmp_path), importance=None, linearised=None, minus_two_elbo=None, uncertainty=None
    )
    content = fit_json([fit])
    assert content["minus_two_ll"].keys() == {"method", "importance_sampling", "linearised"}
    assert content["minus_two_ll"]["importance_sampling"] is content["minus_two_ll"]["linearised"] is None
    assert content["selection"] is None
    assert {p["se"] for p in content["parameters"]} == {None}


def equal(a: Estimate, b: Estimate, tolerance: float) -> bool:
    return np.allclose(a.flatten(), b.flatten(), rtol=tolerance, atol=0)


@pytest.mark.parametrize("build", [theophylline_fit, selection_fit])
def test_estimates_come_back(tmp_path: Path, build: object) -> None:
    assert callable(build)
    fit: Fit = build(tmp_path)
    write_fit_json([fit], tmp_path / "fit.json")
    write_ext([fit], tmp_path / "run001.ext")
    assert equal(read_estimates(tmp_path / "fit.json", fit.model), fit.estimate, 0.0)
    # s1PE12.5 keeps six digits
    assert equal(read_estimates(tmp_path / "run001.ext", fit.model), fit.estimate, 5e-6)


def test_ext_of_nonmem_with_several_tables(tmp_path: Path) -> None:
    path = SHARED / "pheno-foce-imp" / "pheno_multEST.ext"
    if not path.is_file():
        pytest.skip("no corpus of NONMEM runs beside the repository")
    model = theophylline_fit(tmp_path).model
    small = model.replace(thetas=model.thetas[:2], omega=model.omega[:2])
    read = read_estimates(path, small)
    assert read.flatten() == pytest.approx([5.81756e-3, 1.44555, 1.64177e-2, 0.111053, 0.0, 0.201526])


EXT = """\
TABLE NO.     1: First Order: Problem=1
 ITERATION   ,THETA1      ,THETA2      ,THETA3      ,SIGMA(1,1)  ,OMEGA(1,1)  ,OMEGA(2,2)  ,OMEGA(3,3)  ,OBJ
  -1000000000, 1.00000E+00, 2.00000E+00, 3.00000-100, 4.00000E-01, 5.00000E-01, 6.00000E-01, 7.00000E-01, 1.5
"""


def test_ext_with_commas_and_bare_exponents(tmp_path: Path) -> None:
    model = theophylline_fit(tmp_path).model
    path = write_whole(tmp_path / "x.ext", EXT)
    read = read_estimates(path, model)
    assert list(read.theta) == [1.0, 2.0, 3e-100]
    assert list(np.diag(read.omega)) == [0.5, 0.6, 0.7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (EXT.replace("THETA3", "THETAX"), "no value for THETA3"),
        (EXT.replace(",OBJ", ",THETA4"), "THETA4, which the model does not have"),
        (EXT.replace(",OMEGA(3,3)", ",OMEGA(2,1)"), r"no value for OMEGA\(3,3\)"),
        (EXT.replace("-1000000000,", "          4,"), "no final estimates"),
        (EXT.replace(" ITERATION", " NUMBER"), "no line of column labels"),
        (EXT.replace(", 1.5", ""), "7 columns|8 columns"),
        (EXT.replace("2.00000E+00", "NaN"), "no finite value for THETA2"),
        (EXT.replace("2.00000E+00", "two"), "no number"),
        ("{}", "no fit.json"),
        ('{"schema": 2}', "schema 2"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str) -> None:
    model = theophylline_fit(tmp_path).model
    path = write_whole(tmp_path / "x.ext", text)
    with pytest.raises(ProblemError, match=message):
        read_estimates(path, model)


def test_missing_file(tmp_path: Path) -> None:
    model = theophylline_fit(tmp_path).model
    with pytest.raises(ProblemError, match="cannot read the estimates"):
        read_estimates(tmp_path / "none.ext", model)


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_whole(tmp_path / "a", "old")

    def refuse(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
