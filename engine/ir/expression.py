"""Expressions: the arithmetic of a model as frozen trees.

Leaves name what they stand for, never how a language spells it. Every node may carry the place it
came from; places never count in equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from .span import Span


@dataclass(frozen=True, kw_only=True)
class Expression:
    """Base of all expressions."""

    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Number(Expression):
    """A constant."""

    value: float


@dataclass(frozen=True)
class Theta(Expression):
    """Fixed effect ``index`` (from 1)."""

    index: int


@dataclass(frozen=True)
class Eta(Expression):
    """Random effect ``index`` (from 1) of the individual."""

    index: int


@dataclass(frozen=True)
class Eps(Expression):
    """Residual random effect ``index`` (from 1)."""

    index: int


@dataclass(frozen=True)
class Column(Expression):
    """The value of a data column at the current record."""

    name: str


@dataclass(frozen=True)
class Variable(Expression):
    """A variable that a statement assigned before."""

    name: str


@dataclass(frozen=True)
class Amount(Expression):
    """The amount in compartment ``compartment`` (from 1) at the current time."""

    compartment: int


@dataclass(frozen=True)
class Time(Expression):
    """The running time inside a differential equation."""


@dataclass(frozen=True)
class Negative(Expression):
    """Arithmetic negation."""

    operand: Expression


BinaryOperator = Literal["+", "-", "*", "/", "**"]
Comparison = Literal["==", "!=", "<", "<=", ">", ">="]
LogicalOperator = Literal["and", "or"]


@dataclass(frozen=True)
class Binary(Expression):
    """Arithmetic with two operands."""

    operator: BinaryOperator
    left: Expression
    right: Expression


# name -> number of arguments (None: two or more)
FUNCTIONS: dict[str, int | None] = {
    "exp": 1,
    "log": 1,
    "log10": 1,
    "sqrt": 1,
    "abs": 1,
    "sin": 1,
    "cos": 1,
    "tan": 1,
    "asin": 1,
    "acos": 1,
    "atan": 1,
    "atan2": 2,
    "sinh": 1,
    "cosh": 1,
    "tanh": 1,
    "int": 1,  # towards zero
    "floor": 1,
    "ceil": 1,
    "mod": 2,  # sign of the first argument
    "min": None,
    "max": None,
    "gamln": 1,  # log of the gamma function
    "lfac": 1,  # log of the factorial
    "phi": 1,  # normal distribution function
    "logit": 1,
    "invlogit": 1,
}


@dataclass(frozen=True)
class Call(Expression):
    """A function of :data:`FUNCTIONS` applied to its arguments."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Compare(Expression):
    """A comparison; only in conditions."""

    operator: Comparison
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Logical(Expression):
    """``and`` / ``or`` of two conditions."""

    operator: LogicalOperator
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Not(Expression):
    """Negation of a condition."""

    operand: Expression


def children(node: Expression) -> tuple[Expression, ...]:
    """Return the direct sub-expressions of ``node``, left to right."""
    if isinstance(node, Call):
        return node.arguments
    return tuple(value for f in fields(node) if isinstance(value := getattr(node, f.name), Expression))


def walk(node: Expression) -> Iterator[Expression]:
    """Yield ``node`` and everything below it, parents first."""
    yield node
    for child in children(node):
        yield from walk(child)


def transform(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """Rebuild ``node`` bottom up, passing every rebuilt node through ``change``."""
    if isinstance(node, Call):
        node = replace(node, arguments=tuple(transform(a, change) for a in node.arguments))
    else:
        updates = {
            f.name: transform(value, change)
            for f in fields(node)
            if isinstance(value := getattr(node, f.name), Expression)
        }
        if updates:
            node = replace(node, **updates)  # type: ignore[arg-type]
    return change(node)
