"""Closed form = matrix exponential = integrator on random event tables, amounts and derivatives.

One model in three forms. The matrix exponential is forced by a compartment that nothing flows into but that
no closed form allows for, the integrator by a quadratic term with coefficient zero.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.models import dataset, op, oral_model, var

from elbomix.engine.ir.compartment import (
    Compartment,
    LinearDynamics,
    OdeDynamics,
    OutputCompartment,
    Transfer,
)
from elbomix.engine.ir.expression import Amount, Expression, Number, Theta
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.parameter import ThetaParameter
from elbomix.engine.ir.statement import Assign
from elbomix.engine.kernel.compile import CompiledModel, compile_kernel
from elbomix.engine.kernel.kernel import Kernel
from elbomix.engine.kernel.linear.transfer_graph import plan_linear
from elbomix.engine.kernel.subjects import Subjects

Form = Literal["closed", "exponential", "ode"]
Row = dict[str, float]

NAMES = ("KA", "K10", "K12", "K21", "BIO", "LAG1", "LAG2", "RATE2", "TIME2", "START", "NIL")
THETA = np.array([1.1, 0.15, 0.4, 0.25, 0.8, 0.37, 0.21, 17.0, 1.7, 3.0, 0.0])
USED = len(NAMES) - 1  # NIL is no parameter


def model(form: Form) -> Model:
    compartments = [
        Compartment("DEPOT", bioavailability=var("BIO"), lag=var("LAG1")),
        Compartment(
            "CENTRAL", rate=var("RATE2"), duration=var("TIME2"), lag=var("LAG2"), initial=var("START")
        ),
        Compartment("OUTER"),
    ]
    ways = [(1, 2, "KA"), (2, 0, "K10"), (2, 3, "K12"), (3, 2, "K21")]
    if form == "exponential":
        compartments.append(Compartment("ASIDE"))
        ways += [(2, 4, "NIL"), (4, 0, "KA")]
    transfers = tuple(Transfer(source, target, var(rate)) for source, target, rate in ways)
    output = OutputCompartment(fraction=var("BIO"), initially_on=True)
    base = oral_model()
    extra = tuple(Assign(f"X{i}", Amount(i)) for i in (1, 2, 3))
    dynamics: LinearDynamics | OdeDynamics = LinearDynamics(tuple(compartments), transfers, 1, 2, output)
    if form == "ode":
        sums: dict[int, Expression] = {i: Number(0.0) for i in (1, 2, 3)}
        for source, target, rate in ways:
            flow = op(var(rate), "*", Amount(source))
            sums[source] = op(sums[source], "-", flow)
            if target:
                sums[target] = op(sums[target], "+", flow)
        sums[2] = op(sums[2], "+", op(var("NIL"), "*", op(Amount(2), "*", Amount(2))))
        statements = tuple(Assign(f"DADT({i})", total) for i, total in sums.items())
        dynamics = OdeDynamics(tuple(compartments), statements, 1, 2, 1e-11, 1e-11, output=output)
    return base.replace(
        thetas=tuple(ThetaParameter(name, value) for name, value in zip(NAMES, THETA, strict=True)),
        individual=tuple(Assign(name, Theta(i)) for i, name in enumerate(NAMES, start=1)),
        dynamics=dynamics,
        observation=replace(base.observation, statements=(*extra, *base.observation.statements)),
    )


@cache
def compiled(form: Form) -> CompiledModel:
    return compile_kernel(model(form))


def solved(form: Form, rows: list[Row]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Amounts [record, 4] (the last: what has left) and derivatives [record, 4, theta] at all records."""
    made = compiled(form)
    data = dataset(rows)
    kernel = Kernel(made, Subjects.build(made.model, data))
    eta = np.zeros((data.n_subjects, made.model.n_etas))
    found = kernel.evaluate(THETA, eta, "eta+theta")
    assert found.failure is None, found.failure
    slots = [made.layout.output_slot(name) for name in ("X1", "X2", "X3", "IPRED")]
    wanted = [slot for slot in slots if slot is not None]
    assert len(wanted) == 4
    thetas = slice(made.model.n_etas, made.model.n_etas + USED)
    return found.values[0][:, wanted], found.derivatives[0][:, wanted][:, :, thetas]


def test_the_three_forms_take_three_ways() -> None:
    for form, closed in (("closed", 1), ("exponential", 0)):
        made = compiled("closed" if form == "closed" else "exponential")
        assert isinstance(made.model.dynamics, LinearDynamics)
        assert plan_linear(made.layout.n_compartments, made.layout.transfers)[2] == closed
    assert isinstance(compiled("ode").model.dynamics, OdeDynamics)


