"""Files of the classical methods: how a search ended, gradients, mixtures, in the layout of NONMEM's own."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.fits import theophylline_fit
from support.nonmem_runs import corpus

from elbomix.compat.nonmem.matrices import inverse_covariance
from elbomix.compat.nonmem.write import write_nonmem
from elbomix.engine.estimate import is_fixed
from elbomix.engine.fit import Fit
from elbomix.engine.individuals import Subpopulations
from elbomix.engine.ir.task import Method
from elbomix.engine.iteration import Iteration, Status, StatusCode
from elbomix.engine.methods.step import Convergence, Search, Stopped
from elbomix.engine.uncertainty.standard_errors import InformationMatrices, MatrixState

NOW = datetime(2026, 3, 9, 13, 4, 5, tzinfo=UTC)
SIX_DIGITS = 5e-6  # of s1PE12.5


def classical(folder: Path, method: Method = "focei", **changes: Any) -> Fit:
    """Return a fit of a gradient method: 41 iterations numbered from 0, seven free parameters."""
    fit = theophylline_fit(folder)
    history = tuple(
        Iteration("search", k, i.objective, i.estimate, i.seconds) for k, i in enumerate(fit.history)
    )
    last = replace(history[-1], objective=fit.ofv, estimate=fit.estimate)
    gradients = np.random.default_rng(2).standard_normal((41, 7))
    search = Search("converged", 123, 3.456, gradients)
    fit = replace(
        fit,
        method=method,
        importance=None,
        linearised=None,
        minus_two_elbo=None,
        history=(*history[:-1], last),
        search=search,
        seconds={"compile": 1.0, "estimation": 2.0, "uncertainty": 0.5, "diagnostics": 1.0, "total": 4.5},
        print_interval=15,
    )
    return replace(fit, **changes)


def block(path: Path) -> pd.DataFrame:
    return pd.read_csv(StringIO(path.read_text().split("\n", 1)[1]), sep=r"\s+")


@pytest.mark.parametrize(
    ("stopped", "codes", "lines"),
    [
        ("converged", (0, 37), ["0MINIMIZATION SUCCESSFUL", " NO. OF FUNCTION EVALUATIONS USED:      123"]),
        (
            "evaluations",
            (131, 50),
            ["0MINIMIZATION TERMINATED", " DUE TO MAX. NO. OF FUNCTION EVALUATIONS EXCEEDED"],
        ),
        ("rounding", (134, 50), ["0MINIMIZATION TERMINATED", " DUE TO ROUNDING ERRORS (ERROR=134)"]),
        ("zero_gradient", (136, 50), ["0MINIMIZATION TERMINATED", " DUE TO ZERO GRADIENT"]),
        (
            "runs_off",
            (134, 50),
            ["0MINIMIZATION TERMINATED", " DUE TO PARAMETERS THAT RUN OFF TO INFINITY"],
        ),
        (
            "infinite",
            (137, 50),
            ["0MINIMIZATION TERMINATED", " DUE TO PROXIMITY OF NEXT ITERATION EST. TO A VALUE"],
        ),
    ],
)
def test_how_a_search_ended(
    stopped: Stopped, codes: tuple[int, int], lines: list[str], tmp_path: Path
) -> None:
    code: StatusCode = "converged" if stopped == "converged" else "not_converged"
    fit = classical(tmp_path, status=Status(code, "what happened", "what to try"))
    assert fit.search is not None
    search = replace(fit.search, stopped=stopped, near_bound=("THETA2",))
    write_nonmem([replace(fit, search=search)], tmp_path, "run001", NOW, NOW)
    text = (tmp_path / "run001.lst").read_text()
    assert " #TERM:\n" + "\n".join(lines) + "\n" in text
    assert " NO. OF SIG. DIGITS IN FINAL EST.:  3.5\n" in text
    address = " THIS MUST BE ADDRESSED BEFORE THE COVARIANCE STEP CAN BE IMPLEMENTED\n"
    said = address if stopped == "converged" else ""
    assert f"0PARAMETER ESTIMATE IS NEAR ITS BOUNDARY\n{said} NEAR A BOUND: THETA2\n" in text
    row = block(tmp_path / "run001.ext").set_index("ITERATION").loc[-1000000007]
    assert tuple(row.iloc[:2]) == codes


def test_digits_that_cannot_be_told(tmp_path: Path) -> None:
    fit = classical(tmp_path)
    assert fit.search is not None
    search = replace(fit.search, significant_digits=None)
    write_nonmem([replace(fit, search=search)], tmp_path, "run001", NOW, NOW)
    assert " NO. OF SIG. DIGITS UNREPORTABLE\n" in (tmp_path / "run001.lst").read_text()


def test_rows_and_gradients_of_the_printed_iterations(tmp_path: Path) -> None:
    fit = classical(tmp_path)
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    rows = block(tmp_path / "run001.ext")
    assert [i for i in rows["ITERATION"] if i > -(10**9)] == [0, 15, 30, 40]
    gradients = block(tmp_path / "run001.grd")
    assert list(gradients["ITERATION"]) == [0, 15, 30, 40]
    assert list(gradients.columns[1:]) == [f"GRD({k})" for k in range(1, 8)]
    assert fit.search is not None
    expected = fit.search.gradients[[0, 15, 30, 40]]
    assert gradients.iloc[:, 1:].to_numpy() == pytest.approx(expected, rel=SIX_DIGITS)
    text = (tmp_path / "run001.lst").read_text()
    assert re.findall(r"^0ITERATION NO\.: +(\d+)    OBJECTIVE VALUE:", text, re.M) == ["0", "15", "30", "40"]
    assert "Elapsed estimation  time in seconds:     2.00" in text
    assert "Elapsed covariance  time in seconds:     0.50" in text


@pytest.mark.parametrize(
    ("method", "tested", "status", "lines", "code"),
    [
        ("its", True, "converged", [" OPTIMIZATION WAS COMPLETED"], 0),
        ("imp", True, "not_converged", [" OPTIMIZATION WAS NOT COMPLETED"], 1),
        ("imp", False, "converged", [" OPTIMIZATION WAS NOT TESTED FOR CONVERGENCE"], 2),
        (
            "saem",
            False,
            "converged",
            [
                " STOCHASTIC PORTION WAS NOT TESTED FOR CONVERGENCE",
                " REDUCED STOCHASTIC PORTION WAS COMPLETED",
            ],
            2,
        ),
        (
            "saem",
            True,
            "converged",
            [" STOCHASTIC PORTION WAS COMPLETED", " REDUCED STOCHASTIC PORTION WAS COMPLETED"],
            0,
        ),
        ("imp", False, "evaluated", [" EXPECTATION ONLY PROCESS COMPLETED"], 2),
    ],
)
def test_how_an_em_method_ended(
    method: Method, tested: bool, status: Any, lines: list[str], code: int, tmp_path: Path
) -> None:
    values = np.linspace(0.1, 1.1, 11)  # ten parameters and the objective
    test = Convergence(tested, status == "converged", 10, values, values / 10, values / 20, 0.05)
    fit = classical(tmp_path, method, search=None, convergence=test, status=Status(status, "done"))
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    text = (tmp_path / "run001.lst").read_text()
    assert " #TERM:\n" + "\n".join(lines) + "\n" in text
    label = "SAEMOBJ" if method == "saem" else "OBJ"
    rows = block(tmp_path / "run001.ext").set_index("ITERATION")
    assert rows.columns[-1] == label and rows.loc[-1000000007].iloc[0] == code
    assert (tmp_path / "run001.cnv").exists() == tested
    if tested:
        found = block(tmp_path / "run001.cnv").set_index("ITERATION")
        assert list(found.index) == [-2000000000 - k for k in range(4)]
        expected = np.stack([values, values / 10, values / 20, np.full(11, 0.05)])
        assert found.to_numpy() == pytest.approx(expected, rel=SIX_DIGITS)


def test_phi_is_the_sum_of_mu_and_eta(tmp_path: Path) -> None:
    fit = classical(tmp_path, "imp", search=None)
    fit.table["MU_2"] = 7.0 + fit.data.subject
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    phi = block(tmp_path / "run001.phi")
    mean = fit.individuals.cond_mean
    assert phi["PHI(1)"].to_numpy() == pytest.approx(mean[:, 0], rel=SIX_DIGITS)
    assert phi["PHI(2)"].to_numpy() == pytest.approx(mean[:, 1] + 7 + np.arange(12), rel=SIX_DIGITS)
    write_nonmem([replace(fit, shows_phi=False)], tmp_path, "run001", NOW, NOW)  # PHITYPE=1
    eta = block(tmp_path / "run001.phi")
    assert eta["ETA(2)"].to_numpy() == pytest.approx(mean[:, 1], rel=SIX_DIGITS)
    np.testing.assert_array_equal(eta["ETC(2,1)"], phi["PHC(2,1)"])


@pytest.fixture
def mixture(tmp_path: Path) -> Fit:
    fit = classical(tmp_path)
    generator = np.random.default_rng(4)
    share = generator.uniform(0, 1, 12)
    first = np.stack([share, 1 - share], axis=1)
    eta = generator.standard_normal((2, 12, 3))
    square = np.tile(np.diag([0.1, 0.2, 0.3]), (2, 12, 1, 1))
    counts = [np.full(3, int((share > 0.5).sum())), np.full(3, int((share <= 0.5).sum()))]
    parts = tuple(replace(fit.shrinkage, count=count) for count in counts)
    found = Subpopulations(first, eta, square, generator.standard_normal((2, 12)), parts)
    fit = replace(fit, subpopulations=found)
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    return fit


def test_mixture_files(mixture: Fit, tmp_path: Path) -> None:
    parts = mixture.subpopulations
    assert parts is not None
    phm = block(tmp_path / "run001.phm")
    assert len(phm) == 24 and list(phm["SUBPOP"]) == [1, 2] * 12
    assert phm["PMIX"].to_numpy() == pytest.approx(parts.probabilities.ravel(), rel=SIX_DIGITS)
    assert phm["ETA(3)"].to_numpy() == pytest.approx(parts.eta[:, :, 2].T.ravel(), rel=SIX_DIGITS)
    assert phm["OBJ"].to_numpy() == pytest.approx(parts.objective.T.ravel(), rel=1e-12)
    shk = block(tmp_path / "run001.shk")
    assert list(shk[shk["TYPE"] == 7]["ETA(1)"]) == [
        p.count[0] for p in parts.shrinkage if p.count is not None
    ]
    text = (tmp_path / "run001.lst").read_text()
    assert re.findall(r"^ SUBMODEL +(\d)$", text, re.M) == ["1", "2"]
    assert "P VAL.:" not in text


def test_phm_columns_stand_where_those_of_nonmem_stand(mixture: Fit, tmp_path: Path) -> None:
    theirs = (corpus("nonmem") / "bauer-pmixture-foce" / "pmixture_foce.phm").read_text().splitlines()
    ours = (tmp_path / "run001.phm").read_text().splitlines()

    def starts(line: str) -> list[tuple[int, str]]:
        return [(m.start(), m.group()) for m in re.finditer(r"\S+", line)]

    assert starts(ours[1])[:7] == starts(theirs[1])[:7]
    # fields of 13 columns; the objective has more
    assert ours[2][: 13 * 4].split()[2:] == ["1", f"{mixture.subpopulations.probabilities[0, 0]:.5E}"]  # type: ignore[union-attr]


def information(
    fit: Fit, r_state: MatrixState = "sound", s_state: MatrixState = "sound"
) -> InformationMatrices:
    """Return R with 1 to 7 on its diagonal where a parameter is estimated, and S = 2 R."""
    r = np.diag(np.where(is_fixed(fit.model), 0.0, np.cumsum(~is_fixed(fit.model))))
    return InformationMatrices(r, 2 * r if s_state != "unobtainable" else None, r_state, s_state)


def asked_for(fit: Fit, letters: str) -> Fit:
    assert fit.model.covariance is not None
    task = replace(fit.model.covariance, options=(("PRINT", letters),))
    return replace(fit, model=fit.model.replace(covariance=task))


def test_matrices_that_print_asks_for(tmp_path: Path) -> None:
    fit = classical(tmp_path)
    fit = asked_for(replace(fit, information=information(fit)), "ERS")
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    for suffix, factor in ((".rmt", 1.0), (".smt", 2.0)):
        table = block(tmp_path / f"run001{suffix}").set_index("NAME")
        assert table.shape == (10, 10)
        kept = table.loc[(table != 0).any(axis=1), (table != 0).any(axis=0)]
        assert np.diag(kept.to_numpy()) == pytest.approx(factor * np.arange(1, 8))
        assert "OMEGA(2,1)" not in kept.index  # a structural zero
    text = (tmp_path / "run001.lst").read_text()
    assert re.findall(r"^ \*{20} +(\w MATRIX) +\*{20}$", text, re.M) == ["R MATRIX", "S MATRIX"]
    page = text[text.index(" S MATRIX ") :]
    assert re.search(r"^ TH 2\n\+ +0.00E\+00  4.00E\+00$", page, re.M)
    assert re.search(r"^ OM12\n\+( +\.{9}){5}$", page, re.M)


# the words of reports that NONMEM wrote
@pytest.mark.parametrize(
    ("r_state", "s_state", "errors", "lines", "files"),
    [
        (
            "indefinite",
            "sound",
            False,
            [
                "0R MATRIX ALGORITHMICALLY NON-POSITIVE-SEMIDEFINITE",
                " BUT NONSINGULAR",
                "0R MATRIX IS OUTPUT",
                "0COVARIANCE STEP ABORTED",
            ],
            {"rmt"},
        ),
        (
            "indefinite",
            "unobtainable",
            False,
            [
                "0R MATRIX ALGORITHMICALLY NON-POSITIVE-SEMIDEFINITE",
                " BUT NONSINGULAR",
                "0R MATRIX IS OUTPUT",
                "0S MATRIX UNOBTAINABLE",
                "0COVARIANCE STEP ABORTED",
            ],
            {"rmt"},
        ),
        (
            "singular_indefinite",
            "sound",
            False,
            [
                "0R MATRIX ALGORITHMICALLY SINGULAR",
                " AND ALGORITHMICALLY NON-POSITIVE-SEMIDEFINITE",
                "0R MATRIX IS OUTPUT",
                "0COVARIANCE STEP ABORTED",
            ],
            {"rmt"},
        ),
        (
            "singular",
            "singular",
            False,
            [
                "0R MATRIX ALGORITHMICALLY SINGULAR",
                "0COVARIANCE MATRIX UNOBTAINABLE",
                "0R MATRIX IS OUTPUT",
                "0S MATRIX ALGORITHMICALLY SINGULAR",
                "0S MATRIX IS OUTPUT",
            ],
            {"rmt", "smt"},
        ),
        (
            "sound",
            "singular",
            True,
            [
                "0S MATRIX ALGORITHMICALLY SINGULAR",
                "0S MATRIX IS OUTPUT",
                "0INVERSE COVARIANCE MATRIX SET TO RS*RMAT, WHERE S* IS A PSEUDO INVERSE OF S",
            ],
            {"smt", "cov", "cor", "coi"},
        ),
        (
            "not_computed",
            "singular",
            False,
            [
                "0S MATRIX ALGORITHMICALLY SINGULAR",
                "0COVARIANCE MATRIX UNOBTAINABLE",
            ],
            {"smt"},
        ),
        ("sound", "sound", True, [], {"cov", "cor", "coi"}),
    ],
)
def test_what_is_said_of_matrices_that_fail(
    r_state: MatrixState,
    s_state: MatrixState,
    errors: bool,
    lines: list[str],
    files: set[str],
    tmp_path: Path,
) -> None:
    fit = classical(tmp_path)
    fit = replace(fit, information=information(fit, r_state, s_state))
    if not errors:
        fit = replace(
            fit, uncertainty=None, covariance_failure="the matrix is not as it should be; look at THETA2"
        )
    write_nonmem([fit], tmp_path, "run001", NOW, NOW)
    text = (tmp_path / "run001.lst").read_text()
    said = text[text.index(" Elapsed estimation") : text.index(" Elapsed covariance")].splitlines()[1:]
    assert said[: len(lines)] == lines
    assert len(said) == len(lines) + 1  # standard errors from what, or why there are none
    assert ("look at THETA2" in said[-1]) == (not errors)
    written = {p.suffix[1:] for p in tmp_path.glob("run001.*")}
    assert written & {"rmt", "smt", "cov", "cor", "coi"} == files


def test_inverse_covariance_of_a_singular_s(tmp_path: Path) -> None:
    """R S* R; of an S in diagonal form S* has the inverse elements, and zeros for zeros."""
    fit = classical(tmp_path)
    found = information(fit, s_state="singular")
    assert found.r is not None and found.s is not None and fit.uncertainty is not None
    found.s[0, 0] = 0.0
    inverse = inverse_covariance(replace(fit, information=found), fit.uncertainty)
    assert inverse is not None
    expected = np.diag(found.r) / 2
    expected[0] = 0.0
    np.testing.assert_allclose(inverse, np.diag(expected), atol=1e-12)
