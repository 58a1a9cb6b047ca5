"""Compiled expressions and statements against an interpreter in numpy; gradients past branches not taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from support.expressions import SMOOTH, SMOOTH_TOO, conditions, programs, values
from support.statements import run
from torch import Tensor

from elbomix.engine.decoder.arithmetic import Environment, compile_expression, compile_statements
from elbomix.engine.failure import ModelFailure
from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import (
    FUNCTIONS,
    Amount,
    Call,
    Column,
    Eps,
    Eta,
    Expression,
    Number,
    Theta,
    Time,
    Variable,
)
from elbomix.engine.ir.model import Model
from elbomix.engine.ir.statement import Statement
from elbomix.parsers.read import parse_model

Array = NDArray[np.float64]
N = 7
RANDOM = np.random.default_rng(8)
COLUMNS = {"WT": RANDOM.uniform(-3, 3, N), "AGE": RANDOM.uniform(0, 2, N)}
LEAVES = (Column("WT"), Column("AGE"), Column("WT"))
ONE = (*SMOOTH, *SMOOTH_TOO, "abs", "int", "floor", "ceil", "gamln", "lfac")
TWO = ("atan2", "mod", "min", "max")


def environment() -> Environment:
    return Environment(
        torch.tensor([0.7, -1.2], dtype=torch.float64),
        [torch.from_numpy(row) for row in np.linspace(-1, 1, 2 * N).reshape(2, N)],
        {k: torch.from_numpy(v) for k, v in COLUMNS.items()},
    )


def moderate(expected: Array) -> NDArray[np.bool_]:
    return np.isfinite(expected) & (np.abs(expected) < 1e100)


def test_every_function_of_the_language_is_compiled() -> None:
    for name, count in FUNCTIONS.items():
        arguments = tuple(Number(x) for x in (0.4, 0.3, 0.9)[: count or 3])
        node = Call(name, arguments)
        assert float(compile_expression(node)(environment())) == pytest.approx(
            float(evaluate(node, {})), rel=1e-13
        ), name


@settings(max_examples=400, deadline=None, derandomize=True)
@given(values(LEAVES, ONE, TWO))
def test_expressions_equal_numpy(node: Expression) -> None:
    expected = np.broadcast_to(evaluate(node, COLUMNS), (N,))
    got = compile_expression(node)(environment()).expand(N).numpy()
    good = moderate(expected)
    # rounding, amplified by trigonometric functions of large numbers
    np.testing.assert_allclose(got[good], expected[good], rtol=1e-8, atol=1e-8)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(conditions(values(LEAVES, ("abs",), ("min", "max"), size=3)))
def test_conditions_equal_numpy(node: Expression) -> None:
    got = compile_expression(node)(environment()).expand(N)
    assert got.dtype == torch.bool
    np.testing.assert_array_equal(got.numpy(), np.broadcast_to(evaluate(node, COLUMNS) == 1, (N,)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(programs((*LEAVES, Theta(1), Eta(2)), LEAVES, ("exp", "tanh", "abs", "sin")))
def test_statements_equal_numpy(statements: tuple[Statement, ...]) -> None:
    """Conditionals, nested values, names that one branch leaves unassigned (0 there)."""
    env = environment()
    theta, eta = env.theta.numpy(), np.stack([e.numpy() for e in env.eta])
    expected = run(statements, COLUMNS, theta, eta)
    compile_statements(statements)(env)
    for name, want in expected.items():
        good = moderate(want)
        got = env.variables[name].expand(N).numpy()
        np.testing.assert_allclose(got[good], want[good], rtol=1e-9, atol=1e-9, err_msg=name)


def test_amounts_time_and_eps() -> None:
    env = environment()
    env.amounts, env.time = {2: torch.tensor(5.0)}, torch.tensor(3.0)
    for node, expected in ((Amount(2), 5.0), (Time(), 3.0), (Eps(1), 0.0), (Theta(2), -1.2)):
        assert float(compile_expression(node)(env)) == expected


def test_a_variable_without_a_value_is_a_clear_failure() -> None:
    with pytest.raises(ModelFailure, match="GHOST"):
        compile_expression(Variable("GHOST"))(environment())


GUARDED = {
    "log of zero": "LOG(X)",
    "log10 of zero": "LOG10(X)",
    "division by zero": "1/X",
    "square root of zero": "SQRT(X)",
    "fractional power of zero": "X**0.5",
    "negative power of zero": "X**(-1.5)",
    "power with a variable exponent": "X**E",
    "logarithm of a negative number": "LOG(X-0.5)",
    "square root of a negative number": "SQRT(X-0.5)",
    "overflowing exponential": "EXP(800*(1-X))",
    "exponential of an infinite exponent": "EXP(1/X)",
    "overflowing hyperbolic sine": "SINH(800*(1-X))",
    "inverse sine beyond one": "ASIN(2-X)",
    "tangent": "TAN(1.5707963267948966-X)",
    "log gamma": "GAMLN(X)",
    "arc tangent of two zeros": "ATAN2(X,X)",
    "product of zero and infinity": "X*EXP(900*(1-X))",
}
PLACES = {
    "if and else": "IF (X.GT.0.2) THEN\nY={0}\nELSE\nY=X*E\nENDIF",
    "else": "IF (X.LE.0.2) THEN\nY=X*E\nELSE\nY={0}\nENDIF",
    "one line": "Y=X*E\nIF (X.GT.0.2) Y={0}",
    "nested": "Y=X*E\nIF (X.GT.0.2) THEN\nIF (X.GT.0.3) THEN\nY={0}\nENDIF\nENDIF",
    "else if": "IF (X.LE.0.2) THEN\nY=X*E\nELSEIF (X.GT.0.3) THEN\nY={0}\nELSE\nY=1\nENDIF",
    "through a variable": "Y=X*E\nZ=0\nIF (X.GT.0.2) THEN\nZ={0}\nY=Z\nENDIF",
}
STREAM = """$PROBLEM branches
$INPUT ID DV
$DATA any.csv
$PRED
X=THETA(1)*DV
E=THETA(2)+0*ETA(1)
{code}
Y=Y+EPS(1)
$THETA 1 0.8
$OMEGA 1
$SIGMA 1
"""


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("value", GUARDED)
def test_gradients_do_not_see_branches_that_are_not_taken(value: str, place: str) -> None:
    """X is 0 at the first record, where the branch is not taken, and 1 at the second, where it is."""
    model: Model = parse_model(STREAM.format(code=PLACES[place].format(GUARDED[value])))

    def response(theta: Tensor, x: float) -> Tensor:
        env = Environment(theta, [torch.zeros(1, dtype=torch.float64)], {"DV": torch.tensor([x, 1.0])})
        compile_statements((*model.individual, *model.observation.statements))(env)
        return env.variables["Y"]

    theta = torch.tensor([1.0, 0.8], dtype=torch.float64, requires_grad=True)
    total = response(theta, 0.0)
    assert bool(torch.isfinite(total).all())
    (gradient,) = torch.autograd.grad(total.sum(), theta)
    alone = response(theta, 1.0)
    (expected,) = torch.autograd.grad(0.5 * alone.sum(), theta)  # two records like the second
    # the first record adds d(X E) = DV E, X = 0
    np.testing.assert_allclose(gradient.numpy(), expected.numpy(), rtol=1e-12)
