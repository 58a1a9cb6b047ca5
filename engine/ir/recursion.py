"""Variables of a right-hand side that are computed from their own value of an earlier evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from .expression import Expression, Variable, walk
from .span import Span
from .statement import Assign, Draw, If, Statement, While, assignments, bodies, conditions


def recursive_variable(
    statements: tuple[Statement, ...], given: Iterable[str]
) -> tuple[str, Span | None] | None:
    """Return the first variable that is assigned from itself before it has a value, and where; or None.

    ``given`` have one at the start. ``X = X + 1`` and ``IF (A.GT.X) X = A`` count where X may not have been
    assigned before, and where anything else reads it; a solver evaluates the equations at times of its own
    choice, so such values mean nothing that can be said in advance.
    """
    flow = _Flow()
    flow.walk(statements, set(given))
    return next(((name, span) for name, span in flow.found if _read_elsewhere(statements, name)), None)


class _Flow:
    def __init__(self) -> None:
        self.found: list[tuple[str, Span | None]] = []

    def walk(self, statements: tuple[Statement, ...], known: set[str]) -> set[str]:
        """Return the variables that surely have a value after ``statements``."""
        known = set(known)
        for statement in statements:
            if isinstance(statement, Assign):
                self._note(statement.value, {statement.target} - known, statement.span)
                known.add(statement.target)
            elif isinstance(statement, If):
                ends = []
                for condition, body in statement.branches:
                    self._note(condition, _targets(body) - known, statement.span)
                    ends.append(self.walk(body, known))
                ends.append(self.walk(statement.otherwise, known))
                known = set.intersection(*ends)
            elif isinstance(statement, While):
                self._note(statement.condition, _targets(statement.body) - known, statement.span)
                self.walk(statement.body, known)
            elif isinstance(statement, Draw):
                known |= set(statement.targets)
        return known

    def _note(self, expression: Expression, open_names: set[str], span: Span | None) -> None:
        for node in walk(expression):
            if isinstance(node, Variable) and node.name in open_names:
                self.found.append((node.name, node.span or span))


def _read_elsewhere(statements: tuple[Statement, ...], name: str) -> bool:
    """Return whether ``name`` is read where something other than itself is computed or decided."""
    for statement in statements:
        parts = bodies(statement)
        if isinstance(statement, Assign):
            if statement.target != name and _reads(statement.value, name):
                return True
        elif any(_reads(c, name) for c in conditions(statement)):
            if any(_targets(part) - {name} for part in parts):
                return True
        if any(_read_elsewhere(part, name) for part in parts):
            return True
    return False


def _reads(expression: Expression, name: str) -> bool:
    return any(isinstance(node, Variable) and node.name == name for node in walk(expression))


def _targets(statements: tuple[Statement, ...]) -> set[str]:
    return {a.target for a in assignments(statements)}
