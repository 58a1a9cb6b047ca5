"""Statements: assignments and conditionals, in the order the model runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .expression import Expression, transform, walk
from .span import Span


@dataclass(frozen=True)
class Assign:
    """``target`` takes the value of ``value``.

    A target is any variable name. Reserved ones: ``"DADT(n)"`` (derivative of compartment ``n``) and
    ``"A_0(n)"`` (its initial amount); :class:`~.compartment.Compartment` refers to them by name.
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


Statement = Assign | If


def assignments(statements: tuple[Statement, ...]) -> Iterator[Assign]:
    """Yield every assignment, those inside conditionals too, in textual order."""
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement
        else:
            for _, body in statement.branches:
                yield from assignments(body)
            yield from assignments(statement.otherwise)


def expressions(statements: tuple[Statement, ...]) -> Iterator[Expression]:
    """Yield every expression node that ``statements`` hold, conditions included."""
    for statement in statements:
        if isinstance(statement, Assign):
            yield from walk(statement.value)
        else:
            for condition, body in statement.branches:
                yield from walk(condition)
                yield from expressions(body)
            yield from expressions(statement.otherwise)


def transform_statements(
    statements: tuple[Statement, ...], change: Callable[[Expression], Expression]
) -> tuple[Statement, ...]:
    """Rebuild ``statements`` with every expression passed through ``change``."""
    rebuilt: list[Statement] = []
    for statement in statements:
        if isinstance(statement, Assign):
            rebuilt.append(replace(statement, value=transform(statement.value, change)))
        else:
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
    return tuple(rebuilt)
