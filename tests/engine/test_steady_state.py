"""Steady states against very many doses, closed forms, and the equations themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.event_runs import kernel, observations, row, run

TIMES = [0.0, 0.9, 2.2, 4.4, 7.0, 11.0, 19.0, 30.0]
KA, K, V, LAG = 0.9, 0.13, 12.0, 1.9

PARAMETERS = """
$PK
KA = THETA(1)*EXP(ETA(1))
K = THETA(2)*EXP(ETA(2))
S2 = THETA(3)*EXP(ETA(3))
X = THETA(4)*EXP(ETA(4))
"""
ODE = "$SUBROUTINES ADVAN13 TOL=10\n$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS)\n" + PARAMETERS
ERROR = "$ERROR\nY = F + ERR(1)\n"
EQUATIONS = "$DES\nDADT(1) = -KA*A(1)\nDADT(2) = KA*A(1) - K*A(2){}\n"
BODIES: dict[str, Callable[[str], str]] = {
    "linear": lambda more: "$SUBROUTINES ADVAN2 TRANS1\n" + PARAMETERS + more + ERROR,
    # the time in the equation keeps it from being seen as linear
    "equations": lambda more: ODE + more + EQUATIONS.format("*(1 + 0*T)") + ERROR,
    "saturable": lambda more: ODE + more + EQUATIONS.format("/(1 + A(2)/400)") + ERROR,
}

REGIMENS: dict[str, dict[str, float]] = {
    "bolus": {"AMT": 60, "II": 6, "CMT": 2},
    "oral": {"AMT": 60, "II": 6, "ADDL": 2},
    "infusion": {"AMT": 60, "II": 6, "RATE": 15, "CMT": 2},
    "infusion as long as the interval": {"AMT": 60, "II": 6, "RATE": 10, "CMT": 2},
    "infusion longer than the interval": {"AMT": 60, "II": 6, "RATE": 8, "CMT": 2, "ADDL": 1},
    "infusion over many intervals": {"AMT": 10, "II": 1, "RATE": 2.2, "CMT": 2},
}


def many(regimen: dict[str, float], count: int) -> dict[str, float]:
    """The same doses, ``count`` of them before the one at time 0."""
    regimen = {"ADDL": 0.0} | regimen
    return regimen | {"ADDL": regimen["ADDL"] + count}


@pytest.mark.parametrize("name", REGIMENS)
@pytest.mark.parametrize("model", BODIES)
@pytest.mark.parametrize("lag", ["", "ALAG1 = X\nALAG2 = X/2\n"])
def test_it_is_where_many_doses_lead(model: str, name: str, lag: str) -> None:
    body, theta = BODIES[model](lag), (KA, K, V, LAG / 2)
    regimen = REGIMENS[name]
    times = [t + 0.01 for t in TIMES]
    at_once = run(body, theta, [row(0, SS=1, **regimen), *observations(times)])
    count = round(360 / regimen["II"])
    start = -count * regimen["II"]
    slowly = run(body, theta, [row(start, **many(regimen, count)), *observations(times)])
    np.testing.assert_allclose(at_once[1:], slowly[1:], rtol=1e-7)


@pytest.mark.parametrize("model", BODIES)
def test_the_dose_record_itself_shows_the_dose(model: str) -> None:
    found = run(BODIES[model](""), (KA, K, V, 1.0), [row(3, SS=1, AMT=60, II=6, CMT=2), row(9 - 1e-9)])
    assert found[0] - found[1] == pytest.approx(60 / V, rel=1e-6)


def test_a_bolus_has_its_geometric_series() -> None:
    rows = [row(0, SS=1, AMT=60, II=6, CMT=2), row(1)]
    found = run(BODIES["linear"](""), (KA, K, V, 1.0), rows)
    assert found[0] == pytest.approx(60 / V / (1 - np.exp(-6 * K)), rel=1e-12)


@pytest.mark.parametrize("model", BODIES)
def test_two_regimens_add_up_in_a_linear_model(model: str) -> None:
    theta = (KA, K, V, 1.0)
    rows = [row(0, SS=1, AMT=60, II=12), row(4, SS=2, AMT=25, II=12, CMT=2), *observations([5, 9, 11.9])]
    doses = [row(-600, AMT=60, II=12, ADDL=50), row(-596, AMT=25, II=12, CMT=2, ADDL=50)]
    slowly = run(BODIES[model](""), theta, [*doses, *observations([5, 9, 11.9])])
    found = run(BODIES[model](""), theta, rows)
    if model == "saturable":
        assert (np.abs(found[2:] / slowly[2:] - 1) > 1e-3).any()
    else:
        np.testing.assert_allclose(found[2:], slowly[2:], rtol=1e-9)


@pytest.mark.parametrize("model", BODIES)
@pytest.mark.parametrize("compartment", [1, 2])
def test_an_infusion_without_end_balances_elimination(model: str, compartment: int) -> None:
    rows = [row(0, SS=1, RATE=4, CMT=compartment), *observations([3])]
    found = run(BODIES[model](""), (KA, K, V, 1.0), rows)
    amount = 4 / K if model != "saturable" else 4 / (K - 4 / 400)
    assert found[0] == pytest.approx(amount / V, rel=1e-9)
    assert found[1] < found[0]  # it ends at the record


def test_steady_state_of_what_the_model_makes_by_itself() -> None:
    body = """
$SUBROUTINES ADVAN13 TOL=10
$MODEL COMP=(RESPONSE)
$PK
KIN = THETA(1)*EXP(ETA(1))
KOUT = THETA(2)*EXP(ETA(2))
$DES
DADT(1) = KIN - KOUT*A(1)**1.5
$ERROR
Y = F + ERR(1)
"""
    found = run(body, (3.0, 0.4), [row(0, SS=1, EVID=1), *observations([10])])
    np.testing.assert_allclose(found, (3.0 / 0.4) ** (2 / 3), rtol=1e-9)


def test_ss_3_begins_its_search_at_the_present_amounts() -> None:
    # two steady states without input: 0 and 100; only the nearer one is found
    body = """
$SUBROUTINES ADVAN13 TOL=10
$MODEL COMP=(GROWING)
$PK
R = THETA(1)*EXP(ETA(1))
$DES
DADT(1) = R*A(1)*(1 - A(1)/100)
$ERROR
Y = F + ERR(1)
"""
    rows = [row(0, AMT=80), row(1, SS=3, EVID=1), *observations([1])]
    np.testing.assert_allclose(run(body, (0.3,), rows)[2], 100.0, rtol=1e-8)


def test_what_nothing_eliminates_has_no_steady_state() -> None:
    body = "$SUBROUTINES ADVAN2 TRANS1\n$PK\nKA=THETA(1)*EXP(ETA(1))\nK=0*ETA(1)\n$ERROR\nY=F+ERR(1)\n"
    made = kernel(body, (1.0,), [row(0, SS=1, AMT=10, II=8), *observations([3])])
    predictions = made.evaluate(np.array([1.0]), np.zeros((1, 1)))
    assert predictions.failure is not None
    assert "no single steady state" in predictions.failure.message
    assert np.isnan(predictions.values).all()


def test_more_input_than_can_be_eliminated_has_no_steady_state() -> None:
    made = kernel(
        BODIES["saturable"](""), (KA, K, V, 1.0), [row(0, SS=1, AMT=600, II=8, CMT=2), *observations([3])]
    )
    predictions = made.evaluate(np.array([KA, K, V, 1.0]), np.zeros((1, 4)))
    assert predictions.failure is not None
    assert "steady state" in predictions.failure.message.lower()
