"""The same model in both languages: the same predictions, and parts of the IR that mean the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import projects
from support.simulation import Simulation

from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.engine.ir.mu import mu_references
from elbomix.engine.ir.parameter import matrix
from elbomix.parsers.read import parse_model, read_data

DATA = """ID,TIME,AMT,DV,WT,SEX
1,0,320,.,70,1
1,0.5,.,4.2,70,1
1,6,160,.,70,1
1,8,.,7.5,70,1
2,0,300,.,55,0
2,1,.,5.1,55,0
2,12,.,2.2,55,0
"""
HEADER = "ID, TIME, AMT, DV, WT, SEX"
CONTENT = "WT = {use=covariate, type=continuous}\nSEX = {use=covariate, type=categorical}"
COVARIATE = """[COVARIATE]
input = {WT, SEX}
SEX = {type=categorical, categories={'0', '1'}}
EQUATION:
lw = log(WT/70)
"""
CLEARANCE = (
    "{distribution=logNormal, typical=Cl_pop, covariate={lw, SEX},"
    " coefficient={beta_Cl_lw, {0, beta_Cl_SEX_1}}, sd=omega_Cl}"
)
BETAS = "beta_Cl_lw = {value=0.8, method=MLE}\nbeta_Cl_SEX_1 = {value=-0.2, method=MLE}"
CORRELATION = "corr = {value=0.4, method=MLE}"
ORAL = """$PROBLEM oral
$INPUT ID TIME AMT DV WT SEX
$DATA data.csv IGNORE=@
$SUBROUTINES ADVAN2 TRANS2
$PK
KA = EXP(LOG(THETA(1)) + ETA(1))
V = EXP(LOG(THETA(2)) + ETA(2))
EFFECT = 0
IF (SEX.EQ.1) EFFECT = THETA(5)
CL = EXP(LOG(THETA(3)) + THETA(4)*LOG(WT/70) + EFFECT + ETA(3))
S2 = V
$ERROR
Y = F + THETA(6)*EPS(1)
$THETA (0,1.5) (0,1.5) (0,1.5) 0.8 -0.2 (0,0.7)
$OMEGA 0.25
$OMEGA BLOCK(2) 0.25 0.1 0.25
$SIGMA 1 FIX
"""
TURNOVER = """
Cc = pkmodel(ka, V, Cl)
E_0 = 100
inhibition = 1 - Imax*Cc/(Cc + 0.9)
if V > 100
  factor = 2
else
  factor = 1 + 0.1*t