@st.composite
def event_tables(draw: st.DrawFn, *, steady: bool = False) -> list[Row]:
    """Doses of every kind, resets and observations at times that no two events share."""
    generator = np.random.default_rng(draw(st.integers(0, 10**6)))
    kinds = ["oral", "bolus", "infusion", "rate", "duration", "series", "reset", "reset and dose", "nothing"]
    rows: list[Row] = []
    for subject in (1, 2):
        time = 0.0
        chosen = draw(st.lists(st.sampled_from([*kinds, *["steady"] * (2 * steady)]), min_size=1, max_size=7))
        for kind in chosen:
            time += float(generator.uniform(0.05, 6.0))
            row: Row = {
                "ID": subject,
                "TIME": time,
                "EVID": 1,
                "AMT": float(generator.uniform(5, 100)),
                "CMT": 2,
            }
            if kind == "oral":
                row["CMT"] = 1
            elif kind in ("infusion", "steady"):
                row["RATE"] = float(generator.uniform(10, 40)) * (kind == "infusion" or time % 2 < 1)
            elif kind == "rate":
                row["RATE"] = -1
            elif kind == "duration":
                row["RATE"] = -2
            elif kind == "series":
                row |= {
                    "CMT": float(generator.integers(1, 3)),
                    "ADDL": float(generator.integers(1, 5)),
                    "II": float(generator.uniform(0.3, 5.0)),
                    "RATE": float(generator.uniform(20, 90)) * (time % 2 < 1),
                }
            elif kind == "reset":
                row |= {"EVID": 3, "AMT": 0.0, "CMT": 0}
            elif kind == "reset and dose":
                row["EVID"] = 4
            elif kind == "nothing":
                row |= {"EVID": 2, "AMT": 0.0, "CMT": 0}
            if kind == "steady":
                row |= {
                    "SS": float(generator.integers(1, 3)),
                    "II": float(generator.uniform(1.0, 9.0)),
                    "CMT": float(generator.integers(1, 4)),
                }
            rows.append(row)
            for _ in range(int(generator.integers(0, 4))):
                time += float(generator.uniform(0.01, 4.0))
                rows.append({"ID": subject, "TIME": time, "EVID": 0, "CMT": 0})
        for cmt in (0, 4):
            time += 0.7
            rows.append({"ID": subject, "TIME": time, "EVID": 0, "CMT": cmt})
    return rows


def agree(rows: list[Row]) -> None:
    closed, dclosed = solved("closed", rows)
    # the compartment aside shifts the number of the output compartment
    moved = [row | {"CMT": 5.0} if row["CMT"] == 4 else row for row in rows]
    scale, dscale = np.abs(closed).max(), np.abs(dclosed).max(axis=(0, 1), initial=1e-6)
    exponential, dexponential = solved("exponential", moved)
    assert np.abs(exponential - closed).max() < 1e-12 * scale
    assert (np.abs(dexponential - dclosed).max(axis=(0, 1)) < 1e-11 * dscale + 1e-12 * scale).all()
    # the integrator runs at 1e-11, its sensitivities without error control of their own
    ode, dode = solved("ode", rows)
    assert np.abs(ode - closed).max() < 1e-8 * scale
    assert (np.abs(dode - dclosed).max(axis=(0, 1)) < 1e-6 * dscale + 1e-8 * scale).all()


@settings(max_examples=200, deadline=None)
@given(event_tables())
def test_doses_infusions_resets_and_lags(rows: list[Row]) -> None:
    agree(rows)


@settings(max_examples=100, deadline=None)
@given(event_tables(steady=True))
def test_steady_states(rows: list[Row]) -> None:
    agree(rows)


@pytest.mark.parametrize("form", ["closed", "exponential", "ode"])
def test_derivatives_against_differences(form: Form) -> None:
    """Central differences with relative steps of 1e-5: right to about 1e-8 (the integrator to 1e-6)."""
    rows: list[Row] = [
        {"ID": 1, "TIME": 0.0, "EVID": 1, "AMT": 80.0, "CMT": 1, "ADDL": 3, "II": 4.1},
        {"ID": 1, "TIME": 1.3, "EVID": 1, "AMT": 50.0, "CMT": 2, "RATE": -2},
        {"ID": 1, "TIME": 2.2, "EVID": 0, "CMT": 0},
        {"ID": 1, "TIME": 5.5, "EVID": 1, "AMT": 40.0, "CMT": 2, "RATE": -1},
        {"ID": 1, "TIME": 6.9, "EVID": 0, "CMT": 0},
        {"ID": 1, "TIME": 20.1, "EVID": 0, "CMT": 0},
    ]
    made = compiled(form)
    data = dataset(rows)
    kernel = Kernel(made, Subjects.build(made.model, data))
    eta = np.zeros((1, made.model.n_etas))
    slots = [made.layout.output_slot(name) for name in ("X1", "X2", "X3")]
    derivatives = kernel.evaluate(THETA, eta, "eta+theta").derivatives[0][:, slots, made.model.n_etas :]
    for i in range(USED):
        ends = []
        for sign in (1.0, -1.0):
            theta = THETA.copy()
            theta[i] *= 1.0 + sign * 1e-5
            ends.append(kernel.evaluate(theta, eta).values[0][:, slots])
        difference = (ends[0] - ends[1]) / (2e-5 * THETA[i])
        error = np.abs(difference - derivatives[:, :, i]).max()
        assert error < (1e-5 if form == "ode" else 1e-7) * max(1.0, np.abs(difference).max()), NAMES[i]
