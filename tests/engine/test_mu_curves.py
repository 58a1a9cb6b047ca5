"""Mus that are not linear in their thetas, or share them: found, differentiated and fitted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logit
from support import linear_mixed as lmm
from support.statements import run
from support.streams import read as read_stream

from elbomix.engine.estimate import Estimate, initial
from elbomix.engine.ir.dataflow import individual_statements
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.mu import mu_references
from elbomix.engine.methods.em_step import EMStep
from elbomix.engine.mu_model import MuModel
from elbomix.engine.objective.population import Population
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]

N = 9
RANDOM = np.random.default_rng(2)
COLUMNS = {
    "WT": RANDOM.uniform(40, 110, N),
    "AGE": RANDOM.uniform(20, 80, N),
    "SEX": np.array([0.0, 1, 0, 1, 1, 0, 0, 1, 0]),
    "RACE": np.array([1.0, 2, 3, 1, 2, 3, 1, 2, 3]),
}
STREAM = """\
$PROBLEM mu
$INPUT ID TIME AMT DV WT AGE SEX RACE
$DATA any.csv
$SUBROUTINES ADVAN1 TRANS2
$PK
{code}
$ERROR
Y=F+{error}
$THETA (0,.5) (0,.7) (0,.3) (0,.8) (0,.2) (0,.9)
$OMEGA 0.1 0.2 0.3
$SIGMA 1
"""

CURVES: list[tuple[str, dict[int, set[int]]]] = [
    ("TVCL=THETA(1)*(1+THETA(2)*(WT-70)/100); CL=TVCL*EXP(ETA(1)); V=1", {1: {1, 2}}),
    ("CL=(THETA(1)+THETA(2)*AGE/50)*EXP(ETA(1)); V=1", {1: {1, 2}}),
    ("CL=EXP(LOG(THETA(1)+THETA(2))+ETA(1)); V=1", {1: {1, 2}}),
    ("TVV=THETA(1)*WT; IF (SEX.EQ.1) TVV=TVV*(1+THETA(2)); V=TVV*EXP(ETA(1)); CL=1", {1: {1, 2}}),
    # each branch of its own condition, as stepwise searches for covariates write them
    ("IF (SEX.EQ.1) CLSEX=1; IF (SEX.EQ.0) CLSEX=(1+THETA(3)); CLCOV=CLSEX; TVCL=THETA(1); "
     "TVCL=CLCOV*TVCL; CL=TVCL*EXP(ETA(1)); V=1", {1: {1, 3}}),
    ("IF (RACE.EQ.1) CLR=1; IF (RACE.EQ.2) CLR=1+THETA(3); IF (RACE.EQ.3) CLR=1+THETA(4); "
     "CL=THETA(1)*CLR*EXP(ETA(1)); V=1", {1: {1, 3, 4}}),
    ("IF (SEX.EQ.0) THEN; TVCL=THETA(1)*(1+THETA(2)*AGE/50); ELSE; TVCL=THETA(3); ENDIF; "
     "CL=TVCL*EXP(ETA(1)); V=1", {1: {1, 2, 3}}),
    # maturation, a Hill function of age
    ("MAT=AGE**THETA(3)/(AGE**THETA(3)+(50*THETA(4))**THETA(3)); "
     "CL=THETA(1)*(WT/70)**0.75*MAT*EXP(ETA(1)); V=1", {1: {1, 3, 4}}),
    ("CL=THETA(1)*THETA(2)**(WT/70)**THETA(3)*EXP(ETA(1)); V=1", {1: {1, 2, 3}}),
    ("X=LOG(THETA(1)/(1-THETA(1)))+LOG(1+THETA(2)*AGE)+ETA(1); CL=EXP(X)/(1+EXP(X)); V=1", {1: {1, 2}}),
    ("CL=THETA(1)*EXP(-THETA(2)*AGE/50)+THETA(3)+ETA(1); V=1", {1: {1, 2, 3}}),
    # shared thetas
    ("CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1)); V=THETA(2)*(WT/70)**THETA(3)*EXP(ETA(2))",
     {1: {1, 3}, 2: {2, 3}}),
    ("CL=THETA(1)*EXP(ETA(1)); V=THETA(1)*THETA(2)*EXP(ETA(2))", {1: {1}, 2: {1, 2}}),
    ("CL=THETA(1)*(1+THETA(3)*SEX)*EXP(ETA(1)); V=THETA(2)*(1+THETA(3)*SEX)*EXP(ETA(2))",
     {1: {1, 3}, 2: {2, 3}}),
    # not all, or not only, in mus
    ("CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1)); V=THETA(2)*(WT/70)**THETA(3)", {}),
    ("CL=THETA(1)*(1+THETA(3)*SEX)*EXP(ETA(1)); V=THETA(2)*(1+THETA(3)*SEX)*EXP(ETA(2)+ETA(1))", {}),
    ("CL=THETA(1)*(1+THETA(2)*SEX)*(1+ETA(1)); V=1", {}),
    ("CL=THETA(1)*EXP(THETA(2)*ETA(1)); V=1", {}),
    ("CL=THETA(1)*EXP(ETA(1)+THETA(2)*ETA(2)); V=1", {}),
    ("CL=THETA(1)*EXP(ETA(1)); IF (THETA(2).GT.AGE/50) CL=CL*2; V=1", {1: {1}}),
]  # fmt: skip


def read(code: str, error: str = "EPS(1)") -> Model:
    return parse_model(STREAM.format(code=code.replace("; ", "\n"), error=error))


@pytest.mark.parametrize(("code", "wanted"), CURVES)
def test_what_is_found_is_what_the_code_computes(code: str, wanted: dict[int, set[int]]) -> None:
    """parameter = link^-1(mu + eta) at random thetas and etas, and slopes of mu by differences."""
    model = read(code)
    references = mu_references(model, curves=True)
    assert {r.eta: set(r.thetas) for r in references} == wanted
    mu = MuModel(model, COLUMNS, N, curved=True)
    assert set(mu.references) == {eta - 1 for eta in wanted}
    assert set(mu.mu_thetas) == {t - 1 for thetas in wanted.values() for t in thetas}
    rng = np.random.default_rng(3)
    links: dict[str, Callable[[Array], Array]] = {"identity": np.array, "log": np.log, "logit": logit}
    for _ in range(3):
        theta, eta = rng.uniform(0.1, 0.9, 6), rng.normal(size=(model.n_etas, N))
        values = run(individual_statements(model), COLUMNS, theta, eta)
        made = mu(theta)
        for r in references:
            link = links[r.link]
            phi = made[:, r.eta - 1] + eta[r.eta - 1]
            if r.alone and "THETA(2).GT" not in code:
                np.testing.assert_allclose(link(values[r.parameter]), phi, atol=1e-12)
        slopes = mu.jacobian(theta)
        for j in range(6):
            step = 1e-6 * np.eye(6)[j]
            numeric = (mu(theta + step) - mu(theta - step)) / 2e-6
            np.testing.assert_allclose(slopes[:, :, j], numeric, rtol=1e-7, atol=1e-8)


def test_mus_undefined_for_a_subject_are_left_out() -> None:
    code = "IF (RACE.EQ.1) CLR=1; IF (RACE.EQ.2) CLR=1+THETA(3); CL=THETA(1)*CLR*EXP(ETA(1)); V=1"
    model = read(code)
    assert 0 not in MuModel(model, COLUMNS, N, curved=True).references
    assert not mu_references(model)  # elsewhere such a variable may keep the value of another record
    known = COLUMNS | {"RACE": COLUMNS["RACE"] % 2 + 1}
    assert 0 in MuModel(model, known, N, curved=True).references


def test_of_mus_that_share_a_theta_all_or_none_are_used() -> None:
    code = "CL=THETA(1)*(WT/70)**THETA(3)*EXP(ETA(1)); V=THETA(2)*(AGE/70)**THETA(3)*EXP(ETA(2))"
    model = read(code)
    assert set(MuModel(model, COLUMNS, N, curved=True).references) == {0, 1}
    assert not MuModel(model, {"WT": COLUMNS["WT"]}, N, curved=True).references  # AGE changes
    assert not MuModel(model, COLUMNS, N, frozenset({1}), curved=True).references


def test_a_variable_that_changes_in_time_does_not_hide_the_parameter() -> None:
    model = read("A=THETA(1)+ETA(1); CL=A+THETA(2)*TIME; V=1")
    assert [r.parameter for r in mu_references(model)] == ["CL"]
    assert [r.parameter for r in mu_references(model, columns=("WT",))] == ["A"]


def test_long_chains_of_variables_end_in_time() -> None:
    lines = ["X0=1+THETA(1)*WT", *(f"X{k + 1}=X{k}*(1+X{k})" for k in range(60))]
    assert not mu_references(read("; ".join([*lines, "CL=X60*EXP(ETA(1))", "V=1"])), curves=True)


def _linear(at: Estimate) -> Estimate:
    """Return the estimate of the model that is linear in X: its slope is THETA(1)*THETA(3)."""
    theta = at.theta * np.array([1.0, 1.0, at.theta[0]])
    return Estimate(theta, at.omega, at.sigma)


def _iterate(em: EMStep, rows: list[lmm.Row], start: Estimate, n: int) -> list[Estimate]:
    made = [start]
    for _ in range(n):
        statistics = em.statistics(made[-1], *lmm.exact_draws(rows, _linear(made[-1])))
        made.append(em.maximise(made[-1], statistics))
    return made


def test_em_reaches_the_exact_maximum(tmp_path: Path) -> None:
    rows = lmm.rows()
    stream = lmm.stream().replace("THETA(1) + THETA(3)*X", "THETA(1)*(1 + THETA(3)*X)")
    model, data = read_stream(tmp_path, stream, rows)
    em = EMStep(Population(model, data))
    assert em.mu.mu_thetas == [0, 1, 2] and em.mu.curves and not em.others.thetas
    found = _iterate(em, rows, initial(model), 200)
    objectives = [float(lmm.by_subject(rows, _linear(at)).sum()) for at in found]
    assert (np.diff(objectives[:60]) < 1e-9).all()  # EM never goes up
    exact = lmm.maximum(rows, _linear(found[-1]))
    np.testing.assert_allclose(_linear(found[-1]).flatten(), exact.flatten(), rtol=2e-4, atol=2e-5)


def test_bounds_of_thetas_of_curves_hold(tmp_path: Path) -> None:
    stream = lmm.stream().replace("THETA(1) + THETA(3)*X", "THETA(1)*(1 + THETA(3)*X)")
    stream = stream.replace("$THETA 1 0.1 0.2", "$THETA 1 0.1 (-0.1,0.05,0.1)")
    rows = lmm.rows()
    model, data = read_stream(tmp_path, stream, rows)
    em = EMStep(Population(model, data))
    found = _iterate(em, rows, initial(model), 60)
    assert found[-1].theta[2] == pytest.approx(0.1, abs=1e-3)
    assert all(-0.1 < at.theta[2] < 0.1 for at in found)
    objectives = [float(lmm.by_subject(rows, _linear(at)).sum()) for at in found]
    assert (np.diff(objectives) < 1e-9).all()
