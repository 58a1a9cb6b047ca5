"""Recognition of linear compartment models in differential equations, and equilibrium compartments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import types
from scipy.optimize import brentq
from support.interpreter import value
from support.kernels import ode_model
from support.models import ODE, op, oral_model, var

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.compartment import LinearDynamics, OdeDynamics
from elbomix.engine.ir.expression import (
    Amount,
    Call,
    Column,
    Compare,
    Conditional,
    Expression,
    Known,
    Number,
    Theta,
    Time,
    Variable,
)
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Assign, Draw, If, Statement
from elbomix.engine.kernel.compile import SLOPES, compile_kernel, kernel_sources, show_kernel
from elbomix.engine.kernel.linear.linear_ode import as_linear
from elbomix.engine.kernel.machine.caching import jit
from elbomix.engine.kernel.specialise import needed_statements, specialise

KA, CL, V, Q = (var(n) for n in ("KA", "CL", "V", "Q"))
A1, A2, A3 = Amount(1), Amount(2), Amount(3)


def dynamics(statements: tuple[Statement, ...], n: int) -> OdeDynamics:
    model = ode_model(statements, n)
    assert isinstance(model.dynamics, OdeDynamics)
    return model.dynamics


def rates(linear: LinearDynamics, at: Mapping[Expression, float]) -> np.ndarray:
    """The matrix of dA/dt = K A, from transfers."""
    n = len(linear.compartments)
    matrix = np.zeros((n, n))
    for t in linear.transfers:
        rate = value(t.rate, {k: complex(x) for k, x in at.items()}).real
        matrix[t.source - 1, t.source - 1] -= rate
        if t.target:
            matrix[t.target - 1, t.source - 1] += rate
    return matrix


def test_two_compartments_with_absorption_and_own_variables() -> None:
    """Clearances, a concentration, a bracket, two eliminations of which one is a fraction."""
    statements = (
        Assign("C", op(A2, "/", V)),
        Assign("FLOW", op(Q, "*", op(var("C"), "-", op(A3, "/", op(Number(2.0), "*", V))))),
        Assign("DADT(1)", op(Number(0.0), "-", op(A1, "*", op(KA, "+", op(KA, "/", Number(4.0)))))),
        Assign("DADT(2)", op(op(op(KA, "*", A1), "-", op(CL, "*", var("C"))), "-", var("FLOW"))),
        Assign("DADT(3)", var("FLOW")),
    )
    linear = as_linear(dynamics(statements, 3))
    assert linear is not None
    at: dict[Expression, float] = {KA: 1.3, CL: 0.7, V: 3.1, Q: 0.9}
    expected = np.array(
        [
            [-1.25 * 1.3, 0.0, 0.0],
            [1.3, -0.7 / 3.1 - 0.9 / 3.1, 0.9 / 6.2],
            [0.0, 0.9 / 3.1, -0.9 / 6.2],
        ]
    )
    np.testing.assert_allclose(rates(linear, at), expected, rtol=1e-14)
    assert {(t.source, t.target) for t in linear.transfers} == {(1, 0), (1, 2), (2, 0), (2, 3), (3, 2)}


def test_a_rate_that_is_no_product_stays_one_factor() -> None:
    rate = Call("exp", (op(op(CL, "/", V), "+", Number(1.0)),))
    chosen = Conditional(Compare(">", CL, V), CL, V)
    statements = (
        Assign("K", rate),
        Assign("DADT(1)", op(Number(0.0), "-", op(var("K"), "*", A1))),
        Assign("DADT(2)", op(op(var("K"), "*", A1), "-", op(op(chosen, "/", op(CL, "+", V)), "*", A2))),
    )
    linear = as_linear(dynamics(statements, 2))
    assert linear is not None
    k = np.exp(0.5 / 2.0 + 1.0)
    np.testing.assert_allclose(rates(linear, {CL: 0.5, V: 2.0}), [[-k, 0.0], [k, -2.0 / 2.5]], rtol=1e-14)


@pytest.mark.parametrize(
    "right",
    [
        (op(KA, "*", A1), op(KA, "*", A1)),  # grows
        (op(op(Number(0.0), "-", op(KA, "*", A1)), "+", V), op(KA, "*", A1)),  # constant input
        (op(Number(0.0), "-", op(A1, "*", A1)), Number(0.0)),
        (op(Number(0.0), "-", op(A1, "/", op(A1, "+", V))), Number(0.0)),
        (op(Number(0.0), "-", op(A1, "*", Time())), Number(0.0)),
        (op(Number(0.0), "-", op(A1, "**", Number(0.5))), Number(0.0)),
        (
            op(Number(0.0), "-", op(CL, "*", A1)),
            op(KA, "*", op(A1, "-", A2)),
        ),  # an effect compartment: no flow
        (op(op(CL, "*", A2), "-", op(KA, "*", A1)), op(Number(0.0), "-", op(CL, "*", op(A2, "-", A1)))),
    ],
)
def test_other_systems_stay_differential_equations(right: tuple[Expression, ...]) -> None:
    statements = tuple(Assign(f"DADT({i})", r) for i, r in enumerate(right, start=1))
    assert as_linear(dynamics(statements, len(right))) is None


def test_branches_and_start_times_stay_differential_equations() -> None:
    decay = Assign("DADT(1)", op(Number(0.0), "-", A1))
    assert as_linear(dynamics((decay,), 1)) is not None
    assert as_linear(replace(dynamics((decay,), 1), start=V)) is None
    assert as_linear(dynamics((If(((Compare(">", A1, V), (decay,)),)),), 1)) is None


def test_the_kernel_of_a_linear_system_has_its_rates() -> None:
    model, layout, _ = kernel_sources(oral_model(ODE))
    assert isinstance(model.dynamics, LinearDynamics)
    assert layout.psi[: layout.n_dynamic] == (var("KA"), var("K"), var("V"))
    assert layout.transfers.tolist() == [[1, 2, 0], [2, 0, 1]]


def test_simulation_blocks_vanish() -> None:
    simulate = If(((Compare("==", Known("icall"), Number(4.0)), (Draw("uniform", ("U",)),)),))
    model = oral_model().replace(individual=(*oral_model().individual, simulate))
    assert specialise(model).individual == oral_model().individual
    assert len(specialise(model, reason=4).individual) == 4


def test_needed_statements_follow_conditions() -> None:
    statements: tuple[Statement, ...] = (
        Assign("A", Theta(1)),
        Assign("DEAD", var("A")),
        Assign("B", Theta(2)),
        If(((Compare(">", var("A"), Number(0.0)), (Assign("C", var("B")), Assign("DEAD", Number(1.0)))),)),
        If(((Compare(">", var("DEAD"), Number(0.0)), (Assign("DEAD", Number(2.0)),)),)),
    )
    kept = needed_statements(statements, ["C"])
    assert kept[:2] == (statements[0], statements[2])
    assert kept[2:] == (If(((Compare(">", var("A"), Number(0.0)), (Assign("C", var("B")),)),)),)


def test_variables_of_the_equations_can_be_observed() -> None:
    """CP of the right-hand side, in the observation model: from the amounts at the record."""
    statements = (
        Assign("CP", op(A1, "/", op(V, "+", Time()))),
        Assign("DADT(1)", op(Number(0.0), "-", op(var("CP"), "*", A1))),
    )
    model = ode_model(statements, 1)
    observation = replace(model.observation, statements=(Assign("Y", op(var("CP"), "+", Theta(1))),))
    kernel = compile_kernel(model.replace(observation=observation))
    layout = kernel.layout
    assert layout.columns == ("TIME",)
    slot = layout.psi.index(V)
    psi = np.zeros(len(layout.psi))
    psi[slot] = 2.0
    dpsi = np.zeros((len(psi), 1))
    out, dout = np.zeros(len(layout.outputs)), np.zeros((len(layout.outputs), 1))
    none, nones, one = np.zeros(0), np.zeros((0, 1)), np.zeros((3, 1))
    a, da = np.array([6.0, 0.0, 6.0]), np.array([[1.0], [0.0], [1.0]])
    kernel.observe(
        np.array([1.0]),
        none,
        np.array([0.5, 0, 0]),
        np.zeros(3),
        one,
        one,
        none,
        nones,
        psi,
        dpsi,
        a,
        da,
        out,
        dout,
    )
    assert out[layout.outputs.index("Y")] == pytest.approx(6.0 / 3.0 + 0.5, rel=1e-15)
    assert dout[layout.outputs.index("Y"), 0] == pytest.approx(1.0 / 3.0, rel=1e-15)


def equilibrium_model() -> Model:
    """Free drug in compartment 2 from total drug in 1: E = free + Bmax free / (Kd + free) - total."""
    bound = op(op(KA, "*", A2), "/", op(V, "+", A2))
    return ode_model(
        (
            Assign("DADT(1)", op(op(Number(0.0), "-", op(var("K"), "*", A2)), "*", Time())),
            Assign("E(2)", op(op(A2, "+", bound), "-", A1)),
        ),
        2,
        equilibrium=[2],
    )


def free(total: float, bmax: float, kd: float) -> float:
    return float(brentq(lambda x: x + bmax * x / (kd + x) - total, 0.0, total, xtol=1e-15, rtol=1e-15))


def test_equilibrium_compartments() -> None:
    """Amount, right-hand side, Jacobian and derivatives against a root finder and central differences."""
    kernel = compile_kernel(equilibrium_model())
    order = [kernel.layout.psi.index(x) for x in (KA, V, var("K"))]
    p = np.zeros(len(kernel.layout.psi[: kernel.layout.n_dynamic]))
    p[order] = 3.0, 0.4, 0.6
    t, total = 1.5, 2.0

    def slope(total: float, p: np.ndarray) -> float:
        bmax, kd, k = p[order]
        return float(-k * free(total, bmax, kd) * t)

    y, f = np.array([total, 0.0]), np.zeros(2)
    n_p = len(p)
    directions = np.eye(1 + n_p)
    dy = np.zeros((2, 1 + n_p))
    dy[0] = directions[0]
    dp = np.ascontiguousarray(directions[1:])
    df, jacobian = np.zeros((2, 1 + n_p)), np.zeros((2, 2))
    kernel.slopes(t, y, dy, p, dp, f, df)
    kernel.jacobian(t, y, p, jacobian)
    assert y[1] == 0.0  # the right-hand side leaves the state alone
    np.testing.assert_allclose(f, [slope(total, p), 0.0], rtol=1e-12)
    h = 1e-5
    expected = [(slope(total + h, p) - slope(total - h, p)) / (2 * h)]
    for i in range(n_p):
        step = h * np.eye(n_p)[i]
        expected.append((slope(total, p + step) - slope(total, p - step)) / (2 * h))
    # rounding 1e-15 / h and h^2
    np.testing.assert_allclose(df[0], expected, rtol=1e-8, atol=1e-9)
    np.testing.assert_array_equal(df[1], 0.0)
    np.testing.assert_allclose(jacobian, [[expected[0], 0.0], [0.0, 0.0]], rtol=1e-8)
    assert kernel.equilibrium(t, y, dy, p, dp) == 0
    assert y[1] == pytest.approx(free(total, 3.0, 0.4), rel=1e-13)
    np.testing.assert_allclose(
        dy[1] * -0.6 * t - [0, *(y[1] * t * (np.array(order).argsort() == 2))], df[0], rtol=1e-10
    )


def test_an_equation_without_solution_is_reported() -> None:
    model = ode_model((Assign("DADT(1)", A2), Assign("E(2)", op(op(A2, "*", A2), "+", Number(1.0)))), 2, [2])
    kernel = compile_kernel(model)
    y, f = np.array([1.0, 0.3]), np.zeros(2)
    p = np.ones(kernel.layout.n_dynamic)
    none, none_p = np.zeros((2, 0)), np.zeros((len(p), 0))
    assert kernel.equilibrium(0.0, y, none, p, none_p) == 1
    kernel.slopes(0.0, y, none, p, none_p, f, none)
    assert np.isnan(f).any()


def test_the_shown_source_names_its_arrays() -> None:
    text = show_kernel(equilibrium_model())
    assert "# psi for the dynamics: K, KA, V\n" in text
    assert "# out: Y, Y@EPS1, IPRED\n" in text
    assert "def raw_slopes(t, y, dy, p, dp, f, df):" in text
    compile(text, "kernel.py", "exec")


def test_models_of_one_text_share_machine_code() -> None:
    first = compile_kernel(oral_model())
    second = compile_kernel(oral_model().replace(title="another"))
    assert first.individual is second.individual
    assert Variable("V") in second.layout.psi


SLOPES_VALUE = types.float64(SLOPES, types.float64[::1], types.float64[::1])


def test_functions_go_into_compiled_ones_as_arguments() -> None:
    """What the precompiled event loop relies on: one machine code, any model's right-hand side."""

    @jit(SLOPES_VALUE)
    def first(slopes: Any, y: Any, p: Any) -> Any:
        f = np.zeros(1)
        slopes(0.0, y, np.zeros((1, 0)), p, np.zeros((len(p), 0)), f, np.zeros((1, 0)))
        return f[0]

    for power in (2.0, 3.0):
        model = ode_model((Assign("DADT(1)", op(KA, "*", op(A1, "**", Number(power)))),), 1)
        kernel = compile_kernel(model)
        assert first(kernel.slopes, np.array([2.0]), np.array([5.0])) == 5.0 * 2.0**power


