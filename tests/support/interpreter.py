"""A plain interpreter of model statements over complex numbers: values, and slopes by complex steps.

An imaginary step of 1e-30 gives slopes to rounding (Squire and Trapp, SIAM Review 40 (1998) 110), so nothing
that is tested has part in what it is compared with. Comparisons look at real parts.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from elbomix.engine.ir.expression import (
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
)
from elbomix.engine.ir.statement import Assign, If, Reject, Statement, While

Values = Mapping[Expression, complex]
STEP = 1e-30
NAN = complex(math.nan, math.nan)


class Rejected(Exception):
    """A Reject statement was reached."""


def value(node: Expression, leaves: Values) -> complex:
    """Return the value of an expression; a variable that is not in ``leaves`` is 0."""
    match node:
        case Number(number):
            return complex(number)
        case Negative(operand):
            return -value(operand, leaves)
        case Binary("**", left, right):
            return power(value(left, leaves), value(right, leaves))
        case Binary(operator, left, right):
            a, b = value(left, leaves), value(right, leaves)
            if operator == "+":
                return a + b
            if operator == "-":
                return a - b
            return a * b if operator == "*" else a / b
        case Call(name, arguments):
            return FUNCTIONS[name](*(value(a, leaves) for a in arguments))
        case Conditional(condition, then, otherwise):
            return value(then if holds(condition, leaves) else otherwise, leaves)
        case Variable():
            return leaves.get(node, 0j)
    return leaves[node]


def holds(node: Expression, leaves: Values) -> bool:
    """Return whether a condition holds."""
    match node:
        case Compare(operator, left, right):
            a, b = value(left, leaves).real, value(right, leaves).real
            return {"==": a == b, "!=": a != b, "<": a < b, "<=": a <= b, ">": a > b, ">=": a >= b}[operator]
        case Logical("and", left, right):
            return holds(left, leaves) and holds(right, leaves)
        case Logical(_, left, right):
            return holds(left, leaves) or holds(right, leaves)
        case Not(operand):
            return not holds(operand, leaves)
    raise AssertionError(node)


def run(statements: tuple[Statement, ...], leaves: dict[Expression, complex]) -> None:
    """Run ``statements``; ``leaves`` takes the variables."""
    for statement in statements:
        match statement:
            case Assign(target, expression):
                leaves[Variable(target)] = value(expression, leaves)
            case If(branches, otherwise):
                taken = next((body for condition, body in branches if holds(condition, leaves)), otherwise)
                run(taken, leaves)
            case While(condition, body):
                while holds(condition, leaves):
                    run(body, leaves)
            case Reject():
                raise Rejected


def slopes(
    statements: tuple[Statement, ...],
    leaves: Mapping[Expression, float],
    directions: Mapping[Expression, NDArray[np.float64]],
    targets: list[str],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values of ``targets`` and their derivatives along ``directions`` (leaf: row of numbers)."""
    start: dict[Expression, complex] = {leaf: complex(x) for leaf, x in leaves.items()}
    run(statements, start)
    values = np.array([start.get(Variable(name), 0j).real for name in targets])
    count = len(next(iter(directions.values())))
    result = np.zeros((len(targets), count))
    for k in range(count):
        moved = {leaf: complex(x) for leaf, x in leaves.items()}
        for leaf, row in directions.items():
            moved[leaf] += 1j * STEP * row[k]
        run(statements, moved)
        result[:, k] = [moved.get(Variable(name), 0j).imag / STEP for name in targets]
    return values, result


def power(x: complex, y: complex) -> complex:
    if y.imag == 0 and y.real == int(y.real) and abs(y.real) < 100:
        return x ** int(y.real)
    if x == 0:
        return 0j if y.real > 0 else NAN
    if x.real < 0:
        return NAN
    return cmath.exp(y * cmath.log(x))


def _atan2(y: complex, x: complex) -> complex:
    whole = math.atan2(y.real, x.real)
    if abs(x) >= abs(y):
        return cmath.atan(y / x) + whole - math.atan(y.real / x.real)
    return -cmath.atan(x / y) + whole + math.atan(x.real / y.real)


def _real(x: complex) -> float:
    return x.real


def _within(
    f: Callable[[complex], complex], low: float, high: float = math.inf
) -> Callable[[complex], complex]:
    """Return ``f`` as a real function: NaN outside its domain."""
    return lambda x: f(x) if low <= x.real <= high else NAN


FUNCTIONS: dict[str, Callable[..., complex]] = {
    **{n: getattr(cmath, n) for n in ("exp", "sin", "cos", "tan", "atan", "sinh", "cosh", "tanh")},
    **{n: _within(getattr(cmath, n), 0.0) for n in ("log", "log10", "sqrt")},
    **{n: _within(getattr(cmath, n), -1.0, 1.0) for n in ("asin", "acos")},
    "abs": lambda x: x if x.real > 0 else -x,
    "atan2": _atan2,
    "int": lambda x: complex(math.trunc(x.real)),
    "floor": lambda x: complex(math.floor(x.real)),
    "ceil": lambda x: complex(math.ceil(x.real)),
    "mod": lambda a, b: a - math.trunc(a.real / b.real) * b,
    "min": lambda *x: min(x, key=_real),
    "max": lambda *x: max(x, key=_real),
    "gamln": lambda x: complex(special.loggamma(x)),
    "digamma": lambda x: complex(special.digamma(x)),
    "lfac": lambda x: complex(special.loggamma(x + 1)),
    "phi": lambda x: complex(special.erfc(-x * math.sqrt(0.5))) / 2,
    "logit": _within(lambda p: cmath.log(p / (1 - p)), 0.0, 1.0),
    "invlogit": lambda x: 1 / (1 + cmath.exp(-x)),
}
