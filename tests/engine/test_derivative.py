"""Symbolic derivatives against differences of an interpreter in numpy and automatic differentiation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from support import interpreter
from support.expressions import SMOOTH, SMOOTH_TOO, programs, values
from support.statements import run

from elbomix.engine.decoder.arithmetic import Environment, compile_expression
from elbomix.engine.ir.derivative import derivative, differentiate, differentiate_each, fold
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import (
    Binary,
    Call,
    Column,
    Compare,
    Eps,
    Eta,
    Expression,
    Negative,
    Number,
    Variable,
    transform,
    walk,
)
from elbomix.engine.ir.statement import Assign, If, Statement, While, transform_statements

Array = NDArray[np.float64]
LEAF = Eta(1)
LEAVES = (LEAF, LEAF, Eta(2), Column("WT"))
ONE = (*SMOOTH, *SMOOTH_TOO)
SINGULAR = ("sqrt", "atan2")  # no slope, or none that is finite, where the first argument is 0
# points without symmetry, so that no accident hides a wrong rule
ETA = np.array([[0.31, 0.77, -0.43, 1.9], [0.62, -1.3, 0.27, 0.58]])
WT = {"WT": np.array([0.7, 1.4, 2.2, 0.9])}


def value(node: Expression, first: Array) -> Array:
    """The value of ``node`` at every point, ETA(1) being ``first``."""
    names: dict[Expression, Expression] = {Eta(1): Column("first"), Eta(2): Column("second")}
    columns = {**WT, "first": first, "second": ETA[1]}
    return np.broadcast_to(evaluate(transform(node, lambda n: names.get(n, n)), columns), first.shape)


def regular(node: Expression) -> NDArray[np.bool_]:
    """Where every part of ``node`` is a moderate number, and no slope is infinite."""
    parts = np.array([value(part, ETA[0]) for part in walk(node)])
    good = (np.isfinite(parts) & (np.abs(parts) < 1e6)).all(0)
    for part in walk(node):
        if isinstance(part, Binary) and part.operator == "**":
            base = value(part.left, ETA[0])
            good &= base != 0 if isinstance(part.right, Number) else base > 0
        elif isinstance(part, Call) and part.function in SINGULAR:
            good &= value(part.arguments[0], ETA[0]) != 0
        elif isinstance(part, Call) and part.function in ("asin", "acos"):
            good &= np.abs(value(part.arguments[0], ETA[0])) < 1
    return np.asarray(good)


def differences(f: object, at: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Central differences extrapolated to step 0 (error h^4), and where two such agree to 1e-6."""
    assert callable(f)
    with np.errstate(all="ignore"):

        def central(h: float) -> Array:
            return np.asarray((f(at + h) - f(at - h)) / (2 * h))

        fine = (4 * central(1e-4) - central(2e-4)) / 3
        coarse = (4 * central(2e-4) - central(4e-4)) / 3
        scale = np.maximum(np.abs(fine), 1e-3)
        good = np.isfinite(fine) & (np.abs(fine - coarse) < 1e-6 * scale) & (np.abs(f(at)) < 1e3 * scale)
    return fine, good


@settings(max_examples=300, deadline=None, derandomize=True)
@given(values(LEAVES, ONE, ("atan2", "mod")))
def test_rules_equal_differences(node: Expression) -> None:
    numeric, good = differences(lambda x: value(node, x), ETA[0])
    good &= regular(node)
    assume(good.any())
    symbolic = value(derivative(node, LEAF, {}), ETA[0])
    # rounding of values up to 1e3 times the slope, over steps of 1e-4
    np.testing.assert_allclose(symbolic[good], numeric[good], rtol=1e-5, atol=1e-8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values(LEAVES, ONE, ("atan2",)))
def test_rules_equal_automatic_differentiation(node: Expression) -> None:
    first = torch.tensor(ETA[0], requires_grad=True)
    columns = {k: torch.from_numpy(v) for k, v in WT.items()}
    env = Environment(torch.zeros(1), [first, torch.from_numpy(ETA[1])], columns)
    result = compile_expression(node)(env)
    assume(result.requires_grad)
    (gradient,) = torch.autograd.grad(result.expand(4).sum(), first)
    symbolic = compile_expression(derivative(node, LEAF, {}))(env).detach().expand(4)
    good = torch.from_numpy(regular(node)) & torch.isfinite(gradient)
    assume(bool(good.any()))
    np.testing.assert_allclose(symbolic[good].numpy(), gradient[good].numpy(), rtol=1e-8, atol=1e-10)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(programs(LEAVES, (Column("WT"), Eta(2)), ("exp", "tanh", "sin", "invlogit", "atan")))
def test_statements_equal_differences(statements: tuple[Statement, ...]) -> None:
    """Names assigned again, in some branches only, or before they depend on the leaf."""

    def response(first: Array) -> Array:
        return run(statements, WT, np.zeros(1), np.stack([first, ETA[1]]))["Y"]

    numeric, good = differences(response, ETA[0])
    assume(good.any())
    done = run(differentiate(statements, LEAF, "e"), WT, np.zeros(1), ETA)
    np.testing.assert_allclose(done["Y"], response(ETA[0]), rtol=1e-14)  # the model itself is not touched
    slope = done.get("Y@e", np.zeros(4))
    np.testing.assert_allclose(slope[good], numeric[good], rtol=1e-5, atol=1e-8)


