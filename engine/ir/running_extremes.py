"""Running extremes: variables of a right-hand side that keep the largest or smallest value so far.

``IF (CT.GT.CMAX) THEN; CMAX = CT; TMAX = T; ENDIF`` in differential equations means, whatever the steps of
the solver, the largest value of CT over time, and with it the time at which CT had that value: a companion.
``CMAX = MAX(CMAX, CT)`` means the same. Conditions around it, or joined to it by AND, say when CT counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from .expression import Call, Compare, Expression, Logical, Variable
from .statement import Assign, If, Statement, assignments, expressions

_WAYS = {">": 1, ">=": 1, "<": -1, "<=": -1}
_Place = tuple[Assign, tuple[Expression, ...], tuple[Statement, ...]]  # under which conditions, in which body


@dataclass(frozen=True)
class RunningExtreme:
    """``name`` is the largest (``sign`` 1) or smallest (-1) value; ``companions`` are set with it."""

    name: str
    sign: int
    companions: tuple[str, ...]


def running_extremes(statements: tuple[Statement, ...]) -> tuple[RunningExtreme, ...]:
    """Return the running extremes of ``statements``, in textual order.

    Each is assigned once and read nowhere but in the comparison; what it or a companion depends on are no
    running extremes, nor companions of any.
    """
    places = [place for place in _places(statements, ()) if _sign(*place[:2]) != 0]
    if not places:
        return ()
    times = Counter(a.target for a in assignments(statements))
    reads = Counter(node.name for node in expressions(statements) if isinstance(node, Variable))
    found = []
    for place in places:
        name = place[0].target
        if times[name] == 1 and reads[name] == 1:
            beside = (a.target for a in place[2] if isinstance(a, Assign)) if len(place[1]) > 0 else ()
            companions = tuple(n for n in beside if n != name and times[n] == 1 and reads[n] == 0)
            found.append(RunningExtreme(name, _sign(*place[:2]), () if _is_call(place[0]) else companions))
    return tuple(found)


def followed(statements: tuple[Statement, ...]) -> dict[str, int]:
    """Return the running extremes of ``statements`` with their signs, each before its companions with 0."""
    found: dict[str, int] = {}
    for extreme in running_extremes(statements):
        found |= {extreme.name: extreme.sign, **dict.fromkeys(extreme.companions, 0)}
    return found


def _places(statements: tuple[Statement, ...], under: tuple[Expression, ...]) -> Iterator[_Place]:
    """Yield every assignment outside loops with the conditions of the branches that it stands in."""
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement, under, statements
        elif isinstance(statement, If):
            for condition, body in statement.branches:
                yield from _places(body, (*under, condition))
            yield from _places(statement.otherwise, under)


def _sign(assign: Assign, under: tuple[Expression, ...]) -> int:
    """Return 1 for a largest and -1 for a smallest value, 0 for anything else."""
    name, value = Variable(assign.target), assign.value
    if _is_call(assign):
        assert isinstance(value, Call)
        return (1 if value.function == "max" else -1) if name in value.arguments else 0
    for condition in under:
        for part in _joined(condition):
            if isinstance(part, Compare) and {part.left, part.right} == {value, name}:
                above = 1 if part.left == value else -1
                return above * _WAYS.get(part.operator, 0)
    return 0


def _is_call(assign: Assign) -> bool:
    return isinstance(assign.value, Call) and assign.value.function in ("min", "max")


def _joined(condition: Expression) -> Iterator[Expression]:
    """Yield the parts of ``condition`` that must all hold."""
    if isinstance(condition, Logical) and condition.operator == "and":
        yield from _joined(condition.left)
        yield from _joined(condition.right)
    else:
        yield condition
