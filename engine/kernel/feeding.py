"""Which compartments of differential equations only feed others, at rates that no amount changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..ir.compartment import OdeDynamics
from ..ir.expression import Amount, Binary, Expression, Negative, Variable, walk
from ..ir.statement import Assign, Statement, assignments, conditions, flatten

_NONE: frozenset[int] = frozenset()


@dataclass(frozen=True)
class _Reading:
    """Compartments that a value is linear in, with factors that read no amount, and others it reads."""

    linear: frozenset[int] = _NONE
    other: frozenset[int] = _NONE

    @property
    def all(self) -> frozenset[int]:
        """Every compartment that is read."""
        return self.linear | self.other


def feeders(dynamics: OdeDynamics, seen: Iterable[int]) -> NDArray[np.int64]:
    """Return links [m, 2] from each feeder to each of its receivers, from 0; those of a receiver come first.

    A feeder's amount is none of the ``seen`` (from 0), decays in its own equation, and is an additive term
    in others only; nothing that it feeds leads back to it.
    """
    n = len(dynamics.compartments)
    none = np.zeros((0, 2), dtype=np.int64)
    if any(part.equilibrium for part in dynamics.compartments):
        return none
    values = _readings(dynamics.statements)
    equations = [values.get(f"DADT({i + 1})", _Reading()) for i in range(n)]
    fed = [{i for i in range(n) if i != j and j in equations[i].all} for j in range(n)]
    found: dict[int, set[int]] = {}
    for j in set(range(n)) - set(seen):
        additive = all(j not in equation.other for equation in equations)
        if additive and j in equations[j].linear and fed[j] and j not in _downstream(j, fed):
            found[j] = fed[j]
    links: list[tuple[int, int]] = []
    while found:
        ready = sorted(j for j, receivers in found.items() if not receivers & found.keys())
        for j in ready:
            links += [(j, i) for i in sorted(found.pop(j))]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _downstream(start: int, fed: list[set[int]]) -> set[int]:
    reached: set[int] = set()
    ahead = set(fed[start])
    while ahead:
        reached |= ahead
        ahead = set().union(*(fed[i] for i in ahead)) - reached
    return reached


def _readings(statements: tuple[Statement, ...]) -> dict[str, _Reading]:
    """Return how each variable reads amounts after ``statements``; a choice between cases is not linear."""
    values: dict[str, _Reading] = {}
    for statement in statements:
        if isinstance(statement, Assign):
            values[statement.target] = _reading(statement.value, values)
            continue
        inside = flatten((statement,))
        parts = [e for s in inside for e in (*conditions(s), *([s.value] if isinstance(s, Assign) else ()))]
        targets = {a.target for a in assignments((statement,))}
        every = _NONE.union(
            *(_reading(part, values).all for part in parts), *(values.get(t, _Reading()).all for t in targets)
        )
        values |= {target: _Reading(other=every) for target in targets}
    return values


def _reading(node: Expression, values: dict[str, _Reading]) -> _Reading:
    match node:
        case Amount(compartment):
            return _Reading(linear=frozenset({compartment - 1}))
        case Variable(name):
            return values.get(name, _Reading())
        case Negative(operand):
            return _reading(operand, values)
        case Binary("+" | "-" | "*" | "/" as operator, left, right):
            a, b = _reading(left, values), _reading(right, values)
            if operator in "+-":
                other = a.other | b.other
                return _Reading((a.linear | b.linear) - other, other)
            if not b.all:
                return a
            if operator == "*" and not a.all:
                return b
            return _Reading(other=a.all | b.all)
    leaves = (_reading(part, values) for part in walk(node) if isinstance(part, Amount | Variable))
    return _Reading(other=_NONE.union(*(leaf.all for leaf in leaves)))