def test_a_name_assigned_again_in_one_branch() -> None:
    """A = x^2; IF (WT > 1) A = A x + x, ELSE B = A; Y = A + B: slopes by hand."""
    x, a, b = Eta(1), Variable("A"), Variable("B")
    statements: tuple[Statement, ...] = (
        Assign("A", Binary("*", x, x)),
        If(
            ((Compare(">", Column("WT"), Number(1.0)), (Assign("A", Binary("+", Binary("*", a, x), x)),)),),
            (Assign("B", a),),
        ),
        Assign("Y", Binary("+", a, b)),
    )
    done = run(differentiate(statements, x, "e"), WT, np.zeros(1), ETA)
    at = ETA[0]
    np.testing.assert_allclose(done["Y@e"], np.where(WT["WT"] > 1, 3 * at**2 + 1, 4 * at), rtol=1e-14)


def test_two_residuals_one_after_the_other() -> None:
    """Y = F (1 + EPS1) + EPS2, W set before: slopes F and 1, not a product of both."""
    f, y = Variable("F"), Variable("Y")
    statements: tuple[Statement, ...] = (
        Assign("F", Column("WT")),
        Assign("Y", Binary("*", f, Binary("+", Number(1.0), Eps(1)))),
        Assign("Y", Binary("+", y, Eps(2))),
    )
    both = differentiate(differentiate(statements, Eps(1), "1"), Eps(2), "2")

    def closed(node: Expression) -> Expression:
        return Number(0.0) if isinstance(node, Eps) else node

    done = run(transform_statements(both, closed), WT, np.zeros(1), ETA)
    np.testing.assert_array_equal(done["Y@1"], WT["WT"])
    np.testing.assert_array_equal(done["Y@2"], np.ones(4))


@pytest.mark.parametrize("name", ["int", "floor", "ceil"])
def test_steps_have_slope_zero(name: str) -> None:
    assert derivative(Call(name, (LEAF,)), LEAF, {}) == Number(0.0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values(LEAVES, ("exp", "sin", "abs", "gamln", "lfac"), ("min", "max")))
def test_choices_and_gamma_functions_equal_differences(node: Expression) -> None:
    numeric, good = differences(lambda x: value(node, x), ETA[0])
    good &= regular(node)
    assume(good.any())
    symbolic = value(derivative(node, LEAF, {}), ETA[0])
    np.testing.assert_allclose(symbolic[good], numeric[good], rtol=1e-5, atol=1e-8)


def test_of_three_equal_arguments_the_first_counts() -> None:
    node = Call("min", (LEAF, Binary("*", Number(1.0), LEAF), Negative(Negative(Column("WT")))))
    at = np.array([0.7])
    names: dict[Expression, Expression] = {LEAF: Column("first")}
    slope = transform(derivative(node, LEAF, {}), lambda n: names.get(n, n))
    assert evaluate(slope, {"first": at, "WT": at}).tolist() == [1.0]


def test_loops_have_derivatives() -> None:
    """S = S x three times from 1: x^3, in the statements of a loop."""
    x, s, n = Eta(1), Variable("S"), Variable("N")
    body = (Assign("S", Binary("*", s, x)), Assign("N", Binary("+", n, Number(1.0))))
    loop = While(Compare("<", n, Number(3.0)), body)
    statements = differentiate((Assign("S", Number(1.0)), loop), x, "e")
    leaves: dict[Expression, complex] = {x: 0.31 + 0j}
    interpreter.run(statements, leaves)
    assert leaves[Variable("S@e")].real == pytest.approx(3 * 0.31**2, rel=1e-14)


def test_several_leaves_at_once_have_no_mixed_derivatives() -> None:
    statements = (Assign("Y", Binary("*", Eps(1), Eps(2))), Assign("Z", Variable("Y")))
    made = differentiate_each(statements, {"1": Eps(1), "2": Eps(2)})
    assert [s.target for s in made if isinstance(s, Assign)] == ["Y@1", "Y@2", "Y", "Z@1", "Z@2", "Z"]


def test_a_function_without_a_rule_is_named() -> None:
    with pytest.raises(NotImplementedError, match="nosuch"):
        derivative(Call("nosuch", (LEAF,)), LEAF, {})
    with pytest.raises(NotImplementedError, match="polygamma"):
        derivative(Call("polygamma", (LEAF, Number(1.0))), LEAF, {})


@settings(max_examples=200, deadline=None, derandomize=True)
@given(values((*LEAVES, Number(0.0), Number(1.0)), ("exp", "abs")), st.booleans())
def test_folding_keeps_the_value(node: Expression, negated: bool) -> None:
    whole = Negative(node) if negated else node
    before, after = value(whole, ETA[0]), value(fold(whole), ETA[0])
    good = np.isfinite(before)  # 0 * infinity folds to 0
    np.testing.assert_allclose(after[good], before[good], rtol=1e-14)