def test_memory_of_the_observation_model_reaches_the_next_individual_model() -> None:
    """SLOPE = (WT - OLD) / 2 with OLD = WT set in the observation model, and PD = PD that does nothing."""
    model = oral_model()
    individual = (*model.individual, Assign("K", op(op(Column("WT"), "-", var("OLD")), "/", Number(2.0))))
    statements = (*model.observation.statements, Assign("OLD", Column("WT")), Assign("V", var("V")))
    observation = replace(model.observation, statements=statements)
    kernel = compile_kernel(model.replace(individual=individual, observation=observation, kept=("OLD", "V")))
    layout = kernel.layout
    kept = np.zeros(len(layout.kept))
    none, nones, zeros = np.zeros(0), np.zeros((3, 0)), np.zeros(3)
    found = []
    for weight in (3.0, 4.0, 9.0):
        psi = np.zeros(len(layout.psi))
        shapes = np.zeros((len(kept), 0)), psi, np.zeros((len(psi), 0))
        kernel.individual(np.array([weight]), none, zeros, zeros, nones, nones, kept, *shapes)
        found.append(psi[layout.psi.index(var("K"))])
    assert found == [1.5, 0.5, 2.5]


def test_memory_that_needs_amounts_is_refused() -> None:
    model = oral_model()
    individual = (*model.individual, Assign("K", var("OLD")))
    statements = (*model.observation.statements, Assign("OLD", Amount(1)))
    observation = replace(model.observation, statements=statements)
    with pytest.raises(ModelFailure, match="OLD as the observation model of the record before left it"):
        kernel_sources(model.replace(individual=individual, observation=observation, kept=("OLD",)))
