"""Records that only look, read from sums of exponentials, against moving the state from record to record."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from support.event_runs import kernel, row

from elbomix.engine.kernel.kernel import Kernel

Array = NDArray[np.float64]

# advan, parameters with their typical values
MODELS = {
    "one": ("ADVAN1 TRANS2", {"CL": 4.0, "V": 30.0}, "S1=V"),
    "one-oral": ("ADVAN2 TRANS2", {"CL": 4.0, "V": 30.0, "KA": 1.1}, "S2=V"),
    "two": ("ADVAN3 TRANS4", {"CL": 4.0, "V1": 30.0, "Q": 6.0, "V2": 50.0}, "S1=V1"),
    "two-oral": ("ADVAN4 TRANS4", {"CL": 4.0, "V2": 30.0, "Q": 6.0, "V3": 50.0, "KA": 1.1}, "S2=V2"),
    "three": (
        "ADVAN11 TRANS4",
        {"CL": 4.0, "V1": 30.0, "Q2": 6.0, "V2": 50.0, "Q3": 1.0, "V3": 80.0},
        "S1=V1",
    ),
    "three-oral": (
        "ADVAN12 TRANS4",
        {"CL": 4.0, "V2": 30.0, "Q3": 6.0, "V3": 50.0, "Q4": 1.0, "V4": 80.0, "KA": 1.1},
        "S2=V2",
    ),
}

KINDS = {"look": 0.7, "bolus": 0.1, "infusion": 0.06, "repeated": 0.05, "reset": 0.03, "other": 0.06}


def body(name: str, covariate: bool, amounts: bool, scaled: bool = True) -> str:
    """The model; with a covariate that changes on the way, and an amount that the observation model reads."""
    advan, values, scale = MODELS[name]
    lines = [f"{p}=THETA({i})*EXP(ETA({i}))" for i, p in enumerate(values, start=1)]
    if covariate:
        lines.append("CL=CL*WT**0.75")
    response = "Y=F+0.01*A(2)+EPS(1)" if amounts else "Y=F*(1+EPS(1))"
    return "\n".join([f"$SUBROUTINES {advan}", "$PK", *lines, *[scale] * scaled, "$ERROR", response])


def events(generator: np.random.Generator, subjects: int, covariate: bool) -> list[dict[str, float]]:
    """Random records: doses at once, infused, repeated, into any compartment, resets, and observations."""
    rows = []
    for subject in range(subjects):
        time = 0.0
        weight = 1.0
        for _ in range(30):
            time += float(generator.choice([0.0, 1e-4, 0.01, 0.3, 2.0, 9.0]))
            if covariate and generator.random() < 0.3:
                weight = float(generator.uniform(0.5, 2.0))
            kind = generator.choice(list(KINDS), p=list(KINDS.values()))
            items = {"ID": subject + 1.0, "WT": weight, "DV": 1.0}
            if kind == "bolus":
                items |= {"AMT": 100.0, "CMT": float(generator.integers(1, 3))}
            elif kind == "infusion":
                items |= {"AMT": 80.0, "RATE": 40.0, "CMT": 1.0}
            elif kind == "repeated":
                items |= {"AMT": 50.0, "II": 3.0, "ADDL": 2.0, "CMT": 1.0}
            elif kind == "reset":
                items |= {"EVID": 3.0}
            elif kind == "other":
                items |= {"EVID": 2.0, "CMT": 2.0}
            rows.append(row(time, **items))
    return rows


def moved(made: Kernel) -> Kernel:
    """The same kernel, in which no record only looks."""
    other = Kernel(made.compiled, made.subjects)
    other.events.quiet[:] = 0
    return other


def apart(found: Array, wanted: Array, first: NDArray[np.int64]) -> float:
    """The largest difference relative to the largest value of the subject, by column."""
    worst = 0.0
    for begin, end in itertools.pairwise(first):
        scale = np.abs(wanted[:, begin:end]).max(axis=1, keepdims=True) + 1e-300
        worst = max(worst, float((np.abs(found[:, begin:end] - wanted[:, begin:end]) / scale).max()))
    return worst


@pytest.mark.parametrize("amounts", [False, True], ids=["F", "F and A"])
@pytest.mark.parametrize("covariate", [False, True], ids=["constant", "covariate"])
@pytest.mark.parametrize("name", [n for n in MODELS if n != "one"])
def test_looking_is_moving(name: str, covariate: bool, amounts: bool) -> None:
    """On random event tables, at random parameters: predictions, and their derivatives to etas and thetas."""
    generator = np.random.default_rng(len(name) + 10 * covariate + 20 * amounts)
    theta = np.array(list(MODELS[name][1].values()))
    made = kernel(body(name, covariate, amounts), theta.tolist(), events(generator, 40, covariate))
    other = moved(made)
    assert made.events.quiet.any() and not other.events.quiet.any()
    eta = 0.5 * generator.standard_normal((2, 40, theta.size))
    found, wanted = (k.evaluate(theta, eta, "eta+theta") for k in (made, other))
    assert found.failure is None and wanted.failure is None
    first = made.subjects.first
    # sums of exponentials may lose a factor of 1 / (APART CANCELS) in digits, their derivatives its square
    assert apart(found.values, wanted.values, first) < 1e-13
    assert apart(found.derivatives, wanted.derivatives, first) < 1e-12


@pytest.mark.parametrize("name", [n for n in MODELS if n != "one"])
def test_looking_is_moving_without_a_scale(name: str) -> None:
    """The prediction is the amount itself; tolerances as above."""
    generator = np.random.default_rng(len(name) + 40)
    theta = np.array(list(MODELS[name][1].values()))
    made = kernel(body(name, False, False, scaled=False), theta.tolist(), events(generator, 40, False))
    eta = 0.5 * generator.standard_normal((1, 40, theta.size))
    found, wanted = (k.evaluate(theta, eta, "eta") for k in (made, moved(made)))
    assert found.failure is None and wanted.failure is None
    assert apart(found.values, wanted.values, made.subjects.first) < 1e-13
    assert apart(found.derivatives, wanted.derivatives, made.subjects.first) < 1e-12


def test_a_compartment_turned_off_is_on_for_the_next_subject() -> None:
    """The linear system of the subject before, without the compartment, is not taken over."""
    theta = np.array(list(MODELS["two-oral"][1].values()))
    given = [row(0.0, ID=1.0, AMT=100.0, CMT=1.0), row(1.0, ID=1.0, DV=1.0)]
    off = [*given, row(1.0, ID=1.0, EVID=2.0, CMT=-1.0), row(5.0, ID=1.0, DV=1.0)]
    on = [row(0.0, AMT=100.0, CMT=1.0), row(5.0, DV=1.0)]
    both = [*off, *({**items, "ID": 2.0} for items in on)]
    after, alone = (kernel(body("two-oral", False, False), theta.tolist(), rows) for rows in (both, on))
    found = after.evaluate(theta, np.zeros((1, 2, 5)), "eta")
    wanted = alone.evaluate(theta, np.zeros((1, 1, 5)), "eta")
    np.testing.assert_array_equal(found.values[:, 4:], wanted.values)
    np.testing.assert_array_equal(found.derivatives[:, 4:], wanted.derivatives)
    assert found.values[0, 3, 0] != wanted.values[0, 1, 0]


@pytest.mark.parametrize("ratio", [0.0, 1e-9, 1e-3, 0.05, 0.11, 0.5])
def test_absorption_as_fast_as_elimination(ratio: float) -> None:
    """Rate constants that meet are no special case: near each other the state moves, apart it is read."""
    theta = np.array([3.0, 30.0, 0.1 * (1.0 + ratio)])
    rows = [row(0.0, AMT=100.0, CMT=1.0), *(row(t, DV=1.0) for t in (0.0, 1e-5, 0.01, 0.1, 1.0, 5.0, 30.0))]
    made = kernel(body("one-oral", False, False), theta.tolist(), rows)
    eta = np.zeros((1, 1, 3))
    found, wanted = (k.evaluate(theta, eta, "eta") for k in (made, moved(made)))
    # every record by itself: the small amounts soon after the dose keep their digits
    np.testing.assert_allclose(found.values, wanted.values, rtol=1e-13, atol=0.0)
    np.testing.assert_allclose(found.derivatives, wanted.derivatives, rtol=3e-11, atol=1e-13)
