"""Held variables: those of a right-hand side that keep their value from one evaluation to the next.

NM-TRAN's variables are static: one that an evaluation reads before it assigns it still has the value of the
evaluation before, such as ``IF (T.LE.84) W = A(1)`` after time 84. That means something that does not depend
on the solver where the value is that of the latest moment at which it was set, and nothing where values of
earlier evaluations accumulate (``N = N + 1``).
"""

from __future__ import annotations

from collections.abc import Iterable

from .expression import Call, Compare, Comparison, Expression, Variable, walk
from .span import Span
from .statement import Assign, Draw, If, Statement, While, assignments, bodies, conditions

_OPPOSITE: dict[Comparison, Comparison] = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}


def held_variables(statements: tuple[Statement, ...], given: Iterable[str]) -> dict[str, Span | None]:
    """Return the variables that are read where they may not have been assigned yet, and where.

    ``given`` have a value at the start.
    """
    flow = _Reads(_targets(statements) - set(given))
    flow.walk(statements, set(given))
    read = _read_elsewhere(statements)
    return {name: span for name, span in flow.found.items() if name in read}


def accumulating_variable(
    statements: tuple[Statement, ...], given: Iterable[str]
) -> tuple[str, Span | None] | None:
    """Return the first held variable that means nothing without the solver's steps, and where; or None.

    Its new values are made of values of earlier evaluations, or others read it before it is set. ``W = W``,
    ``W = MAX(W, A(1))`` and ``IF (A(1).GT.W) W = A(1)`` are fine: evaluated twice they give the same.
    """
    held = set(held_variables(statements, given))
    sums = _Sums(held)
    sums.walk(statements, set(held))
    found = [*sums.found, *_read_too_early(statements, held)]
    return found[0] if found else None


class _Reads:
    """Follows which variables surely have a value."""

    def __init__(self, own: set[str]) -> None:
        self.own = own
        self.found: dict[str, Span | None] = {}

    def walk(self, statements: tuple[Statement, ...], known: set[str]) -> set[str]:
        """Return the variables that surely have a value after ``statements``."""
        known = set(known)
        sometimes: set[tuple[str, Expression]] = set()  # what is assigned under which condition alone
        for statement in statements:
            if isinstance(statement, Assign):
                if statement.value == Variable(statement.target):
                    continue
                self._note(statement.value, known, statement.span)
                known.add(statement.target)
            elif isinstance(statement, If):
                ends = []
                for condition, body in statement.branches:
                    self._note(condition, known, statement.span)
                    ends.append(self.walk(body, known))
                ends.append(self.walk(statement.otherwise, known))
                if len(statement.branches) == 1:
                    condition = statement.branches[0][0]
                    new = ends[0] - ends[1]
                    known |= {name for name in new if (name, _opposite(condition)) in sometimes}
                    sometimes |= {(name, condition) for name in new}
                known |= set.intersection(*ends)
            elif isinstance(statement, While):
                self._note(statement.condition, known, statement.span)
                self.walk(statement.body, known)
            elif isinstance(statement, Draw):
                known |= set(statement.targets)
            changed = _targets((statement,))
            sometimes = {(name, when) for name, when in sometimes if not _names(when) & changed}
        return known

    def _note(self, expression: Expression, known: set[str], span: Span | None) -> None:
        for node in walk(expression):
            if isinstance(node, Variable) and node.name in self.own and node.name not in known:
                self.found.setdefault(node.name, node.span or span)


class _Sums:
    """Follows which variables are made of values of earlier evaluations."""

    def __init__(self, held: set[str]) -> None:
        self.held = held
        self.found: list[tuple[str, Span | None]] = []

    def walk(self, statements: tuple[Statement, ...], old: set[str]) -> set[str]:
        """Return the variables that are after ``statements``; ``old``: before."""
        old = set(old)
        for statement in statements:
            if isinstance(statement, Assign):
                name, value = statement.target, statement.value
                if name in self.held and _keeps(name, value, old):
                    continue
                if not _names(value) & old:
                    old.discard(name)
                elif name in self.held:
                    self.found.append((name, statement.span))
                else:
                    old.add(name)
            elif isinstance(statement, If):
                parts = [*(body for _, body in statement.branches), statement.otherwise]
                old = set.union(*(self.walk(body, old) for body in parts))
            elif isinstance(statement, While):
                old |= self.walk(statement.body, self.walk(statement.body, old))
        return old


def _read_too_early(
    statements: tuple[Statement, ...], held: set[str], later: frozenset[str] = frozenset()
) -> list[tuple[str, Span | None]]:
    """Return the held variables that others read before a statement that sets them; ``later``: also set."""
    found = []
    for i, statement in enumerate(statements):
        after = later | (_set_by(statements[i + 1 :]) & held)
        if isinstance(statement, Assign):
            early = _names(statement.value) & after - {statement.target}
        else:
            read = set().union(*(_names(c) for c in conditions(statement)))
            early = {n for n in read & after if any(_targets(part) - {n} for part in bodies(statement))}
        found += [(name, statement.span) for name in sorted(early)]
        for part in bodies(statement):
            found += _read_too_early(part, held, after)
    return found


def _set_by(statements: tuple[Statement, ...]) -> frozenset[str]:
    """Return the variables that ``statements`` assign anything but their own value."""
    return frozenset(a.target for a in assignments(statements) if a.value != Variable(a.target))


def _keeps(name: str, value: Expression, old: set[str]) -> bool:
    """Return whether ``value`` is ``name`` itself, or an extreme of it and of what is not ``old``."""
    if value == Variable(name):
        return True
    if isinstance(value, Call) and value.function in ("min", "max"):
        rest = [a for a in value.arguments if a != Variable(name)]
        return len(rest) < len(value.arguments) and not any(_names(a) & old for a in rest)
    return False


def _opposite(condition: Expression) -> Expression | None:
    if isinstance(condition, Compare):
        return Compare(_OPPOSITE[condition.operator], condition.left, condition.right)
    return None


def _names(expression: Expression) -> set[str]:
    return {node.name for node in walk(expression) if isinstance(node, Variable)}


def _read_elsewhere(statements: tuple[Statement, ...]) -> set[str]:
    """Return the variables that are read where something other than themselves is computed or decided."""
    found: set[str] = set()
    for statement in statements:
        if isinstance(statement, Assign):
            found |= _names(statement.value) - {statement.target}
            continue
        targets = _targets((statement,))
        for condition in conditions(statement):
            found |= {name for name in _names(condition) if targets - {name}}
        for part in bodies(statement):
            found |= _read_elsewhere(part)
    return found


def _targets(statements: tuple[Statement, ...]) -> set[str]:
    return {a.target for a in assignments(statements)}
