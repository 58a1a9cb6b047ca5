"""Derivatives through every kind of event, against differences of fourth order.

The tolerance of the nonlinear models is that of the integrator (1e-11) over the step of the differences.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.event_runs import derivative_errors, observations, row

PARAMETERS = """
$PK
KA = THETA(1)*EXP(ETA(1))
K = THETA(2)*EXP(ETA(2))
V = THETA(3)*EXP(ETA(3))
X = THETA(4)*EXP(ETA(4))
S2 = V
"""
LINEAR = "$SUBROUTINES ADVAN2 TRANS1\n"
EXPONENTIAL = "$SUBROUTINES ADVAN7 TRANS1\n$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS)\n"
NONLINEAR = "$SUBROUTINES ADVAN13 TOL=12\n$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS)\n"
EQUATIONS = """
$DES
DADT(1) = -KA*A(1)
DADT(2) = KA*A(1) - K*A(2)/(1 + A(2)/400)
"""
ERROR = "$ERROR\nY = F + ERR(1)\n"
THETA = (0.9, 0.13, 12.0, 1.7)
TIMES = [0.4, 1.1, 2.3, 4.2, 7.7, 13.0, 18.1, 25.0]

# name -> PK statements with X, dose records
CASES: dict[str, tuple[str, list[dict[str, float]]]] = {
    "bolus with lag": ("ALAG1 = X", [row(0, AMT=100)]),
    "bolus with lag into a filled centre": ("ALAG2 = X", [row(0, AMT=50, CMT=2, II=5, ADDL=3)]),
    "bioavailability": ("F1 = X/3", [row(0, AMT=100, II=6, ADDL=2)]),
    "bioavailability of an infusion": ("F2 = X/3", [row(0, AMT=100, RATE=20, CMT=2)]),
    "infusion with lag": ("ALAG2 = X", [row(0, AMT=80, RATE=20, CMT=2, II=9, ADDL=1)]),
    "modelled rate": ("R2 = 10*X", [row(0, AMT=80, RATE=-1, CMT=2, II=4, ADDL=2)]),
    "modelled duration": ("D2 = 2*X", [row(0, AMT=80, RATE=-2, CMT=2, II=9, ADDL=1)]),
    "duration, lag and bioavailability": (
        "D1 = 2*X\nALAG1 = X/3\nF1 = 1/(1+X)",
        [row(0, AMT=80, RATE=-2, II=9, ADDL=1)],
    ),
    "rate, lag and bioavailability": (
        "R1 = 9*X\nALAG1 = X/3\nF1 = 1/(1+X)",
        [row(0, AMT=80, RATE=-1, II=9, ADDL=1)],
    ),
    "initial amounts": ("A_0(1) = 20*X\nA_0(2) = 5*X**2", [row(8, AMT=10)]),
    "a model time": (
        "MTIME(1) = 3*X\nKA = KA*(1 + MPAST(1))\nK = K*(1 - 0.5*MPAST(1))",
        [row(0, AMT=100), row(0, AMT=50, CMT=2)],
    ),
    "two model times in any order": (
        "MTIME(1) = 3*X\nMTIME(2) = X\nK = K*(1 + MPAST(2) - 1.5*MPAST(1)*MNEXT(1) - MPAST(1))",
        [row(0, AMT=100, II=3, ADDL=2), row(0, AMT=50, CMT=2)],
    ),
}
STEADY: dict[str, tuple[str, list[dict[str, float]]]] = {
    "bolus": ("F1 = X/3", [row(0, AMT=100, SS=1, II=7)]),
    "bolus with lag": ("ALAG1 = X", [row(0, AMT=100, SS=1, II=7)]),
    "infusion": ("D2 = X", [row(0, AMT=60, SS=1, II=7, RATE=-2, CMT=2)]),
    "infusion with lag that runs over": (
        "D2 = 3*X\nALAG2 = X",
        [row(0, AMT=60, SS=1, II=6, RATE=-2, CMT=2, ADDL=1)],
    ),
    "infusion longer than three intervals": ("R2 = X", [row(0, AMT=25, SS=1, II=4, RATE=-1, CMT=2)]),
    "without end": ("R2 = X", [row(0, SS=1, RATE=-1, CMT=2)]),
    "added to what is there": (
        "ALAG1 = X",
        [row(0, AMT=30, CMT=2), row(0.2, AMT=60, SS=2, II=6, ADDL=1)],
    ),
}


def check(body: str, doses: list[dict[str, float]], tolerance: float) -> None:
    rows = sorted([*doses, *observations(TIMES)], key=lambda r: r["TIME"])
    exact, differences = derivative_errors(body, THETA, rows)
    scale = np.abs(differences).max(axis=0) + 1e-3
    assert np.isfinite(exact).all()
    np.testing.assert_array_less(np.abs(exact - differences) / scale, tolerance)


@pytest.mark.parametrize("name", CASES)
def test_linear(name: str) -> None:
    more, doses = CASES[name]
    check(LINEAR + PARAMETERS + more + "\n" + ERROR, doses, 1e-8)


@pytest.mark.parametrize("name", CASES)
def test_nonlinear(name: str) -> None:
    more, doses = CASES[name]
    check(NONLINEAR + PARAMETERS + more + EQUATIONS + ERROR, doses, 1e-6)


@pytest.mark.parametrize("name", STEADY)
def test_linear_steady_state(name: str) -> None:
    more, doses = STEADY[name]
    check(LINEAR + PARAMETERS + more + "\n" + ERROR, doses, 1e-8)


@pytest.mark.parametrize("name", STEADY)
def test_nonlinear_steady_state(name: str) -> None:
    more, doses = STEADY[name]
    check(NONLINEAR + PARAMETERS + more + EQUATIONS + ERROR, doses, 1e-6)


def test_a_lag_beyond_the_interval_of_a_steady_state() -> None:
    body = LINEAR + PARAMETERS + "ALAG2 = 4*X\nD2 = X\n" + ERROR
    check(body, [row(0, AMT=60, SS=1, II=3, RATE=-2, CMT=2)], 1e-8)


OUTPUT = """
$SUBROUTINES ADVAN2 TRANS1
$PK
KA = THETA(1)*EXP(ETA(1))
K = THETA(2)*EXP(ETA(2))
V = THETA(3)*EXP(ETA(3))
X = THETA(4)*EXP(ETA(4))
ALAG1 = X
D2 = X
F0 = 1/(1 + X)
S3 = V
$ERROR
Y = F + ERR(1)
"""


def test_the_output_compartment() -> None:
    doses = [row(0, EVID=2, CMT=3), row(0, AMT=40, II=5, ADDL=2), row(1, AMT=30, RATE=-2, CMT=2)]
    rows = sorted([*doses, *observations(TIMES, CMT=3)], key=lambda r: r["TIME"])
    exact, differences = derivative_errors(OUTPUT, THETA, rows)
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(exact, differences, rtol=1e-7, atol=1e-8)