end
ddt_E = factor*5*inhibition - 0.05*E
"""
TURNOVER_ODE = """$PROBLEM turnover
$INPUT ID TIME AMT DV WT SEX
$DATA data.csv IGNORE=@
$SUBROUTINES ADVAN13 TOL=8 ATOL=10
$MODEL COMP=(DEPOT DEFDOSE) COMP=(CENTRAL) COMP=(EFFECT DEFOBS)
$PK
KA = THETA(1)*EXP(ETA(1))
V = THETA(2)*EXP(ETA(2))
CL = THETA(3)*EXP(ETA(3))
PHI = LOG(THETA(4)/(1-THETA(4))) + ETA(4)
IMAX = 1/(1+EXP(-PHI))
A_0(3) = 100
$DES
CC = A(2)/V
FACTOR = 1 + 0.1*T
IF (V.GT.100) FACTOR = 2
DADT(1) = -KA*A(1)
DADT(2) = KA*A(1) - CL/V*A(2)
DADT(3) = FACTOR*5*(1 - IMAX*CC/(CC + 0.9)) - 0.05*A(3)
$ERROR
Y = A(3) + THETA(5)*EPS(1)
$THETA (0,1.5) (0,1.5) (0,1.5) (0,0.6,1) (0,0.7)
$OMEGA 0.25 0.25 0.25 0.25
$SIGMA 1 FIX
"""


def test_theophylline_like_model(tmp_path: Path) -> None:
    one, data = projects.read(
        tmp_path,
        DATA,
        individual={**projects.INDIVIDUAL, "Cl": CLEARANCE},
        header=HEADER,
        content=CONTENT,
        covariate=COVARIATE,
        correlation="correlation = {level=id, r(V, Cl)=corr}",
        parameters=f"{BETAS}\n{CORRELATION}",
    )
    other = parse_model(ORAL, str(tmp_path / "p.ctl"))
    records = read_data(other)
    assert isinstance(one.dynamics, LinearDynamics) and isinstance(other.dynamics, LinearDynamics)
    assert [t.initial for t in one.thetas] == [t.initial for t in other.thetas]
    assert [(t.lower, t.upper) for t in one.thetas] == [(t.lower, t.upper) for t in other.thetas]
    np.testing.assert_allclose(matrix(one.omega), matrix(other.omega), rtol=1e-15)
    assert matrix(one.sigma) == matrix(other.sigma) == [[1.0]] and one.sigma[0].fixed
    assert one.dynamics.default_dose == other.dynamics.default_dose == 1
    assert {(t.source, t.target) for t in one.dynamics.transfers} == {
        (t.source, t.target) for t in other.dynamics.transfers
    }
    for column in ("TIME", "EVID", "MDV", "AMT", "RATE", "ADDL", "II", "SS"):
        np.testing.assert_array_equal(data.event[column], records.event[column])
    theta = np.array([1.1, 20.0, 1.7, 0.7, -0.3, 0.5])
    np.testing.assert_allclose(
        Simulation(one, data).predict(theta), Simulation(other, records).predict(theta), rtol=1e-10
    )
    found, expected = mu_references(one), mu_references(other)
    assert [m.eta for m in found] == [m.eta for m in expected] == [1, 2, 3]
    assert [[(t.theta, t.transform) for t in m.terms] for m in found] == [
        [(t.theta, t.transform) for t in m.terms] for m in expected
    ]
    assert [m.link for m in found] == ["log", "log", "log"]


def test_differential_equations(tmp_path: Path) -> None:
    one, data = projects.read(
        tmp_path,
        DATA,
        equations=TURNOVER,
        individual={
            **projects.INDIVIDUAL,
            "Imax": "{distribution=logitNormal, typical=imax, sd=omega_Imax}",
        },
        header=HEADER,
        error="y = {distribution=normal, prediction=E, errorModel=constant(a)}",
        parameters="imax = {value=0.6, method=MLE}",
    )
    other = parse_model(TURNOVER_ODE, str(tmp_path / "p.ctl"))
    records = read_data(other)
    assert isinstance(one.dynamics, OdeDynamics) and isinstance(other.dynamics, OdeDynamics)
    assert len(one.dynamics.compartments) == len(other.dynamics.compartments) == 3
    assert one.dynamics.relative_tolerance == other.dynamics.relative_tolerance
    theta = np.array([1.1, 20.0, 1.7, 0.9, 0.5])
    mine = Simulation(one, data).predict(theta)
    np.testing.assert_allclose(mine, Simulation(other, records).predict(theta), rtol=1e-10)
    assert mine.min() < 80  # the effect is there
    assert {m.eta: m.link for m in mu_references(one)} == {1: "log", 2: "log", 3: "log", 4: "logit"}


@pytest.mark.parametrize("language", ["mlxtran", "nmtran"])
def test_the_interval_between_records_takes_its_own_end(tmp_path: Path, language: str) -> None:
    """Regressors hold from a record on, NM-TRAN's data items up to it."""
    data = "ID,TIME,AMT,DV,K\n1,0,100,.,0.1\n1,1,.,1,0.5\n1,2,.,1,9\n"
    if language == "mlxtran":
        model, records = projects.read(
            tmp_path,
            data,
            header="ID, TIME, AMT, DV, K",
            content="K = {use=regressor}",
            inputs="K = {use=regressor}",
            individual={},
            equations="Cc = pkmodel(V=2, k=K)",
        )
        expected = 50 * np.exp([0.0, -0.1, -0.6])
    else:
        text = (
            "$PROBLEM\n$INPUT ID TIME AMT DV K0\n$DATA data.csv IGNORE=@\n$SUBROUTINES ADVAN1\n$PK\n"
            "K=K0+0*THETA(1)\n"
            "S1=2\n$ERROR\nY=F+EPS(1)\n$THETA 1\n$OMEGA 0 FIX\n$SIGMA 1\n"
        )
        (tmp_path / "data.csv").write_text(data)
        model = parse_model(text, str(tmp_path / "p.ctl"))
        records = read_data(model)
        expected = 50 * np.exp([0.0, -0.5, -9.5])
    np.testing.assert_allclose(Simulation(model, records).predict(np.array([0.7])), expected, rtol=1e-12)
