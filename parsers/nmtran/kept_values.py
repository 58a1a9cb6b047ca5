"""Variables that would keep their value from the record before.

In NM-TRAN a variable that a record does not assign still has the value of the record before
(``IF (AMT.GT.0) TDOSE=TIME``). The IR has no such memory. Here are found the uses that need it: those of
a variable that conditionals on event items assign, and may not assign.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.compartment import Dynamics, LinearDynamics
from ...engine.ir.dataset import Inputs, Role
from ...engine.ir.expression import Column, Compare, Comparison, Expression, Variable, walk
from ...engine.ir.statement import Assign, If, Statement, assignments
from .context import Context

# Items that change from record to record. CMT and DV are none: branches on them list the kinds of
# observations.
_EVENT_ROLES: tuple[Role, ...] = ("time", "amt", "rate", "ii", "addl", "ss", "evid", "mdv")
_COMPLEMENT: dict[Comparison, Comparison] = {
    "==": "!=",
    "!=": "==",
    "<": ">=",
    ">=": "<",
    ">": "<=",
    "<=": ">",
}


@dataclass
class _Flow:
    """What is known after some statements: who is assigned for certain, who under which conditions."""

    certain: set[str] = field(default_factory=set)
    partly: dict[str, list[Expression]] = field(default_factory=dict)

    def copy(self) -> _Flow:
        return _Flow(set(self.certain), {name: list(found) for name, found in self.partly.items()})


def check_kept_values(
    context: Context,
    inputs: Inputs,
    statements: tuple[Statement, ...],
    dynamics: Dynamics | None,
) -> None:
    """Report the uses of kept values in ``statements``, all code of the model in order."""
    always_read = _read_between_doses(dynamics)
    uses = uses_of_kept_values(statements, inputs, always_read)
    decisive = {"Y"} | always_read | _read_by_dynamics(dynamics)
    for name in dict.fromkeys(use.name for use in uses):
        span = next(use.span for use in uses if use.name == name)
        reached = influences(statements, {name})
        if reached & decisive:
            context.error(
                f"{name} may keep its value from the previous record here, which is not supported yet",
                span,
                f"assign {name} on every record, with ELSE or before the IF",
            )
        else:
            listed = ", ".join(sorted(reached))
            context.notice(f"no value is kept from record to record: {listed} may differ in tables", span)


def _read_by_dynamics(dynamics: Dynamics | None) -> set[str]:
    if dynamics is None:
        return set()
    values: list[Expression | None] = []
    for c in dynamics.compartments:
        values += [c.scale, c.bioavailability, c.lag, c.rate, c.duration, c.initial]
    names: set[str] = set()
    if isinstance(dynamics, LinearDynamics):
        values += [transfer.rate for transfer in dynamics.transfers]
    else:
        names |= {statement.target for statement in assignments(dynamics.statements)}
    return names.union(*(_variables(value) for value in values if value is not None))


def _read_between_doses(dynamics: Dynamics | None) -> set[str]:
    """Return the variables that every record needs, unlike those that only doses do."""
    if dynamics is None:
        return set()
    values: list[Expression] = [c.scale for c in dynamics.compartments if c.scale is not None]
    if isinstance(dynamics, LinearDynamics):
        values += [transfer.rate for transfer in dynamics.transfers]
    return set[str]().union(*(_variables(value) for value in values))


def uses_of_kept_values(
    statements: tuple[Statement, ...], inputs: Inputs, always_read: set[str]
) -> list[Variable]:
    """Return the uses of variables that may stand for the value of the record before.

    ``always_read`` are variables that count as used at the end of the statements.
    """
    changing = {c.name for c in inputs.columns if c.role in _EVENT_ROLES} | {"EVID", "MDV"}
    search = _Search(changing)
    flow = _Flow()
    search.run(statements, flow, ())
    for name in sorted(always_read):
        place = next((a.span for a in assignments(statements) if a.target == name), None)
        search.read(Variable(name, span=place), flow)
    return search.found


def influences(statements: tuple[Statement, ...], sources: set[str]) -> set[str]:
    """Return all variables that depend on ``sources``, directly or through others and conditions."""
    reached = set(sources)
    dependencies = _dependencies(statements, frozenset())
    while True:
        more = {target for target, read in dependencies if read & reached}
        if more <= reached:
            return reached
        reached |= more


def _dependencies(
    statements: tuple[Statement, ...], guards: frozenset[str]
) -> list[tuple[str, frozenset[str]]]:
    found: list[tuple[str, frozenset[str]]] = []
    for statement in statements:
        if isinstance(statement, Assign):
            found.append((statement.target, guards | _variables(statement.value)))
            continue
        inner = guards
        for condition, body in statement.branches:
            inner = inner | _variables(condition)
            found += _dependencies(body, inner)
        found += _dependencies(statement.otherwise, inner)
    return found


def _variables(node: Expression) -> frozenset[str]:
    return frozenset(n.name for n in walk(node) if isinstance(n, Variable))


class _Search:
    """Follows the statements and collects the uses in question."""

    def __init__(self, changing: set[str]) -> None:
        self.changing = changing  # columns and variables that differ between records by event
        self.found: list[Variable] = []

    def run(self, statements: tuple[Statement, ...], flow: _Flow, guards: tuple[Expression, ...]) -> None:
        for statement in statements:
            if isinstance(statement, Assign):
                self.read(statement.value, flow)
                if self.changes(statement.value) or any(self.changes(g) for g in guards):
                    self.changing.add(statement.target)
                flow.certain.add(statement.target)
            else:
                self.conditional(statement, flow, guards)

    def conditional(self, statement: If, flow: _Flow, guards: tuple[Expression, ...]) -> None:
        ends: list[_Flow] = []
        conditions = tuple(condition for condition, _ in statement.branches)
        for condition, body in statement.branches:
            self.read(condition, flow)
            ends.append(flow.copy())
            self.run(body, ends[-1], (*guards, *conditions))
        ends.append(flow.copy())
        self.run(statement.otherwise, ends[-1], (*guards, *conditions))
        touched = {a.target for a in assignments((statement,))}
        alone = conditions[0] if len(conditions) == 1 and not statement.otherwise else None
        for name in touched - flow.certain:
            if all(name in end.certain for end in ends) or (
                alone is not None and _complement(alone) in flow.partly.get(name, [])
            ):
                flow.certain.add(name)
            else:
                flow.partly.setdefault(name, []).extend(conditions)

    def read(self, node: Expression, flow: _Flow) -> None:
        for use in walk(node):
            if not isinstance(use, Variable) or use.name in flow.certain:
                continue
            if any(self.changes(condition) for condition in flow.partly.get(use.name, [])):
                self.found.append(use)

    def changes(self, node: Expression) -> bool:
        return any(isinstance(n, Column | Variable) and n.name in self.changing for n in walk(node))


def _complement(condition: Expression) -> Expression | None:
    if isinstance(condition, Compare):
        return Compare(_COMPLEMENT[condition.operator], condition.left, condition.right)
    return None
