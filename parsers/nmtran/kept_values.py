"""Variables that keep their value from record to record.

In NM-TRAN a variable that a record does not assign still has the value of the record before
(``IF (AMT.GT.0) TDOSE=TIME``). Found are those for which that can be seen: they are read where they have not
been assigned on every way to that place.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from ...engine.ir.compartment import Dynamics, LinearDynamics, OdeDynamics
from ...engine.ir.expression import Compare, Comparison, Expression, Variable, walk
from ...engine.ir.statement import (
    Assign,
    Draw,
    If,
    Reject,
    Statement,
    While,
    assignments,
    expressions,
    flatten,
)

_COMPLEMENT: dict[Comparison, Comparison] = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}


def kept_names(
    individual: tuple[Statement, ...],
    dynamics: Dynamics | None,
    observed: tuple[Statement, ...],
    tabulated: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the variables that need the value of the record before, in the order of their first assignment.

    ``observed`` run after ``individual``; ``dynamics`` reads in between, ``tabulated`` at the record's end.
    Initial amounts are none: they count where a subject starts, and are computed there.
    """
    search = _Search()
    search.run(individual)
    search.read(_read_by(dynamics))
    search.run(observed)
    search.read(set(tabulated))
    given = dict.fromkeys(_assigned((*individual, *observed)))
    return tuple(name for name in given if name in search.early and not name.startswith("A_0("))


@dataclass
class _Scope:
    """What is known inside one body: who is assigned for certain, and who where a condition holds."""

    certain: set[str] = field(default_factory=set)
    where: dict[Expression, set[str]] = field(default_factory=dict)


class _Search:
    """Follows the statements and collects variables that are read before they are certainly assigned."""

    def __init__(self) -> None:
        self.early: set[str] = set()
        self._scopes = [_Scope()]
        # variable -> conditions that read it, by identity: to hash a long one takes long
        self._conditions: dict[str, dict[int, Expression]] = {}

    def read(self, names: set[str]) -> None:
        self.early |= {name for name in names if not any(name in scope.certain for scope in self._scopes)}

    def run(self, statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            match statement:
                case Assign():
                    self.read(_variables(statement.value))
                    self._assign({statement.target})
                case If():
                    self._conditional(statement)
                case While():
                    self.read(_variables(statement.condition))
                    self._body(statement.body, None)
                    self._forget(set(_assigned(statement.body)))
                case Draw():
                    self._assign(set(statement.targets))
                case Reject():
                    pass

    def _assign(self, names: set[str]) -> None:
        self._scopes[-1].certain |= names
        self._forget(names)

    def _forget(self, names: set[str]) -> None:
        """Drop the conditions on ``names``, which no longer say what they did."""
        for name in names:
            for condition in self._conditions.pop(name, {}).values():
                for scope in self._scopes:
                    scope.where.pop(condition, None)

    def _body(self, statements: tuple[Statement, ...], condition: Expression | None) -> set[str]:
        """Follow a body that runs where ``condition`` holds, and return whom it assigns for certain."""
        inside = _Scope()
        if condition is not None:
            for scope in self._scopes:
                inside.certain |= scope.where.get(condition, set())
        self._scopes.append(inside)
        self.run(statements)
        self._scopes.pop()
        return inside.certain

    def _conditional(self, statement: If) -> None:
        ends: list[tuple[Expression | None, set[str]]] = []
        for condition, body in statement.branches:
            self.read(_variables(condition))
            ends.append((condition, self._body(body, condition)))
        alone = len(statement.branches) == 1
        other = _complement(statement.branches[0][0]) if alone else None
        ends.append((other, self._body(statement.otherwise, other)))
        touched = set(_assigned((statement,)))
        self._forget(touched)
        here = self._scopes[-1]
        everywhere = set.intersection(*(certain for _, certain in ends))
        here.certain |= everywhere
        for held, certain in ends:
            variables = _variables(held) if held is not None else touched
            if held is None or variables & touched:
                continue
            here.where[held] = here.where.get(held, set()) | (certain - everywhere)
            for name in variables:
                self._conditions.setdefault(name, {})[id(held)] = held


def _assigned(statements: tuple[Statement, ...]) -> list[str]:
    names: list[str] = []
    for statement in flatten(statements):
        if isinstance(statement, Assign):
            names.append(statement.target)
        elif isinstance(statement, Draw):
            names += statement.targets
    return names


def _variables(node: Expression) -> set[str]:
    return {n.name for n in walk(node) if isinstance(n, Variable)}


def _complement(condition: Expression) -> Expression | None:
    if isinstance(condition, Compare):
        return Compare(_COMPLEMENT[condition.operator], condition.left, condition.right)
    return None


def _read_by(dynamics: Dynamics | None) -> set[str]:
    """Return the variables of the individual model that the dynamics reads."""
    if dynamics is None:
        return set()
    values: list[Expression | None] = [*dynamics.model_times]
    for c in dynamics.compartments:
        values += [c.scale, c.bioavailability, c.lag, c.rate, c.duration]
    if dynamics.output is not None:
        values += [dynamics.output.scale, dynamics.output.fraction]
    names: set[str] = set()
    if isinstance(dynamics, LinearDynamics):
        values += [transfer.rate for transfer in dynamics.transfers]
    elif isinstance(dynamics, OdeDynamics):
        values.append(dynamics.start)
        read = {node.name for node in expressions(dynamics.statements) if isinstance(node, Variable)}
        names |= read - {a.target for a in assignments(dynamics.statements)}
    return names.union(*(_variables(value) for value in values if value is not None))
