"""Generated functions against a plain interpreter with complex steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from numba.core.errors import TypingError
from support.expressions import SMOOTH, SMOOTH_TOO, programs, values
from support.interpreter import slopes
from support.kernels import (
    DIRECTIONS,
    ETA,
    THETA,
    individual_model,
    interpreted,
    ode_model,
    record,
    seeds,
)
from support.models import exp, op, oral_model, var

from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.expression import (
    FUNCTIONS,
    Amount,
    Binary,
    Call,
    Column,
    Compare,
    Conditional,
    Eps,
    Eta,
    Expression,
    Known,
    Number,
    Theta,
    Time,
    Variable,
)
from elbomix.engine.ir.statement import Assign, Draw, If, Reject, Statement, While
from elbomix.engine.kernel.compile import compile_kernel, kernel_sources

WT = 1.4
LEAVES = (Theta(1), Eta(1), Eta(2), Column("WT"))
AT: dict[Expression, float] = {Theta(i + 1): x for i, x in enumerate(THETA)} | {
    Eta(i + 1): x for i, x in enumerate(ETA)
}
POINT: dict[Expression, float] = {**AT, Column("WT"): WT, Known("newind"): 1.0}
# what Python raises where compiled code gives NaN or infinity
ARITHMETIC = (OverflowError, ZeroDivisionError, ValueError, TypeError, TypingError)
ONE = ("exp", "tanh", "sin", "sqrt", "log", "gamln", "phi", "abs")


def along() -> dict[Expression, np.ndarray]:
    dtheta, deta = seeds()
    rows: dict[Expression, np.ndarray] = {Theta(i + 1): row for i, row in enumerate(dtheta)}
    return rows | {Eta(i + 1): row for i, row in enumerate(deta)}


def compare(
    statements: Sequence[Statement], names: Sequence[str], compiled: bool, drawn: bool = False
) -> None:
    """Values and derivatives of ``names`` equal those of the interpreter."""
    model = individual_model(statements, names)
    try:
        value, slope = slopes(tuple(statements), POINT, along(), list(names))
        if compiled:
            kernel = compile_kernel(model)
            function, layout = kernel.individual, kernel.layout
        else:
            _, layout, sources = kernel_sources(model)
            function = interpreted(sources["individual"], "individual")
        status, psi, dpsi = record(function, layout, POINT, np.zeros(0), np.zeros((0, DIRECTIONS)))
    except ARITHMETIC:
        if not drawn:
            raise
        assume(False)
    assert status == 0
    order = [layout.psi.index(Variable(n)) for n in names]
    good = (
        np.isfinite(value) & np.isfinite(slope).all(1) & (np.abs(slope) < 1e8).all(1) & (np.abs(value) < 1e8)
    )
    if drawn:
        assume(bool(good.all()))
    assert good.all()
    np.testing.assert_allclose(psi[order], value, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dpsi[order], slope, rtol=1e-8, atol=1e-9)


@settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)
@given(programs(LEAVES, (Column("WT"), Eta(2)), ONE))
def test_random_statements(statements: tuple[Statement, ...]) -> None:
    compare(statements, ["Y"], compiled=False, drawn=True)


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.filter_too_much]
)
@given(values(LEAVES, (*SMOOTH, *SMOOTH_TOO, "abs", "int", "floor"), ("min", "max", "atan2", "mod"), size=10))
def test_random_expressions(node: Expression) -> None:
    compare((Assign("Y", node),), ["Y"], compiled=False, drawn=True)


def test_every_function_compiled() -> None:
    """One model with a call of each function at an argument inside its domain; and a power of each sort."""
    inside = op(Number(0.2), "+", op(Number(0.1), "*", op(Theta(1), "+", op(Eta(1), "*", Eta(2)))))
    second = op(Eta(2), "-", Theta(1))
    statements = []
    for name, count in FUNCTIONS.items():
        arguments = (inside,) if count == 1 else (inside, second) if count == 2 else (inside, second, Eta(3))
        statements.append(Assign(f"Y{name}", Call(name, arguments)))
    powers = ((inside, second), (second, Number(3.0)), (inside, Number(-0.5)), (second, Number(2.0)))
    statements += [Assign(f"YP{i}", op(a, "**", b)) for i, (a, b) in enumerate(powers)]
    compare(statements, [s.target for s in statements], compiled=True)


def test_branches_compiled() -> None:
    """Names assigned in some branches only, again, and read afterwards; choices inside expressions."""
    x, a, b = Eta(1), var("A"), var("B")
    heavy = Compare(">", Column("WT"), Number(1.0))
    chosen = Conditional(Compare("<", x, Number(5.0)), op(x, "*", a), op(a, "/", Number(0.0)))
    statements = (
        Assign("A", op(x, "*", x)),
        If(
            ((Compare("<", Column("WT"), Number(0.0)), (Assign("A", Theta(1)),)), (heavy, (Assign("B", a),))),
            (Assign("B", Number(3.0)),),
        ),
        If(((heavy, (Assign("A", op(op(a, "*", x), "+", b)), If(((heavy, (Assign("B", a),)),)))),)),
        Assign("C", op(chosen, "+", Call("max", (a, b, Number(0.1))))),
        Assign("D", op(Conditional(heavy, Number(2.0), Number(3.0)), "*", var("NEVER"))),
    )
    compare(statements, ["A", "B", "C", "D"], compiled=True)


LOOP: tuple[Statement, ...] = (
    Assign("N", Number(0.0)),
    Assign("S", Theta(1)),
    While(
        Compare("<", var("N"), Number(5.0)),
        (
            Assign("N", op(var("N"), "+", Number(1.0))),
            If(
                ((Compare("==", var("N"), Number(3.0)), (Assign("S", op(var("S"), "+", Column("WT"))),)),),
                (Assign("S", op(exp(op(var("S"), "*", Number(-0.3))), "+", op(Eta(1), "*", var("S")))),),
            ),
            Assign("M", Call("min", (var("S"), Eta(1)))),
        ),
    ),
    Assign("Y", op(var("S"), "*", var("M"))),
)


def test_loops_compiled() -> None:
    compare(LOOP, ["Y", "S", "N", "M"], compiled=True)


def test_loops_without_directions() -> None:
    kernel = compile_kernel(individual_model(LOOP, ["Y"]))
    expected = slopes(LOOP, POINT, along(), ["Y"])[0]
    status, psi, _ = record(kernel.individual, kernel.layout, POINT, np.zeros(0), np.zeros((0, 0)), n=0)
    assert status == 0
    np.testing.assert_allclose(psi[: len(expected)], expected, rtol=1e-13)


def test_statuses() -> None:
    """EXIT 1, EXIT 2, an endless loop and a random number outside simulation, by WT."""
    cases: tuple[tuple[float, Statement], ...] = (
        (1.0, Reject(False, 7)),
        (2.0, Reject(True, 8)),
        (3.0, While(Compare("<", Theta(1), Number(9.0)), (Assign("Y", Number(1.0)),))),
        (4.0, Draw("uniform", ("Y",))),
    )
    statements = (
        If(tuple((Compare("==", Column("WT"), Number(wt)), (s,)) for wt, s in cases)),
        Assign("Y", op(var("Y"), "+", Theta(1))),
    )
    kernel = compile_kernel(individual_model(statements, ["Y"]))
    for wt, expected in ((0.0, 0), (1.0, 1), (2.0, 2), (3.0, 3), (4.0, 4)):
        point = {**POINT, Column("WT"): wt}
        found = record(kernel.individual, kernel.layout, point, np.zeros(0), np.zeros((0, DIRECTIONS)))
        assert found[0] == expected


@pytest.mark.parametrize("loop", [False, True])
def test_kept_variables_pass_from_record_to_record(loop: bool) -> None:
    """S = S + eta * WT and L = S of the record before, over three records, by hand."""
    body: tuple[Statement, ...] = (
        Assign("L", var("S")),
        If(
            ((Compare("!=", Known("newind"), Number(2.0)), (Assign("S", Theta(1)),)),),
            (Assign("S", op(var("S"), "+", op(Eta(1), "*", Column("WT")))),),
        ),
    )
    if loop:
        body = (*body, While(Compare("<", Number(1.0), var("NEVER")), (Assign("L", Number(9.0)),)))
    kernel = compile_kernel(individual_model(body, ["S", "L"], kept=["S", "L"]))
    layout = kernel.layout
    assert set(layout.kept) == {"S", "L"}
    kept, dkept = np.zeros(2), np.zeros((2, DIRECTIONS))
    dtheta, deta = seeds()
    s, ds = 0.0, np.zeros(DIRECTIONS)
    for number, wt in enumerate((0.7, 1.4, 2.2)):
        last, dlast = s, ds
        s = THETA[0] if number == 0 else s + ETA[0] * wt
        ds = dtheta[0] if number == 0 else ds + deta[0] * wt
        point = {**POINT, Column("WT"): wt, Known("newind"): 1.0 if number == 0 else 2.0}
        _, psi, dpsi = record(kernel.individual, layout, point, kept, dkept)
        for name, x, dx in (("S", s, ds), ("L", last, dlast)):
            slot = layout.psi.index(Variable(name))
            np.testing.assert_allclose(psi[slot], x, rtol=1e-14)
            np.testing.assert_allclose(dpsi[slot], dx, rtol=1e-14)


def tmdd() -> tuple[Statement, ...]:
    """Drug, target and complex with a saturable pathway, a branch and time."""
    drug, target = Amount(1), Amount(2)
    binding = op(op(var("KA"), "*", drug), "*", target)
    return (
        Assign("CP", op(drug, "/", var("V"))),
        Assign("MM", op(op(var("K"), "*", var("CP")), "/", op(Number(0.5), "+", var("CP")))),
        If(
            ((Compare(">", var("CP"), Number(0.01)), (Assign("IN", op(var("MM"), "*", Time())),)),),
            (Assign("IN", Call("sqrt", (target,))),),
        ),
        Assign("DADT(1)", op(op(op(Number(0.0), "-", binding), "-", var("MM")), "+", Amount(3))),
        Assign("DADT(2)", op(var("IN"), "-", op(binding, "+", op(target, "**", var("K"))))),
        Assign("DADT(3)", op(binding, "-", Amount(3))),
    )


def looping() -> tuple[Statement, ...]:
    """A sum over a loop inside the right-hand side."""
    step = (
        Assign("N", op(var("N"), "+", Number(1.0))),
        Assign("S", op(op(var("S"), "*", var("K")), "+", op(Amount(2), "/", var("N")))),
    )
    return (
        While(Compare("<", var("N"), Number(4.0)), step),
        Assign("DADT(1)", op(var("S"), "*", Amount(1))),
        Assign("DADT(2)", op(Number(0.0), "-", var("S"))),
        Assign("DADT(3)", Number(1.0)),
    )


@pytest.mark.parametrize("statements", [tmdd(), looping()], ids=["tmdd", "loop"])
@pytest.mark.parametrize("start", [(2.0, 1.5, 0.3), (0.001, 1.5, 0.3)])
def test_right_hand_sides(statements: tuple[Statement, ...], start: tuple[float, ...]) -> None:
    """Slopes, their derivatives along amounts and parameters together, and the Jacobian."""
    kernel = compile_kernel(ode_model(statements, 3))
    rng = np.random.default_rng(3)
    n_p = kernel.layout.n_dynamic
    y, p, t = np.array(start), rng.uniform(0.5, 1.5, n_p), 0.7
    dy, dp = rng.normal(size=(3, 2)), rng.normal(size=(n_p, 2))
    f, df, jacobian = np.zeros(3), np.zeros((3, 2)), np.full((3, 3), np.nan)
    kernel.slopes(t, y, dy, p, dp, f, df)
    kernel.jacobian(t, y, p, jacobian)
    point = {Amount(i + 1): x for i, x in enumerate(y)} | dict(zip(kernel.layout.psi, p, strict=False))
    point[Time()] = t
    rows = {Amount(i + 1): row for i, row in enumerate(dy)} | dict(zip(kernel.layout.psi, dp, strict=False))
    names = [f"DADT({i})" for i in (1, 2, 3)]
    value, slope = slopes(statements, point, rows, names)
    np.testing.assert_allclose(f, value, rtol=1e-12)
    np.testing.assert_allclose(df, slope, rtol=1e-11, atol=1e-13)
    unit: dict[Expression, np.ndarray] = {Amount(i + 1): np.eye(3)[i] for i in range(3)}
    np.testing.assert_allclose(jacobian, slopes(statements, point, unit, names)[1], rtol=1e-11, atol=1e-13)
    none: np.ndarray = np.zeros((3, 0))
    kernel.slopes(t, y, none, p, np.zeros((n_p, 0)), f, none)
    np.testing.assert_allclose(f, value, rtol=1e-12)


def test_observation_model() -> None:
    """Response, its slopes to both eps at 0, and derivatives of all of them."""
    f, w = var("F"), var("W")
    error = (
        Assign("W", Call("sqrt", (op(op(Theta(1), "**", Number(2.0)), "+", op(Theta(2), "*", f)),))),
        Assign("IPRED", op(op(f, "*", var("KA")), "+", Amount(1))),
        Assign("Y", op(op(var("IPRED"), "+", op(w, "*", Eps(1))), "+", op(op(w, "*", Eps(2)), "*", Eps(1)))),
        Assign("Y", Call("max", (op(var("Y"), "*", exp(op(Eps(2), "*", Eta(1)))), Number(-9.0)))),
    )
    model = oral_model(error=error)
    model = model.replace(sigma=(*model.sigma, *model.sigma))
    model, layout, sources = kernel_sources(model)
    function = interpreted(sources["observe"], "observe")
    rng = np.random.default_rng(8)
    dtheta, deta = seeds()
    psi, dpsi = rng.uniform(1, 2, len(layout.psi)), rng.normal(size=(len(layout.psi), DIRECTIONS))
    a, da = rng.uniform(1, 2, 4), rng.normal(size=(4, DIRECTIONS))
    out, dout = np.zeros(len(layout.outputs)), np.zeros((len(layout.outputs), DIRECTIONS))
    none = (np.zeros(0), np.zeros((0, DIRECTIONS)))
    function(none[0], none[0], THETA, ETA, dtheta, deta, *none, psi, dpsi, a, da, out, dout)
    # by hand: G1 = E W, G2 = E IPRED eta with E = exp(0)
    slot = layout.psi.index(Variable("KA"))
    root = np.sqrt(THETA[0] ** 2 + THETA[1] * a[3])
    droot = (2 * THETA[0] * dtheta[0] + dtheta[1] * a[3] + THETA[1] * da[3]) / (2 * root)
    mean = a[3] * psi[slot] + a[0]
    dmean = da[3] * psi[slot] + a[3] * dpsi[slot] + da[0]
    expected = {
        "Y": (mean, dmean),
        "Y@EPS1": (root, droot),
        "Y@EPS2": (mean * ETA[0], dmean * ETA[0] + mean * deta[0]),
        "W": (root, droot),
        "IPRED": (mean, dmean),
    }
    assert layout.outputs == ("Y", "Y@EPS1", "Y@EPS2", "W", "IPRED")
    for i, name in enumerate(layout.outputs):
        np.testing.assert_allclose(out[i], expected[name][0], rtol=1e-13)
        np.testing.assert_allclose(dout[i], expected[name][1], rtol=1e-12)


def test_singular_points_have_slope_zero() -> None:
    """sqrt(0), |0| and 0**0.5 do not turn derivatives into NaN or infinity; 0 * x keeps its slope."""
    zero = op(Theta(1), "-", Theta(1))
    nodes = (
        Call("sqrt", (zero,)),
        Call("abs", (zero,)),
        Binary("**", zero, Number(0.5)),
        Binary("**", zero, Theta(2)),
        Binary("**", Theta(3), Number(2.0)),
        Binary("**", Theta(3), op(Number(2.0), "+", zero)),
    )
    statements = tuple(Assign(f"Y{i}", node) for i, node in enumerate(nodes))
    kernel = compile_kernel(individual_model(statements, [s.target for s in statements]))
    _, psi, dpsi = record(kernel.individual, kernel.layout, POINT, np.zeros(0), np.zeros((0, DIRECTIONS)))
    dtheta, _ = seeds()
    order = [kernel.layout.psi.index(Variable(s.target)) for s in statements]
    np.testing.assert_array_equal(psi[order][:4], 0.0)
    np.testing.assert_array_equal(dpsi[order][:4], 0.0)
    np.testing.assert_allclose(psi[order][4:], THETA[2] ** 2)
    np.testing.assert_allclose(dpsi[order][4:], np.tile(2 * THETA[2] * dtheta[2], (2, 1)), rtol=1e-14)


def test_amounts_in_the_individual_model_are_refused() -> None:
    model = oral_model().replace(individual=(*oral_model().individual, Assign("K", Amount(1))))
    with pytest.raises(ModelFailure, match="before amounts"):
        kernel_sources(model)


@pytest.mark.parametrize("count", [40, 400])
def test_long_sums_are_no_trouble_to_the_parser(count: int) -> None:
    """Python allows 200 nested parentheses."""
    node: Expression = Theta(1)
    for i in range(count):
        node = op(node, "+" if i % 3 else "-", op(Eta(1), "*", Number(float(i))) if i % 2 else Column("WT"))
    compare((Assign("Y", node),), ["Y"], compiled=False)
