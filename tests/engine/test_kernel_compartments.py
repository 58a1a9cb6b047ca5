"""Compartments on and off, the output compartment, initial amounts, model times, and whose values rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from support.event_runs import derivative_errors, kernel, row, run

from elbomix.engine.ir.compartment import OdeDynamics
from elbomix.engine.ir.expression import Theta
from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects

KA, K = 0.9, 0.13
PK = "$PK\nKA = THETA(1)*EXP(ETA(1))\nK = THETA(2)*EXP(ETA(2))\n"
ERROR = "$ERROR\nY = F + ERR(1)\n"
ADVAN2 = "$SUBROUTINES ADVAN2 TRANS1\n" + PK
# urine, off until a record turns it on, as a linear system and as equations
URINE = "$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS) COMP=(URINE INITIALOFF NODOSE)\n"
WAYS = {
    "linear": "$SUBROUTINES ADVAN7 TRANS1\n" + URINE + PK + "K12 = KA\nK23 = K\n" + ERROR,
    "equations": "$SUBROUTINES ADVAN13 TOL=11\n"
    + URINE
    + PK
    + "$DES\nDADT(1) = -KA*A(1)\nDADT(2) = KA*A(1) - K*A(2)*(1+0*T)\nDADT(3) = K*A(2)\n"
    + ERROR,
}


def central(t: float, dose: float = 100.0) -> float:
    return float(dose * KA / (KA - K) * (np.exp(-K * t) - np.exp(-KA * t))) if t > 0 else 0.0


def left(t: float, dose: float = 100.0) -> float:
    """What the body holds."""
    return float(central(t, dose) + dose * np.exp(-KA * t))


@pytest.mark.parametrize("way", WAYS)
def test_a_compartment_collects_from_when_it_is_on_until_it_is_off(way: str) -> None:
    rows = [
        row(0, AMT=100),
        row(2, CMT=3),  # off: nothing
        row(4, EVID=2, CMT=3),
        row(9, CMT=-3),  # observed, then emptied
        row(9, EVID=2, CMT=3),
        row(15, CMT=3),
        row(15, EVID=2, CMT=-3),
        row(20, CMT=3),
        row(20, CMT=2),
    ]
    found = run(WAYS[way], (KA, K), rows)
    expected = [0, left(4) - left(9), left(9) - left(15), 0, central(20)]
    np.testing.assert_allclose(found[[1, 3, 5, 7, 8]], expected, rtol=1e-8, atol=1e-9)


def test_the_output_compartment_collects_its_fraction() -> None:
    body = ADVAN2 + "F0 = 0.4\nS3 = 2\n" + ERROR
    rows = [
        row(0, AMT=100),
        row(1, AMT=30, RATE=10, CMT=2),
        row(3, EVID=2, CMT=3),
        row(8, CMT=-3),
        row(9, CMT=3),
        row(9, EVID=2, CMT=100),
        row(12, CMT=3),
    ]
    found = run(body, (KA, K), rows)

    def body_holds(t: float) -> float:
        end = min(t, 4.0)
        return float(left(t) + 10 / K * (np.exp(-K * (t - end)) - np.exp(-K * (t - 1))))

    entered = 30.0 - 20.0  # from 3 to 4
    expected = [(body_holds(3) + entered - body_holds(8)) * 0.2, 0, (body_holds(9) - body_holds(12)) * 0.2]
    np.testing.assert_allclose(found[[3, 4, 6]], expected, rtol=1e-11, atol=1e-12)


def test_a_compartment_turned_off_loses_what_it_holds_and_what_runs_into_it() -> None:
    rows = [
        row(0, AMT=100),
        row(1, AMT=50, RATE=5),
        row(3, EVID=2, CMT=-1),
        row(3, CMT=1),
        row(5, CMT=2),
        row(6, AMT=20),  # turns it on again
        row(7, CMT=1),
    ]
    found = run(ADVAN2 + ERROR, (KA, K), rows)
    running = 5 * (1 / K * (1 - np.exp(-K * 2)) - (np.exp(-K * 2) - np.exp(-KA * 2)) / (KA - K))
    np.testing.assert_allclose(found[3], 0.0, atol=1e-15)
    np.testing.assert_allclose(found[4], (central(3) + running) * np.exp(-2 * K), rtol=1e-11)
    np.testing.assert_allclose(found[6], 20 * np.exp(-KA), rtol=1e-12)


def test_a_compartment_that_others_depend_on_cannot_fill_while_it_is_off() -> None:
    body = (
        "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(ONE) COMP=(TWO)\n"
        + PK
        + "$DES\nDADT(1) = -K*A(1) + KA*A(2)\nDADT(2) = K*A(1) - KA*A(2)*(1+0*T)\n"
        + ERROR
    )
    made = kernel(body, (KA, K), [row(0, AMT=10), row(1, EVID=2, CMT=-2), row(2)])
    failure = made.evaluate(np.array([KA, K]), np.zeros((1, 2))).failure
    assert failure is not None
    assert "off would fill" in failure.message


def test_initial_amounts_hold_at_the_first_record_and_after_a_reset() -> None:
    body = (
        "$SUBROUTINES ADVAN13 TOL=11\n$MODEL COMP=(ONE)\n"
        + PK
        + "A_0(1) = KA*10*WT\n$DES\nDADT(1) = -K*A(1)\n"
        + ERROR
    )
    rows = [row(2), row(5), row(6, EVID=3, WT=2), row(8)]
    e = np.exp(-K * np.array([0, 3, 0, 2]))
    np.testing.assert_allclose(run(body, (KA, K), rows), 10 * KA * np.array([1, 1, 2, 2]) * e, rtol=1e-10)


def test_model_times_switch_parameters_and_flags() -> None:
    body = (
        "$SUBROUTINES ADVAN1 TRANS1\n$PK\nMTIME(1) = THETA(1)*EXP(ETA(1))\nMTIME(2) = THETA(2)*EXP(ETA(2))\n"
        "K = 0.1 + 0.2*MPAST(1) - 0.25*MPAST(2)\n"
        "$ERROR\nY = F + 1000*MPAST(1) + 10000*MNEXT(2) + ERR(1)\n"
    )
    rows = [row(0, AMT=100), row(2), row(5), row(12), row(12.5)]
    found = run(body, (3.0, 7.5), rows)
    amounts = 100 * np.exp(-np.array([0, 0.2, 0.9, 0.3 + 1.35 + 0.05 * 4.5, 0.3 + 1.35 + 0.05 * 5]))
    flags = np.array([0, 0, 11000, 1000, 1000])
    np.testing.assert_allclose(found, amounts + flags, rtol=1e-11)


def test_a_dose_keeps_what_its_record_said() -> None:
    body = "$SUBROUTINES ADVAN1 TRANS1\n$PK\nK = 0*THETA(1)*EXP(ETA(1))\nF1 = WT\nALAG1 = WT/2\n" + ERROR
    rows = [row(0, AMT=10, II=3, ADDL=2, WT=1), row(1, WT=5), row(4, WT=7), row(8, WT=9)]
    np.testing.assert_allclose(run(body, (1.0,), rows), [0, 10, 20, 30], rtol=1e-12)


def test_called_at_doses_the_individual_model_sees_the_next_record() -> None:
    body = (
        "$SUBROUTINES ADVAN1 TRANS1\n$PK\nCALLFL=-2\nK = 0*THETA(1)*EXP(ETA(1))\nF1 = WT\nALAG1 = 0.5\n"
        + ERROR
    )
    rows = [row(0, AMT=10, II=3, ADDL=2, WT=1), row(1, WT=2), row(4, WT=3), row(8, WT=4)]
    np.testing.assert_allclose(run(body, (1.0,), rows), [0, 20, 50, 90], rtol=1e-12)


def test_called_at_doses_infusions_take_the_duration_of_their_moment() -> None:
    body = "$SUBROUTINES ADVAN1 TRANS1\n$PK\nCALLFL=-2\nK = 0*THETA(1)*EXP(ETA(1))\nD1 = WT\n" + ERROR
    rows = [row(0, AMT=10, RATE=-2, II=5, ADDL=1, WT=2), row(1, WT=9), row(6, WT=4), row(7, WT=1)]
    np.testing.assert_allclose(run(body, (1.0,), rows), [0, 5, 12.5, 15], rtol=1e-12)


def test_a_variable_keeps_its_value_from_record_to_record() -> None:
    body = (
        "$SUBROUTINES ADVAN1 TRANS1\n$PK\nIF (NEWIND.NE.2) TOTAL = 0\nTOTAL = TOTAL + AMT\n"
        "K = THETA(1)*EXP(ETA(1))\n$ERROR\nY = TOTAL + ERR(1)\n"
    )
    rows = [row(0, AMT=10), row(1), row(2, AMT=5), row(3), row(0, AMT=2, ID=2), row(1, ID=2)]
    np.testing.assert_allclose(run(body, (1.0,), rows), [10, 10, 15, 15, 2, 2])


@pytest.mark.parametrize("start", [-3.0, 4.0])
def test_amounts_stand_still_before_the_start_time(start: float) -> None:
    body = (
        "$SUBROUTINES ADVAN13 TOL=11\n$MODEL COMP=(ONE)\n"
        + PK
        + "A_0(1) = 10\n$DES\nDADT(1) = -K*A(1)*(1+0*T)\n"
        + ERROR
    )
    rows = [row(0), row(2), row(6)]
    made = kernel(body, (start, K), rows)
    model = made.compiled.model
    assert isinstance(model.dynamics, OdeDynamics)
    dynamics = type(model.dynamics)(**(vars(model.dynamics) | {"start": Theta(1)}))
    model = model.replace(dynamics=dynamics)
    changed = Kernel(compile_kernel(model), Subjects.build(model, made.subjects.data))
    theta = np.array([start, K])
    found = changed.evaluate(theta, np.zeros((1, 2)), "eta+theta")
    elapsed = np.maximum(np.array([0, 2, 6]) - start, 0)
    expected = 10 * np.exp(-K * elapsed)
    np.testing.assert_allclose(found.of("Y")[0], expected, rtol=1e-10)
    slot = found.layout.output_slot("Y")
    np.testing.assert_allclose(
        found.derivatives[0, :, slot, 2], K * expected * (elapsed > 0), rtol=1e-9, atol=1e-12
    )


def test_the_record_at_its_start_can_rule_an_interval() -> None:
    body = "$SUBROUTINES ADVAN1 TRANS1\n$PK\nK = THETA(1)*EXP(ETA(1))*WT\n" + ERROR
    made = kernel(
        body, (K,), [row(0, AMT=50), row(4, EVID=2, WT=3), row(6, WT=2), row(6, WT=2), row(9, WT=2)]
    )
    model = made.compiled.model
    model = model.replace(inputs=replace(model.inputs, interval_value="start"))
    changed = Kernel(compile_kernel(model), made.subjects)
    found = changed.evaluate(np.array([K]), np.zeros((1, 1))).of("Y")[0]
    np.testing.assert_allclose(found, 50 * np.exp([0, -4 * K, -10 * K, -10 * K, -16 * K]), rtol=1e-12)


BINDING = (
    "$SUBROUTINES ADVAN15 TOL=10\n$MODEL COMP=(TOTAL) COMP=(FREE EQUILIBRIUM)\n"
    + PK
    + "{}$AESINITIAL\nINIT = 1\nA(2) = A(1)/2\n$AES\nE(2) = A(2) + 30*A(2)/(5 + A(2)) - A(1)\n"
    + "$DES\nDADT(1) = -K*A(2)\n"
    + ERROR
)


def free(total: float) -> float:
    """The amount that is not bound."""
    b = 35 - total
    return float((-b + np.sqrt(b * b + 20 * total)) / 2)


def test_an_equilibrium_compartment_solves_its_equation_at_every_record() -> None:
    rows = [row(0, AMT=100), row(0, CMT=2), row(4), row(4, CMT=2), row(5, AMT=50), row(5, CMT=2), row(9)]
    found = run(BINDING.format(""), (KA, K), rows)
    y, expected = 100.0, []
    for span in (4.0, 1.0, 4.0):
        flow = solve_ivp(lambda _, a: [-K * free(a[0])], (0, span), [y], rtol=1e-11, atol=1e-11)
        expected.append(y := float(flow.y[0, -1]))
        y += 50.0 * (len(expected) == 2)
    wanted = [100, free(100), expected[0], free(expected[0]), expected[1] + 50, free(expected[1] + 50)]
    np.testing.assert_allclose(found, [*wanted, expected[2]], rtol=1e-8)


def test_derivatives_go_through_equilibrium_compartments_and_steady_states() -> None:
    rows = [row(0, AMT=60, SS=1, II=6), row(2), row(2.5, CMT=2), row(8, CMT=2)]
    exact, differences = derivative_errors(BINDING.format("ALAG1 = KA\n"), (KA, K), rows)
    assert np.abs(exact).max() > 1
    np.testing.assert_allclose(exact, differences, rtol=1e-6, atol=1e-7)
