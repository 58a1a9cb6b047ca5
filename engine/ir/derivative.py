"""Symbolic derivatives: forward-mode source transformation of statements.

``differentiate(statements, leaf, name)`` returns the statements with, before each assignment of a
variable V that depends on ``leaf``, an assignment of its derivative to the variable ``"V@name"``.
Rules: Griewank and Walther, Evaluating Derivatives (2008), table 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .expression import (
    Binary,
    Call,
    Compare,
    Conditional,
    Expression,
    Logical,
    Negative,
    Not,
    Number,
    Variable,
    transform,
)
from .statement import Assign, Draw, If, Reject, Statement, While, assignments

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
    if isinstance(node, Conditional):
        then = derivative(node.then, leaf, known)
        otherwise = derivative(node.otherwise, leaf, known)
        return then if then == otherwise else Conditional(node.condition, then, otherwise)
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
    if node.function in ("min", "max"):
        return _extreme(node, slopes)
    if node.function == "polygamma":
        order, x = node.arguments
        if slopes[0] != ZERO:
            raise NotImplementedError(f"the derivative of polygamma() in its order with respect to {leaf}")
        return multiply(Call("polygamma", (add(order, ONE), x)), slopes[1])
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


def _extreme(node: Call, slopes: list[Expression]) -> Expression:
    """Return the slope of the argument that is the minimum or maximum; of equal ones the first counts."""
    result = slopes[-1]
    for i in range(len(slopes) - 2, -1, -1):
        rest = node.arguments[i + 1 :]
        other = rest[0] if len(rest) == 1 else Call(node.function, rest)
        first = Compare("<=" if node.function == "min" else ">=", node.arguments[i], other)
        result = slopes[i] if slopes[i] == result else Conditional(first, slopes[i], result)
    return result


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
        case "abs":  # 0 at 0
            falling = Conditional(Compare("<", x, ZERO), Number(-1.0), ZERO)
            return Conditional(Compare(">", x, ZERO), ONE, falling)
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
        case "gamln":
            return Call("digamma", (x,))
        case "lfac":
            return Call("digamma", (add(x, ONE),))
        case "digamma":  # polygamma(n, x): its derivative number n; for derivatives only
            return Call("polygamma", (ONE, x))
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
    return differentiate_each(statements, {name: leaf})


def differentiate_each(
    statements: tuple[Statement, ...], leaves: Mapping[str, Expression]
) -> tuple[Statement, ...]:
    """Return ``statements`` with assignments of first derivatives to every leaf.

    That of variable V to the leaf called ``name`` is "V@name".

    Raises ``NotImplementedError`` naming the function where a function of a leaf has no rule.
    """
    directions = [_Direction(name, leaf, _dependent(statements, leaf)) for name, leaf in leaves.items()]
    return _statements(statements, directions)


class _Direction:
    """A leaf, the variables that depend on it, and those of them that have a derivative so far."""

    def __init__(self, name: str, leaf: Expression, dependent: set[str]) -> None:
        self.name, self.leaf = name, leaf
        self.known: dict[str, Expression] = {v: Variable(derivative_name(v, name)) for v in dependent}
        self.seen: set[str] = set()

    def start(self, touched: set[str]) -> list[Statement]:
        """Return zeros for the derivatives of variables that a branch or loop may assign, or not."""
        fresh = sorted((touched & self.known.keys()) - self.seen)
        self.seen.update(fresh)
        return [Assign(derivative_name(variable, self.name), ZERO) for variable in fresh]

    def assign(self, statement: Assign) -> list[Statement]:
        """Return the assignment of the derivative that goes with ``statement``."""
        if statement.target not in self.known:
            return []
        available = {v: d for v, d in self.known.items() if v in self.seen}
        slope = derivative(statement.value, self.leaf, available)
        self.seen.add(statement.target)
        return [Assign(derivative_name(statement.target, self.name), slope, statement.span)]


def _dependent(statements: tuple[Statement, ...], leaf: Expression) -> set[str]:
    """Return the variables that depend on ``leaf`` anywhere (a fixed point, since code may reassign)."""
    known: set[str] = set()
    while True:
        marked = {v: ONE for v in known}
        found = {a.target for a in assignments(statements) if derivative(a.value, leaf, dict(marked)) != ZERO}
        if found <= known:
            return known
        known |= found


def _statements(statements: tuple[Statement, ...], directions: list[_Direction]) -> tuple[Statement, ...]:
    result: list[Statement] = []
    for statement in statements:
        match statement:
            case If():
                touched = {a.target for a in assignments((statement,))}
                for direction in directions:
                    result += direction.start(touched)
                branches = tuple(
                    (condition, _statements(body, directions)) for condition, body in statement.branches
                )
                otherwise = _statements(statement.otherwise, directions)
                result.append(If(branches, otherwise, statement.span))
            case While():
                touched = {a.target for a in assignments((statement,))}
                for direction in directions:
                    result += direction.start(touched)
                body = _statements(statement.body, directions)
                result.append(While(statement.condition, body, statement.span))
            case Draw() | Reject():  # a random number depends on nothing
                result.append(statement)
            case Assign():
                # the derivative first: the value may reassign a variable it depends on
                for direction in directions:
                    result += direction.assign(statement)
                result.append(statement)
    return tuple(result)
