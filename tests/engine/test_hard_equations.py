"""Equations that integrators find hard, from control stream to sensitivities, against scipy at 1e-12."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from support.streams import read

from elbomix.engine.kernel.compile import compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.subjects import Subjects

Array = NDArray[np.float64]
TOL = 6


@dataclass(frozen=True)
class Case:
    """Equations in NM-TRAN and in Python, one dose and its repeats, and the amount that is looked at."""

    theta: tuple[float, ...]
    code: str
    slopes: Callable[[float, Array, Array], list[float]]
    initial: tuple[float, ...]
    times: tuple[float, ...]
    observed: int
    nothing: float  # what an amount is compared with at least
    dose: float = 0.0
    additional: int = 0
    interval: float = 0.0


def binding(t: float, y: Array, p: Array) -> list[float]:
    bound = p[1] * y[1] * y[2] - p[2] * y[3]
    return [
        -0.5 * y[0],
        0.5 * y[0] - p[0] * y[1] - bound,
        1.0 - 0.1 * y[2] - bound,
        bound - p[3] * y[3],
    ]


def infection(t: float, y: Array, p: Array) -> list[float]:
    new = p[0] * y[0] * y[2]
    return [-new, new - p[1] * y[1], p[2] * y[1] - p[3] * y[2]]


def saturable(t: float, y: Array, p: Array) -> list[float]:
    return [-p[0] * y[0], p[0] * y[0] - p[1] * y[1] / (p[2] + y[1])]


CASES = {
    "target-mediated disposition": Case(
        (0.05, 10.0, 1.0, 0.03),
        "A_0(3) = 10\n$DES\nB = THETA(2)*A(2)*A(3) - THETA(3)*A(4)\nDADT(1) = -0.5*A(1)\n"
        "DADT(2) = 0.5*A(1) - THETA(1)*EXP(ETA(1))*A(2) - B\nDADT(3) = 1 - 0.1*A(3) - B\n"
        "DADT(4) = B - THETA(4)*A(4)\n",
        binding,
        (0.0, 0.0, 10.0, 0.0),
        (0.1, 1.0, 24.0, 72.0, 167.0, 168.5, 300.0, 504.5, 1000.0),
        2,
        0.0,
        100.0,
        3,
        168.0,
    ),
    "an infection over eight decades": Case(
        (2.7e-5, 4.0, 0.012, 3.0),
        "A_0(1) = 4E8\nA_0(3) = 0.1\n$DES\nNEW = THETA(1)*EXP(ETA(1))*A(1)*A(3)\nDADT(1) = -NEW\n"
        "DADT(2) = NEW - THETA(2)*A(2)\nDADT(3) = THETA(3)*A(2) - THETA(4)*A(3)\n",
        infection,
        (4e8, 0.0, 0.1),
        (0.5, 1.0, 2.0, 3.0, 5.0, 8.0),
        3,
        1e-3,
    ),
    "two hundred doses and a long washout": Case(
        (1.5, 20.0, 30.0),
        "X = ETA(1)\n$DES\nDADT(1) = -THETA(1)*EXP(X)*A(1)\n"
        "DADT(2) = THETA(1)*EXP(X)*A(1) - THETA(2)*A(2)/(THETA(3) + A(2))\n",
        saturable,
        (0.0, 0.0),
        (1.0, 11.0, 600.5, 2388.5, 2400.0, 6000.0),
        2,
        1e-6,
        100.0,
        199,
        12.0,
    ),
}


def solution(case: Case, p: Array) -> Array:
    """Return the amount looked at, [time]."""
    starts = [k * case.interval for k in range(case.additional + 1)] if case.dose else []
    y, t, found = np.array(case.initial), 0.0, []
    for end in sorted({*starts, *case.times}):
        if end > t:
            solved = solve_ivp(
                case.slopes, (t, end), y, "LSODA", args=(p,), rtol=1e-12, atol=1e-3 * case.nothing + 1e-13
            )
            assert solved.success
            y, t = solved.y[:, -1].copy(), end
        if end in case.times:
            found.append(y[case.observed - 1])
        if end in starts:
            y[0] += case.dose
    return np.array(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_predictions_and_sensitivities(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    n = len(case.initial)
    first = {"ID": 1, "TIME": 0.0, "AMT": case.dose, "ADDL": case.additional, "II": case.interval, "EVID": 1}
    rows = [first if case.dose else {"ID": 1, "TIME": 0.0, "AMT": 0.0, "ADDL": 0, "II": 0.0, "EVID": 2}]
    rows += [{"ID": 1, "TIME": t, "AMT": 0.0, "ADDL": 0, "II": 0.0, "EVID": 0} for t in case.times]
    stream = (
        "$PROBLEM p\n$INPUT {columns} DV=DROP\n$DATA {file} IGNORE=@\n"
        f"$SUBROUTINES ADVAN13 TOL={TOL}\n$MODEL {' '.join(f'COMP=(C{i})' for i in range(n))}\n$PK\n"
        f"{case.code}$ERROR\nF1 = A({case.observed})\nY = F1 + EPS(1)\n"
        f"$THETA {' '.join(map(repr, case.theta))}\n$OMEGA 0.1\n$SIGMA 1\n"
    ).replace(" DV=DROP", "")
    for row in rows:
        row["DV"] = 0.0
    model, data = read(tmp_path, stream, rows)
    kernel = Kernel(compile_kernel(model), Subjects.build(model, data))
    theta = np.array(case.theta)
    made = kernel.evaluate(theta, np.zeros((1, 1)), "eta+theta")
    assert made.failure is None
    slot = made.layout.output_slot("Y")
    assert slot is not None
    exact = solution(case, theta)
    scale = np.abs(exact) + case.nothing
    # each step may leave one tolerance, and errors of some hundred steps cancel or die out in part
    np.testing.assert_allclose(made.values[0, 1:, slot] / scale, exact / scale, atol=5 * 10.0**-TOL)
    for j in range(len(theta)):
        h = 1e-4 * theta[j]
        moved = [solution(case, theta + s * h * np.eye(len(theta))[j]) for s in (1, -1)]
        slope = (moved[0] - moved[1]) / 2e-4
        size = np.maximum(np.abs(slope), scale)
        # and 1e-6 for the differences, whose error is of the order of the square of 1e-4
        np.testing.assert_allclose(
            theta[j] * made.derivatives[0, 1:, slot, 1 + j] / size, slope / size, atol=6 * 10.0**-TOL
        )
