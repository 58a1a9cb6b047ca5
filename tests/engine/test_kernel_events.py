"""The event loop against superposition in plain numpy, scipy's integrator, and itself said otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.linalg import expm
from support.event_runs import observations, row, run

Array = NDArray[np.float64]

KA, K, V = 0.9, 0.13, 12.0
K20, K23, K32 = 0.11, 0.34, 0.21

ORAL = """
$SUBROUTINES ADVAN2 TRANS1
$PK
KA = THETA(1)*EXP(ETA(1))
K = THETA(2)*EXP(ETA(2))
S2 = THETA(3)*EXP(ETA(3))
$ERROR
Y = F + ERR(1)
"""
TWO = """
$SUBROUTINES ADVAN4 TRANS1
$PK
KA = THETA(1)*EXP(ETA(1))
K = THETA(2)*EXP(ETA(2))
K23 = THETA(3)*EXP(ETA(3))
K32 = THETA(4)*EXP(ETA(4))
$ERROR
Y = F + ERR(1)
"""
SATURABLE = """
$SUBROUTINES ADVAN13 TOL=11
$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS)
$PK
KA = THETA(1)*EXP(ETA(1))
VM = THETA(2)*EXP(ETA(2))
KM = THETA(3)*EXP(ETA(3))
$DES
DADT(1) = -KA*A(1)
DADT(2) = KA*A(1) - VM*A(2)/(KM + A(2))
$ERROR
Y = F + ERR(1)
"""
TIMES = [0.0, 0.7, 2.0, 5.5, 9.0, 12.0, 17.3, 24.0, 31.0, 40.0]


def oral(t: Array, dose: float, length: float = 0.0, compartment: int = 1) -> Array:
    """Concentration of a dose at time 0 into the depot or the centre, over ``length``; nothing before."""
    t = np.asarray(t, dtype=float)

    def integral(rate: float) -> Array:
        """Of exp(-rate s) over the part of the infusion before t, seen from t; exp(-rate t) for a bolus."""
        if length == 0.0:
            return np.where(t >= 0, np.exp(-rate * np.maximum(t, 0)), 0.0)
        end = np.minimum(t, length)
        return np.where(t > 0, (np.exp(-rate * (t - end)) - np.exp(-rate * t)) / (rate * length), 0.0)

    if compartment == 2:
        return dose * integral(K) / V
    return dose * KA / (KA - K) * (integral(K) - integral(KA)) / V


SCHEDULES: list[tuple[list[dict[str, float]], Callable[[Array], Array]]] = [
    ([row(0, AMT=100)], lambda t: oral(t, 100)),
    ([row(0, AMT=100, CMT=2)], lambda t: oral(t, 100, 0.0, 2)),
    ([row(0, AMT=100, RATE=20, CMT=2)], lambda t: oral(t, 100, 5.0, 2)),
    ([row(0, AMT=100, RATE=8)], lambda t: oral(t, 100, 12.5)),
    ([row(0, AMT=50, II=8, ADDL=3)], lambda t: sum((oral(t - 8 * i, 50) for i in range(4)), 0 * t)),
    (
        [row(0, AMT=50, RATE=5, II=6, ADDL=3, CMT=2)],
        lambda t: sum((oral(t - 6 * i, 50, 10.0, 2) for i in range(4)), 0 * t),
    ),
]


@pytest.mark.parametrize(("doses", "expected"), SCHEDULES)
def test_one_compartment_is_the_sum_over_its_doses(
    doses: list[dict[str, float]], expected: Callable[[Array], Array]
) -> None:
    found = run(ORAL, (KA, K, V), [*doses, *observations(TIMES)])
    np.testing.assert_allclose(found[1:], expected(np.array(TIMES)), rtol=1e-11, atol=1e-13)


def test_two_compartments_are_the_exponential_of_their_matrix() -> None:
    matrix = np.array([[-KA, 0, 0], [KA, -K20 - K23, K32], [0, K23, -K32]])
    start = np.array([70.0, 30.0, 0.0])
    rows = [row(0, AMT=70), row(0, AMT=30, CMT=2), *observations(TIMES)]
    found = run(TWO, (KA, K20, K23, K32), rows)
    expected = [(expm(matrix * t) @ start)[1] for t in TIMES]
    np.testing.assert_allclose(found[2:], expected, rtol=1e-11)


def test_a_nonlinear_model_is_its_equations_solved_between_the_events() -> None:
    ka, vm, km = 0.8, 9.0, 21.0
    rows = sorted(
        [
            row(0, AMT=100),
            row(3, AMT=40, RATE=16, CMT=2),
            row(10, AMT=60, II=7, ADDL=2),
            *observations(TIMES),
        ],
        key=lambda r: r["TIME"],
    )
    found = run(SATURABLE, (ka, vm, km), rows)
    jumps = {0.0: 100.0, 10.0: 60.0, 17.0: 60.0, 24.0: 60.0}
    marks = sorted({*jumps, 3.0, 5.5, *TIMES})
    y, states = np.zeros(2), {}
    for begin, end in zip(marks, [*marks[1:], marks[-1] + 1], strict=True):
        y = y + np.array([jumps.get(begin, 0.0), 0.0])
        states[begin] = y[1]
        rate = 16.0 if 3.0 <= begin < 5.5 else 0.0
        flow = lambda _, a, rate=rate: [-ka * a[0], ka * a[0] + rate - vm * a[1] / (km + a[1])]  # noqa: E731
        y = solve_ivp(flow, (begin, end), y, method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    expected = [states[r["TIME"]] for r in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-8)


ALIKE = {
    "additional doses written out": (
        [row(0, AMT=50, II=8, ADDL=3)],
        [row(8.0 * i, AMT=50) for i in range(4)],
    ),
    "an infusion in two halves": (
        [row(1, AMT=60, RATE=10, CMT=2)],
        [row(1, AMT=30, RATE=10, CMT=2), row(4, AMT=30, RATE=10, CMT=2)],
    ),
    "records without events": (
        [row(0, AMT=50)],
        [row(0, AMT=50), row(3.3, EVID=2), row(11.1, EVID=2)],
    ),
    "an infusion and its additional doses written out": (
        [row(0, AMT=60, RATE=10, II=4, ADDL=2, CMT=2)],
        [row(4.0 * i, AMT=60, RATE=10, CMT=2) for i in range(3)],
    ),
    "a reset and dose in two records": (
        [row(0, AMT=50), row(5, AMT=70, EVID=4)],
        [row(0, AMT=50), row(5, EVID=3), row(5, AMT=70)],
    ),
}


@pytest.mark.parametrize("case", ALIKE)
@pytest.mark.parametrize(("body", "theta"), [(ORAL, (KA, K, V)), (SATURABLE, (0.8, 9.0, 21.0))])
def test_the_same_said_otherwise_is_the_same(body: str, theta: tuple[float, ...], case: str) -> None:
    results = []
    for doses in ALIKE[case]:
        rows = sorted([*doses, *observations([t + 0.05 for t in TIMES])], key=lambda r: r["TIME"])
        results.append(run(body, theta, rows)[[r["EVID"] == 0 for r in rows]])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-8 if body is SATURABLE else 1e-12, atol=1e-12)


def test_identities_and_order_of_subjects_do_not_matter() -> None:
    one = [row(0, AMT=50, ID=1), *observations(TIMES, ID=1)]
    two = [row(0, AMT=30, CMT=2, ID=2), *observations(TIMES, ID=2)]
    renamed = [r | {"ID": 9.0} for r in two] + [r | {"ID": 3.0} for r in one]
    first, second = run(ORAL, (KA, K, V), one + two), run(ORAL, (KA, K, V), renamed)
    assert (first == np.concatenate([second[len(two) :], second[: len(two)]])).all()


def test_units_of_amount_and_time_do_not_matter() -> None:
    rows = [row(0, AMT=50, II=8, ADDL=3), *observations(TIMES)]
    hours = run(ORAL, (KA, K, V), rows)
    scaled = [r | {"TIME": r["TIME"] * 60, "II": r["II"] * 60, "AMT": r["AMT"] * 1000} for r in rows]
    minutes = run(ORAL, (KA / 60, K / 60, V), scaled)
    np.testing.assert_allclose(minutes, 1000 * hours, rtol=1e-11)


def test_an_additional_dose_enters_before_a_record_at_its_time() -> None:
    rows = [row(0, AMT=50, II=0.1, ADDL=5, CMT=2), *observations([0.3])]
    expected = sum(oral(np.array([0.3 - 0.1 * i + 1e-12]), 50, 0.0, 2) for i in range(4))
    np.testing.assert_allclose(run(ORAL, (KA, K, V), rows)[1:], expected, rtol=1e-10)


def test_a_dose_record_acts_on_the_records_that_follow_it_in_the_file() -> None:
    rows = [row(0, AMT=20, CMT=2), *observations([5]), row(5, AMT=50, CMT=2), *observations([5])]
    found = run(ORAL, (KA, K, V), rows)
    before = oral(np.array([5.0]), 20, 0.0, 2)[0]
    np.testing.assert_allclose(found[[1, 3]], [before, before + 50 / V], rtol=1e-12)


def test_a_reset_cancels_what_waits_and_lets_time_begin_again() -> None:
    rows = [
        row(0, AMT=60, RATE=2, II=6, ADDL=9, CMT=2),
        row(7, EVID=3),
        *observations([8]),
        row(1, AMT=50, EVID=4),
        *observations([4]),
    ]
    found = run(ORAL, (KA, K, V), rows)
    np.testing.assert_allclose(found[2], 0.0, atol=1e-15)
    np.testing.assert_allclose(found[4], oral(np.array([3.0]), 50)[0], rtol=1e-11)


def test_the_record_at_its_end_rules_an_interval() -> None:
    body = ORAL.replace("K = THETA(2)*EXP(ETA(2))", "K = THETA(2)*EXP(ETA(2))*WT")
    rows = [row(0, AMT=50, CMT=2), row(4, EVID=2, WT=3), *observations([6], WT=2)]
    found = run(body, (KA, K, V), rows)
    np.testing.assert_allclose(found, 50 / V * np.exp([0, -12 * K, -16 * K]), rtol=1e-12)
