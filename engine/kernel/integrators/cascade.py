"""Cascades: states upstream that drive others, as a depot drives transit compartments and they the plasma.

The last traces of an absorption compartment decay exponentially, and to hold the error of each trace to a
fraction of it takes small steps for ever. Where nobody looks at such a state, and all that reads it is a
factor times it in the slopes of states downstream that never drive it back, its error decays too, and passes
on to state i at most J_ij / |J_jj| of itself. So the error of an upstream state j is measured by its own size
or by what it makes of the states downstream, whichever is larger.

Which states are upstream follows from the equations alone (:func:`upstream_links`); the rest is done in each
step (:func:`set_passing`, :func:`set_floor`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...ir.compartment import OdeDynamics
from ...ir.expression import Amount, Binary, Expression, Negative, Variable, walk
from ...ir.statement import Assign, Statement, assignments, conditions, flatten
from ..machine.borrowed import inlined

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Links = NDArray[np.int64]

# Of the tolerance of a state downstream, what the error of a state that drives it may use up in a step. Along
# a chain the shares are multiplied, 1/2 + 1/4 + ... < 1: however many states lie upstream, they add less to
# the error of a state than its own tolerance. Measured at rtol 1e-4, 1e-6 and 1e-9: saturable elimination
# behind one depot, parallel ones or five transits, indirect response, and turnover behind an effect
# compartment take 26 to 49 per cent fewer steps than without, flip-flop as many; against a solution at 1e-12
# no error of a value or sensitivity grows by more than 0.3 rtol.
SHARE = 0.5


@inlined
def set_passing(upstream: Links, jacobian: Matrix, passing: Vector) -> None:
    """Put SHARE |J_jj| / |J_ij| of each link j to i into ``passing``, 0 where j does not decay."""
    for a in range(upstream.shape[0]):
        j, i = upstream[a, 0], upstream[a, 1]
        loss, gain = -jacobian[j, j], abs(jacobian[i, j])
        passing[a] = SHARE * loss / gain if loss > 0.0 and gain > 0.0 else 0.0


@inlined
def set_floor(upstream: Links, passing: Vector, start: Vector, floor: Vector) -> None:
    """Put what each upstream state counts as at least into ``floor``.

    The links of a state follow each other, and those of the states that it drives come before them.
    """
    for a in range(upstream.shape[0]):
        j, i = upstream[a, 0], upstream[a, 1]
        allowed = passing[a] * max(abs(start[i]), floor[i])
        first = a == 0 or upstream[a - 1, 0] != j
        floor[j] = allowed if first else min(floor[j], allowed)


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


def upstream_links(dynamics: OdeDynamics, seen: Iterable[int]) -> Links:
    """Return links [m, 2] from each upstream state to each that it drives, from 0, the last ones first.

    An upstream state is none of the ``seen`` (from 0), decays in its own equation, and is an additive term in
    others, times factors that read no amount; nothing that it drives leads back to it.
    """
    n = len(dynamics.compartments)
    none = np.zeros((0, 2), dtype=np.int64)
    if any(part.equilibrium for part in dynamics.compartments):
        return none
    values = _readings(dynamics.statements)
    equations = [values.get(f"DADT({i + 1})", _Reading()) for i in range(n)]
    driven = [{i for i in range(n) if i != j and j in equations[i].all} for j in range(n)]
    found: dict[int, set[int]] = {}
    for j in set(range(n)) - set(seen):
        additive = all(j not in equation.other for equation in equations)
        if additive and j in equations[j].linear and driven[j] and j not in _downstream(j, driven):
            found[j] = driven[j]
    links: list[tuple[int, int]] = []
    while found:
        ready = sorted(j for j, downstream in found.items() if not downstream & found.keys())
        for j in ready:
            links += [(j, i) for i in sorted(found.pop(j))]
    return np.array(links, dtype=np.int64).reshape(-1, 2)


def _downstream(start: int, driven: list[set[int]]) -> set[int]:
    reached: set[int] = set()
    ahead = set(driven[start])
    while ahead:
        reached |= ahead
        ahead = set().union(*(driven[i] for i in ahead)) - reached
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
