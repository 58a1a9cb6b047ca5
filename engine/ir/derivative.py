"""Symbolic derivatives: forward-mode source transformation of statements.

``differentiate(statements, leaf, name)`` returns the statements with, after each assignment of a
variable V that depends on ``leaf``, an assignment of its derivative to the variable ``"V@name"``.
Rules: Griewank and Walther, Evaluating Derivatives (2008), table 3.1.
"""

from __future__ import annotations

import math

from .expression import (
    Binary,
    Call,
    Compare,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Variable,
    transform,
)
from .statement import Assign, If, Statement, assignments

ZERO = Number(0.0)
ONE = Number(1.0)


def derivative_name(variable: str, name: str) -> str:
    """Return the variable that holds the derivative of ``variable``."""
    return f"{variable}@{name}"


def add(a: Expression, b: Expression) -> Expression:
    """Return a + b, folded where one is zero."""
    if a == ZERO:
        return b
    if b == ZERO:
        return a
    return Binary("+", a, b)


def subtract(a: Expression, b: Expression) -> Expression:
    """Return a - b, folded where one is zero."""
    if b == ZERO:
        return a
    if a == ZERO:
        return negate(b)
    return Binary("-", a, b)


def multiply(a: Expression, b: Expression) -> Expression:
    """Return a * b, folded where one is zero or one."""
    if ZERO in (a, b):
        return ZERO
    if a == ONE:
        return b
    if b == ONE:
        return a
    return Binary("*", a, b)


def divide(a: Expression, b: Expression) -> Expression:
    """Return a / b, folded where a is zero or b is one."""
    if a == ZERO:
        return ZERO
    return a if b == ONE else Binary("/", a, b)


def negate(a: Expression) -> Expression:
    """Return -a, folded where a is a number."""
    return Number(-a.value) if isinstance(a, Number) else Negative(a)


def fold(node: Expression) -> Expression:
    """Return ``node`` with zeros and ones removed from sums and products."""

    def change(part: Expression) -> Expression:
        if isinstance(part, Binary):
            if part.operator == "+":
                return add(part.left, part.right)
            if part.operator == "-":
                return subtract(part.left, part.right)
            if part.operator == "*":
                return multiply(part.left, part.right)
            if part.operator == "/":
                return divide(part.left, part.right)
        if isinstance(part, Negative):
            return negate(part.operand)
        return part

    return transform(node, change)


def derivative(node: Expression, leaf: Expression, known: dict[str, Expression]) -> Expression:
    """Return d node / d leaf, where ``known`` maps variables that depend on it to their derivatives."""
    if node == leaf:
        return ONE
    if isinstance(node, Variable):
        return known.get(node.name, ZERO)
    if isinstance(node, Negative):
        return negate(derivative(node.operand, leaf, known))
    if isinstance(node, Binary):
        return _binary(node, leaf, known)
    if isinstance(node, Call):
        return _call(node, leaf, known)
    if isinstance(node, Compare | Logical | Not):
        raise AssertionError("a condition has no derivative")
    return ZERO


def _binary(node: Binary, leaf: Expression, known: dict[str, Expression]) -> Expression:
    left, right = node.left, node.right
    dl, dr = derivative(left, leaf, known), derivative(right, leaf, known)
    if node.operator == "+":
        return add(dl, dr)
    if node.operator == "-":
        return subtract(dl, dr)
    if node.operator == "*":
        return add(multiply(dl, right), multiply(left, dr))
    if node.operator == "/":
        return divide(subtract(dl, multiply(node, dr)), right)
    base: Expression = ZERO
    if dl != ZERO:
        lower = Binary("**", left, subtract(right, ONE))
        base = multiply(multiply(right, lower), dl)
    if dr == ZERO:
        return base
    return add(base, multiply(multiply(node, Call("log", (left,))), dr))


