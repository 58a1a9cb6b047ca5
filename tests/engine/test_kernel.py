"""The numpy face of the kernel: draws, directions, threads, failures, and data that have no meaning."""

from __future__ import annotations

import numpy as np
import pytest
from support.event_runs import COLUMNS, control_stream, kernel, observations, row

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.dataset import DataSet
from elbomix.engine.kernel.kernel import Directions, Kernel
from elbomix.engine.kernel.status import describe
from elbomix.engine.kernel.subjects import Subjects
from elbomix.parsers.read import parse_model

PK = "$PK\nKA = THETA(1)*EXP(ETA(1))\nK = THETA(2)*EXP(ETA(2))\nALAG1 = THETA(3)*EXP(ETA(3))\n"
ERROR = "$ERROR\nY = F + ERR(1)\n"
LINEAR = "$SUBROUTINES ADVAN2 TRANS1\n" + PK + ERROR
SATURABLE = (
    "$SUBROUTINES ADVAN13 TOL=9\n$MODEL COMP=(DEPOT) COMP=(CENTRAL DEFOBS)\n"
    + PK
    + "$DES\nDADT(1) = -KA*A(1)\nDADT(2) = KA*A(1) - K*A(2)/(1 + A(2)/90)\n"
    + ERROR
)
THETA = np.array([0.9, 0.13, 0.7])


def several(body: str, n: int = 7) -> Kernel:
    rows: list[dict[str, float]] = []
    for i in range(1, n + 1):
        rows += [row(0, AMT=10.0 * i, II=6, ADDL=i, ID=i), *observations([1, 2.5, 5 + i, 20], ID=i)]
    return kernel(body, tuple(THETA), rows)


@pytest.mark.parametrize("body", [LINEAR, SATURABLE])
def test_any_number_of_threads_gives_the_same_digits(body: str) -> None:
    made = several(body)
    eta = np.random.default_rng(1).normal(0, 0.3, (5, 7, 3))
    one = made.evaluate(THETA, eta, "eta+theta", threads=1)
    for threads in (2, 3, 16):
        other = made.evaluate(THETA, eta, "eta+theta", threads=threads)
        assert (other.values == one.values).all()
        assert (other.derivatives == one.derivatives).all()


@pytest.mark.parametrize("body", [LINEAR, SATURABLE])
def test_draws_are_evaluated_one_by_one(body: str) -> None:
    made = several(body)
    eta = np.random.default_rng(2).normal(0, 0.3, (3, 7, 3))
    theta = THETA * np.array([[1.0], [1.1], [0.9]])
    together = made.evaluate(theta, eta, "eta")
    for draw in range(3):
        alone = made.evaluate(theta[draw], eta[draw], "eta")
        assert (alone.values[0] == together.values[draw]).all()
        assert (alone.derivatives[0] == together.derivatives[draw]).all()


