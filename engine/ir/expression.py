"""Expressions: the arithmetic of a model as frozen trees.

Leaves name what they stand for, never how a language spells it. Every node may carry the place it
came from; places never count in equality.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
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


# quantity -> what it is. Those marked (i) have an index from 1.
KNOWN: dict[str, str] = {
    "newind": "0 at the first record of the data, 1 at the first of any other subject, else 2",
    "icall": "why the model runs: 2 to estimate or predict, 4 to simulate, 5 and 6 for expectations",
    "comact": "1 in the pass with eta = 0, 2 in the pass at the modes that fill tables, else 0",
    "nirec": "number of the subject's records",
    "ndrec": "number of the record within its subject, from 1",
    "nindr": "number of the subject's records with an observation",
    "nind": "number of the subject in the data, from 1",
    "irep": "number of the replicate of a simulation, from 1",
    "nrep": "number of replicates of a simulation",
    "nprob": "number of the problem in its file, from 1",
    "callfl": "0 at the record itself, 1 at an additional or lagged dose between records",
    "npde_mode": "1 where normalised prediction errors are computed, else 0",
    "mixnum": "the subpopulation being evaluated (i: none), from 1",
    "mixest": "the subpopulation the subject most likely belongs to, from 1",
    "mtime": "(i) the model time as last computed",
    "mpast": "(i) 1 once the model time has passed, else 0",
    "mnext": "(i) 1 in the interval that ends at the model time, else 0",
    "dose_time": "time of the last dose given, lag and additional doses counted; 0 before the first",
    "last_dose_time": "time of the last dose record, lag not counted; 0 before the first",
    "last_dose_amount": "amount of the last dose record; 0 before the first",
    "last_dose_duration": "length of the last infusion, 0 for a bolus and before the first",
    "omega": "(i) an element of omega at its current value, lower triangle row by row",
    "sigma": "(i) an element of sigma at its current value, lower triangle row by row",
}


@dataclass(frozen=True)
class Known(Expression):
    """Something the run knows at a record, one of :data:`KNOWN`."""

    quantity: str
    index: int = 0


@dataclass(frozen=True)
class Conditional(Expression):
    """``then`` where ``condition`` holds, else ``otherwise``."""

    condition: Expression
    then: Expression
    otherwise: Expression


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
    "digamma": 1,  # derivative of gamln
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
    return tuple(value for name in _names(type(node)) if isinstance(value := getattr(node, name), Expression))


_NAMES: dict[type[Expression], tuple[str, ...]] = {}


def _names(kind: type[Expression]) -> tuple[str, ...]:
    """Return the fields of ``kind`` that may hold sub-expressions."""
    if kind not in _NAMES:
        _NAMES[kind] = tuple(f.name for f in fields(kind) if f.name != "span")
    return _NAMES[kind]


def walk(node: Expression) -> Iterator[Expression]:
    """Yield ``node`` and everything below it, parents first."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(children(node))


def nodes(part: object) -> list[Expression]:
    """Return every expression node anywhere inside a frozen value of the IR (a tuple, a statement...)."""
    if isinstance(part, Expression):
        return list(walk(part))
    if isinstance(part, tuple):
        return [node for item in part for node in nodes(item)]
    if is_dataclass(part):
        return [node for f in fields(part) for node in nodes(getattr(part, f.name))]
    return []


def transform(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """Rebuild ``node`` bottom up, passing every rebuilt node through ``change``."""
    if isinstance(node, Call):
        node = replace(node, arguments=tuple(transform(a, change) for a in node.arguments))
    else:
        updates = {
            name: transform(value, change)
            for name in _names(type(node))
            if isinstance(value := getattr(node, name), Expression)
        }
        if updates:
            node = replace(node, **updates)  # type: ignore[arg-type]
    return change(node)
