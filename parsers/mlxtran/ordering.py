"""The order of declarative equations: each after those it needs.

Equations may stand in any order. A variable assigned several times keeps the order of its assignments, and
what stands between two of them reads the earlier one.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from ...engine.ir.expression import Amount, Expression, Known, Time, Variable, walk
from ...engine.ir.statement import Statement, assignments, conditions, expressions, flatten
from .context import Context


def targets(statement: Statement) -> set[str]:
    """Return the variables that ``statement`` assigns anywhere."""
    return {a.target for a in assignments((statement,))}


def sources(statement: Statement) -> set[str]:
    """Return the variables that ``statement`` reads."""
    return variables(expressions((statement,)))


def variables(nodes: Iterable[Expression]) -> set[str]:
    """Return the names of the variables among ``nodes``."""
    return {node.name for node in nodes if isinstance(node, Variable)}


def names_of(expression: Expression) -> set[str]:
    """Return the variables that ``expression`` reads."""
    return variables(walk(expression))


def in_order(context: Context, statements: list[Statement]) -> list[Statement]:
    """Return ``statements`` with each after those that assign what it reads; note where none can be first."""
    made: dict[str, list[int]] = {}
    for i, statement in enumerate(statements):
        for name in targets(statement):
            made.setdefault(name, []).append(i)
    before: list[set[int]] = [set() for _ in statements]
    for i, statement in enumerate(statements):
        for name in targets(statement):
            before[i] |= {j for j in made[name] if j < i}
        for name in sources(statement):
            earlier = [j for j in made.get(name, ()) if j < i]
            later = [j for j in made.get(name, ()) if j > i]
            if earlier:
                before[i] |= set(earlier)
                for j in later:
                    before[j].add(i)
            elif i not in made.get(name, ()) or _reads_before(statement, name):
                before[i] |= set(later)
                if i in made.get(name, ()) and not later:
                    before[i].add(i)
    return _sorted(context, statements, before)


def _reads_before(statement: Statement, name: str) -> bool:
    """Return whether ``statement`` may read ``name`` before it assigns it."""
    seen = False
    for part in flatten((statement,)):
        parts = [*conditions(part), *([part.value] if hasattr(part, "value") else [])]
        if any(name in names_of(node) for node in parts) and not seen:
            return True
        seen = seen or getattr(part, "target", None) == name
    return False


def _sorted(context: Context, statements: list[Statement], before: list[set[int]]) -> list[Statement]:
    waiting = [set(needs) for needs in before]
    after: list[list[int]] = [[] for _ in statements]
    for i, needs in enumerate(before):
        for j in needs:
            after[j].append(i)
    ready = [i for i, needs in enumerate(waiting) if not needs]
    heapq.heapify(ready)
    done: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        done.append(i)
        for j in after[i]:
            waiting[j].discard(i)
            if not waiting[j]:
                heapq.heappush(ready, j)
    if len(done) < len(statements):
        stuck = min(set(range(len(statements))) - set(done))
        name = min(targets(statements[stuck]), default="this")
        context.error(
            f"{name} depends on itself",
            statements[stuck].span,
            "an equation of time is written with ddt_",
        )
        done += [i for i in range(len(statements)) if i not in set(done)]
    return [statements[i] for i in done]


def moving(statements: list[Statement]) -> set[str]:
    """Return the variables of ``statements`` that change with time, state or doses by any assignment."""
    found: set[str] = set()
    while True:
        new = {
            name
            for statement in statements
            if is_moving(expressions((statement,)), found) or targets(statement) & found
            for name in targets(statement)
        }
        if new <= found:
            return found
        found |= new


def is_moving(nodes: Iterable[Expression], moving_variables: set[str]) -> bool:
    """Return whether any of ``nodes`` changes with time, state or doses."""
    return any(
        isinstance(node, Time | Amount | Known)
        or (isinstance(node, Variable) and node.name in moving_variables)
        for node in nodes
    )


def needed(statements: list[Statement], wanted: set[str]) -> list[Statement]:
    """Return those of ``statements``, in order, that ``wanted`` depends on."""
    names, kept = set(wanted), []
    for statement in reversed(statements):
        if targets(statement) & names:
            kept.append(statement)
            names |= sources(statement)
    return kept[::-1]