def test_directions_are_linear_combinations() -> None:
    made = several(LINEAR)
    eta = np.zeros((7, 3))
    full = made.evaluate(THETA, eta, "eta+theta").derivatives
    rng = np.random.default_rng(3)
    dtheta, deta = rng.normal(size=(3, 2)), rng.normal(size=(3, 2))
    mixed = made.evaluate(THETA, eta, Directions(dtheta, deta)).derivatives
    np.testing.assert_allclose(mixed, full @ np.concatenate([deta, dtheta]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("body", [LINEAR, SATURABLE])
def test_values_do_not_depend_on_whether_derivatives_are_asked_for(body: str) -> None:
    made = several(body)
    plain = made.evaluate(THETA, np.zeros((7, 3)))
    with_derivatives = made.evaluate(THETA, np.zeros((7, 3)), "eta")
    assert plain.derivatives.shape[-1] == 0
    np.testing.assert_allclose(plain.values, with_derivatives.values, rtol=1e-13)


@pytest.mark.parametrize("body", [LINEAR, SATURABLE])
def test_the_event_pass_alone_gives_the_same_amounts(body: str) -> None:
    made = several(body)
    layout = made.compiled.layout
    names = [getattr(e, "name", "") for e in layout.psi[: layout.n_dynamic]]
    assert set(names) == {"KA", "K", "ALAG1"}
    slots = [names.index(n) for n in ("KA", "K", "ALAG1")]
    n = made.subjects.n_records
    psi, dpsi = np.empty((1, n, 1, 3)), np.zeros((1, n, 1, 3, 3))
    psi[..., slots] = THETA
    for i, slot in enumerate(slots):
        dpsi[..., slot, i] = THETA[i]
    amounts, damounts, status = made.amounts(psi, dpsi)
    whole = made.evaluate(THETA, np.zeros((7, 3)), "eta")
    assert (status == 0).all()
    response = layout.output_slot("Y")
    np.testing.assert_allclose(amounts[..., -1], whole.values[..., response], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        damounts[..., -1, :], whole.derivatives[..., response, :], rtol=1e-10, atol=1e-12
    )
    assert (amounts[..., 1] == amounts[..., -1]).all()


def test_a_subject_that_fails_leaves_the_others_alone() -> None:
    made = several(LINEAR)
    eta = np.zeros((1, 7, 3))
    eta[0, 4, 1] = np.nan
    found = made.evaluate(THETA, eta, "eta")
    assert (found.status[0] != 0).tolist() == [False] * 4 + [True] + [False] * 2
    mine = made.subjects.first[4], made.subjects.first[5]
    assert np.isnan(found.values[0, mine[0] : mine[1]]).all()
    fine = made.evaluate(THETA, np.zeros((7, 3)), "eta")
    rest = np.r_[0 : mine[0], mine[1] : made.subjects.n_records]
    assert (found.derivatives[0, rest] == fine.derivatives[0, rest]).all()


FAILING = {
    "ALAG1 = -1*THETA(3)": ("lag is negative", {}),
    "F1 = -THETA(3)": ("bioavailability is negative", {}),
    "D1 = -THETA(3)": ("duration of an infusion", {"RATE": -2.0}),
    "R1 = THETA(3)*0": ("rate of an infusion", {"RATE": -1.0}),
}


@pytest.mark.parametrize("statement", FAILING)
def test_dose_parameters_without_meaning_are_said_so(statement: str) -> None:
    message, items = FAILING[statement]
    pk = "$PK\nKA = THETA(1)*EXP(ETA(1))\nK = THETA(2)*EXP(ETA(2))\nX=ETA(3)\n"
    made = kernel(
        "$SUBROUTINES ADVAN2 TRANS1\n" + pk + statement + "\n" + ERROR,
        tuple(THETA),
        [row(0, AMT=10, **items), row(1)],
    )
    failure = made.evaluate(THETA, np.zeros((1, 3))).failure
    assert failure is not None
    assert message in failure.message
    assert failure.remedy


def test_every_status_has_words() -> None:
    for code in [*range(1, 5), *range(10, 17), 18, 19, 20, *range(101, 108)]:
        assert describe(code).message
        assert describe(code).remedy or code == 2, code


BAD = {
    "II) is negative": [row(0, AMT=10, II=-1)],
    "ADDL) need a positive interval": [row(0, AMT=10, ADDL=2)],
    "needs a positive interval": [row(0, AMT=10, SS=1)],
    "infusion without end and has no interval": [row(0, SS=1, RATE=5, II=8)],
    "SS must be": [row(0, AMT=10, SS=4, II=8)],
    "empirical steady state": [row(0, AMT=10, II=8, ADDL=-5)],
    "compartment 7 of a model with 2": [row(0, AMT=10, CMT=7)],
    "takes no doses": [row(0, AMT=10, CMT=3)],
    "time goes back": [row(5), row(2)],
    "RATE must be": [row(0, AMT=10, RATE=-3)],
    "asks for R1": [row(0, AMT=10, RATE=-1)],
    "asks for D2": [row(0, AMT=10, RATE=-2, CMT=2)],
    "cannot be turned off": [row(0, EVID=2, CMT=-2)],
}


@pytest.mark.parametrize("message", BAD)
def test_events_without_meaning_are_refused_at_their_line(message: str) -> None:
    rows = [*BAD[message], row(50)]
    model = parse_model(control_stream(LINEAR, tuple(THETA)))
    event = {n: np.array([r[n] for r in rows]) for n in COLUMNS if n not in ("ID", "WT", "DV")}
    event["MDV"] = (event["EVID"] > 0).astype(float)
    values = {n: np.array([r[n] for r in rows]) for n in COLUMNS}
    lines = np.arange(2, 2 + len(rows))
    data = DataSet("events.csv", values, event, np.zeros(len(rows), np.int64), np.array([1.0]), lines)
    with pytest.raises(ModelFailure, match=r"events\.csv:\d+: subject 1: ") as caught:
        Kernel(several(LINEAR, 1).compiled, Subjects.build(model, data))
    assert message in str(caught.value)
