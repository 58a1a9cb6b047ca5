"""Statements: assignments, conditionals and loops, in the order the model runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from .expression import Expression, transform, walk
from .span import Span


@dataclass(frozen=True)
class Assign:
    """``target`` takes the value of ``value``.

    A target is any variable name. Reserved ones: ``"DADT(n)"`` (derivative of compartment ``n``),
    ``"E(n)"`` (residual of the equation that an equilibrium compartment ``n`` fulfils) and ``"A_0(n)"`` (its
    initial amount); :class:`~.compartment.Compartment` refers to them by name.
    """

    target: str
    value: Expression
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class If:
    """The first branch whose condition holds is run, else ``otherwise``.

    ``branches`` holds (condition, statements) pairs.
    """

    branches: tuple[tuple[Expression, tuple[Statement, ...]], ...]
    otherwise: tuple[Statement, ...] = ()
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class While:
    """``body`` is run as long as ``condition`` holds."""

    condition: Expression
    body: tuple[Statement, ...]
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Reject:
    """The current parameters are unsuitable: the model has no value at this record.

    With ``fatal`` the run ends; otherwise a method tries other parameters. ``code`` is the user's own number.
    """

    fatal: bool
    code: int
    span: Span | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Draw:
    """Random numbers drawn in a simulation: every target takes one.

    ``kind``: uniform on (0, 1) or standard normal from stream ``source``, or all of eta or eps from
    their distribution (``targets`` then is empty).
    """

    kind: Literal["uniform", "normal", "eta", "eps"]
    targets: tuple[str, ...]
    source: int = 1
    span: Span | None = field(default=None, compare=False, repr=False)


Statement = Assign | If | While | Reject | Draw


def bodies(statement: Statement) -> tuple[tuple[Statement, ...], ...]:
    """Return the lists of statements inside ``statement``."""
    if isinstance(statement, If):
        return (*(body for _, body in statement.branches), statement.otherwise)
    return (statement.body,) if isinstance(statement, While) else ()


def conditions(statement: Statement) -> tuple[Expression, ...]:
    """Return the conditions of ``statement`` itself."""
    if isinstance(statement, If):
        return tuple(condition for condition, _ in statement.branches)
    return (statement.condition,) if isinstance(statement, While) else ()


def flatten(statements: tuple[Statement, ...]) -> Iterator[Statement]:
    """Yield every statement, those inside others after them, in textual order."""
    for statement in statements:
        yield statement
        for body in bodies(statement):
            yield from flatten(body)


def assignments(statements: tuple[Statement, ...]) -> Iterator[Assign]:
    """Yield every assignment, those inside conditionals and loops too, in textual order."""
    return (statement for statement in flatten(statements) if isinstance(statement, Assign))


def expressions(statements: tuple[Statement, ...]) -> Iterator[Expression]:
    """Yield every expression node that ``statements`` hold, conditions included."""
    for statement in flatten(statements):
        if isinstance(statement, Assign):
            yield from walk(statement.value)
        for condition in conditions(statement):
            yield from walk(condition)


def transform_statements(
    statements: tuple[Statement, ...], change: Callable[[Expression], Expression]
) -> tuple[Statement, ...]:
    """Rebuild ``statements`` with every expression passed through ``change``."""
    rebuilt: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Assign):
            rebuilt.append(replace(statement, value=transform(statement.value, change)))
        elif isinstance(statement, If):
            rebuilt.append(
                replace(
                    statement,
                    branches=tuple(
                        (transform(condition, change), transform_statements(body, change))
                        for condition, body in statement.branches
                    ),
                    otherwise=transform_statements(statement.otherwise, change),
                )
            )
        elif isinstance(statement, While):
            body = transform_statements(statement.body, change)
            rebuilt.append(replace(statement, condition=transform(statement.condition, change), body=body))
        else:
            rebuilt.append(statement)
    return tuple(rebuilt)