def _call(node: Call, leaf: Expression, known: dict[str, Expression]) -> Expression:
    slopes = [derivative(a, leaf, known) for a in node.arguments]
    if all(s == ZERO for s in slopes):
        return ZERO
    if node.function in ("int", "floor", "ceil"):
        return ZERO
    if len(node.arguments) == 1:
        return multiply(outer_derivative(node), slopes[0])
    if node.function == "mod":
        a, b = node.arguments
        return subtract(slopes[0], multiply(Call("int", (divide(a, b),)), slopes[1]))
    if node.function == "atan2":
        a, b = node.arguments
        norm = add(multiply(a, a), multiply(b, b))
        return divide(subtract(multiply(b, slopes[0]), multiply(a, slopes[1])), norm)
    raise NotImplementedError(f"the derivative of {node.function}() with respect to {leaf}")


def outer_derivative(node: Call) -> Expression:
    """Return f'(x) of a one-argument call f(x)."""
    x = node.arguments[0]
    square = multiply(x, x)
    match node.function:
        case "exp":
            return node
        case "log":
            return divide(ONE, x)
        case "log10":
            return divide(Number(1.0 / math.log(10.0)), x)
        case "sqrt":
            return divide(Number(0.5), node)
        case "abs":
            return divide(x, node)
        case "sin":
            return Call("cos", (x,))
        case "cos":
            return negate(Call("sin", (x,)))
        case "tan":
            return add(ONE, multiply(node, node))
        case "asin":
            return divide(ONE, Call("sqrt", (subtract(ONE, square),)))
        case "acos":
            return negate(divide(ONE, Call("sqrt", (subtract(ONE, square),))))
        case "atan":
            return divide(ONE, add(ONE, square))
        case "sinh":
            return Call("cosh", (x,))
        case "cosh":
            return Call("sinh", (x,))
        case "tanh":
            return subtract(ONE, multiply(node, node))
        case "phi":
            density = Call("exp", (multiply(Number(-0.5), square),))
            return multiply(Number(1.0 / math.sqrt(2.0 * math.pi)), density)
        case "logit":
            return divide(ONE, multiply(x, subtract(ONE, x)))
        case "invlogit":
            return multiply(node, subtract(ONE, node))
    raise NotImplementedError(f"the derivative of {node.function}()")


def differentiate(statements: tuple[Statement, ...], leaf: Expression, name: str) -> tuple[Statement, ...]:
    """Return ``statements`` with derivative assignments added.

    Raises ``NotImplementedError`` naming the function where a function of ``leaf`` has no rule.
    """
    dependent = _dependent(statements, leaf)
    known: dict[str, Expression] = {v: Variable(derivative_name(v, name)) for v in dependent}
    seen: set[str] = set()
    return _statements(statements, leaf, name, known, seen)


def _dependent(statements: tuple[Statement, ...], leaf: Expression) -> set[str]:
    """Return the variables that depend on ``leaf`` anywhere (a fixed point, since code may reassign)."""
    known: set[str] = set()
    while True:
        marked = {v: ONE for v in known}
        found = {a.target for a in assignments(statements) if derivative(a.value, leaf, dict(marked)) != ZERO}
        if found <= known:
            return known
        known |= found


def _statements(
    statements: tuple[Statement, ...],
    leaf: Expression,
    name: str,
    known: dict[str, Expression],
    seen: set[str],
) -> tuple[Statement, ...]:
    result: list[Statement] = []
    for statement in statements:
        if isinstance(statement, If):
            touched = {a.target for a in assignments((statement,))} & known.keys()
            for variable in sorted(touched - seen):  # a branch may leave it unassigned
                result.append(Assign(derivative_name(variable, name), ZERO))
                seen.add(variable)
            branches = tuple(
                (condition, _statements(body, leaf, name, known, seen))
                for condition, body in statement.branches
            )
            otherwise = _statements(statement.otherwise, leaf, name, known, seen)
            result.append(If(branches, otherwise, statement.span))
            continue
        if statement.target in known:
            available = {v: d for v, d in known.items() if v in seen}
            slope = derivative(statement.value, leaf, available)
            # the derivative first: the value may reassign a variable it depends on
            result.append(Assign(derivative_name(statement.target, name), slope, statement.span))
            seen.add(statement.target)
        result.append(statement)
    return tuple(result)
