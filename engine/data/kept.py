"""Which variables really keep a value from record to record, given the data.

A language may let every variable keep its value; most models assign theirs on every record that reads
them, which often only the data can show (``IF (SEX.EQ.1)`` ... ``IF (SEX.EQ.2)``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..ir.dataset import DataSet
from ..ir.evaluate import evaluate
from ..ir.expression import Column, Expression, Known, Variable, nodes, transform, walk
from ..ir.model import Model
from ..ir.statement import Assign, Draw, If, Reject, Statement, While, assignments
from ..ir.task import labelled

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def without_unused_memory(model: Model, data: DataSet) -> Model:
    """Return ``model`` with ``kept`` cut down to what some record of ``data`` reads unassigned."""
    if not model.kept:
        return model
    columns = data.event | data.values
    for column in model.inputs.columns:
        columns |= {alias: data.values[column.name] for alias in column.aliases if column.name in data.values}
    search = _Search(columns, _known(data), set(model.kept), data.n_records)
    everywhere = np.ones(data.n_records, dtype=np.bool_)
    search.run(model.individual, everywhere)
    for node in nodes(model.dynamics):
        search.read(node, everywhere)
    search.run(model.observation.statements, everywhere)
    asked = {labelled(item)[1].upper() for table in model.tables for item in table.items}
    for name in (model.observation.response, *model.kept):
        if name == model.observation.response or name.upper() in asked:
            search.read(Variable(name), everywhere)
    return model.replace(kept=tuple(name for name in model.kept if name in search.found))


def _known(data: DataSet) -> dict[str, Floats]:
    first = np.append(True, np.diff(data.subject) != 0)
    newind = np.where(first, 1.0, 2.0)
    newind[0] = 0.0
    return {"newind": newind, "icall": np.full(data.n_records, 2.0), "npde_mode": np.zeros(data.n_records)}


class _Search:
    """Follows the statements on all records at once: who is assigned where, what the data alone decide."""

    def __init__(
        self, columns: Mapping[str, Floats], known: dict[str, Floats], kept: set[str], n_records: int
    ) -> None:
        self.columns, self.known, self.kept, self.n = columns, known, kept, n_records
        self.assigned: dict[str, Bools] = {}
        self.values: dict[str, Floats] = {}  # of variables that depend on data alone
        self.found: set[str] = set()

    def run(self, statements: tuple[Statement, ...], where: Bools) -> None:
        """Run ``statements`` on the records ``where`` (which may reach them, if a condition is unknown)."""
        for statement in statements:
            match statement:
                case Assign():
                    self.read(statement.value, where)
                    self._assign(statement, where)
                case If():
                    self._conditional(statement, where)
                case While():
                    self.read(statement.condition, where)
                    self._maybe(statement.body, where)
                case Draw():
                    for name in statement.targets:
                        self.assigned[name] = self._assigned(name) | where
                        self.values.pop(name, None)
                case Reject():
                    pass

    def read(self, node: Expression, where: Bools) -> None:
        """Note the variables of ``node`` that some record reads unassigned."""
        for part in walk(node):
            if isinstance(part, Variable) and part.name in self.kept and part.name not in self.found:
                if (where & ~self._assigned(part.name)).any():
                    self.found.add(part.name)

    def _assigned(self, name: str) -> Bools:
        return self.assigned.get(name, np.zeros(self.n, dtype=np.bool_))

    def _assign(self, statement: Assign, where: Bools) -> None:
        name = statement.target
        value = self._value(statement.value)
        self.assigned[name] = self._assigned(name) | where
        old = self.values.get(name)
        if value is None or (old is None and not where.all()):
            self.values.pop(name, None)
        else:
            self.values[name] = np.where(where, value, 0.0 if old is None else old)

    def _conditional(self, statement: If, where: Bools) -> None:
        rest = where
        for position, (condition, body) in enumerate(statement.branches):
            self.read(condition, rest)
            holds = self._value(condition)
            if holds is None:
                remaining = If(statement.branches[position + 1 :], statement.otherwise)
                following = (remaining,) if remaining.branches else statement.otherwise
                self._either(body, following, rest)
                return
            self.run(body, rest & (holds > 0))
            rest = rest & ~(holds > 0)
        self.run(statement.otherwise, rest)

    def _either(self, first: tuple[Statement, ...], second: tuple[Statement, ...], where: Bools) -> None:
        """Run one of two lists, nobody knows which."""
        before = dict(self.assigned)
        self._maybe(first, where, before)
        one = self.assigned
        self.assigned = dict(before)
        self._maybe(second, where, before)
        both = one.keys() & self.assigned.keys()
        self.assigned = {name: one[name] & self.assigned[name] for name in both}

    def _maybe(
        self, body: tuple[Statement, ...], where: Bools, before: dict[str, Bools] | None = None
    ) -> None:
        """Run a list whose values are unknown afterwards; without ``before`` nothing in it is certain."""
        saved = dict(self.assigned)
        self.run(body, where)
        for a in assignments(body):
            self.values.pop(a.target, None)
        if before is None:
            self.assigned = saved

    def _value(self, node: Expression) -> Floats | None:
        """Return the value of ``node`` over records where it depends on data alone, else None."""

        def closed(part: Expression) -> Expression:
            if isinstance(part, Variable) and part.name in self.values:
                return Column(f"variable {part.name}")
            if isinstance(part, Known) and part.quantity in self.known:
                return Column(f"known {part.quantity}")
            return part

        ready = transform(node, closed)
        names = {p.name for p in walk(ready) if isinstance(p, Column)}
        sources = {
            **self.columns,
            **{f"variable {n}": v for n, v in self.values.items()},
            **{f"known {n}": v for n, v in self.known.items()},
        }
        if not names <= sources.keys():
            return None
        try:
            value = evaluate(ready, {n: sources[n] for n in names})
        except ValueError:
            return None
        return np.broadcast_to(value, (self.n,))
