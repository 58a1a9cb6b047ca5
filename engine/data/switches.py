"""Equations that switch at a time which a subject's parameters set, such as ``IF (T.GT.TLAG)``.

Such a time acts on a solution through the moment of the switch alone: no right-hand side shows it, and an
integrator that meets it in the middle of a step leaves its part of the sensitivities out. As a model time it
is a moment on which the event loop lands, and which moves the sensitivities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ..ir.compartment import OdeDynamics
from ..ir.dataset import DataSet
from ..ir.expression import (
    Amount,
    Binary,
    Column,
    Compare,
    Comparison,
    Eps,
    Eta,
    Expression,
    Known,
    Number,
    Theta,
    Time,
    Variable,
    walk,
)
from ..ir.model import Model
from ..ir.statement import Assign, Draw, Statement, While, assignments, bodies, conditions, expressions
from ..ir.statement import transform_statements as transform

# what a run knows that is the same at all records of a subject
_SAME = ("mixnum", "mixest", "omega", "sigma", "icall", "nirec", "nindr", "nind")
_MIRRORED: dict[Comparison, Comparison] = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


def with_switch_times(model: Model, data: DataSet) -> Model:
    """Return ``model`` with comparisons of the running time in its equations made model times.

    They are those with a value that depends on parameters and is the same at all records of a subject.
    """
    dynamics = model.dynamics
    if not isinstance(dynamics, OdeDynamics) or not any(map(_switch, expressions(dynamics.statements))):
        return model
    columns = _same_columns(model, data)
    same = _same_variables(model, columns) - {a.target for a in assignments(dynamics.statements)}
    moving = _moving_variables(model)
    times = list(dynamics.model_times)

    def change(node: Expression) -> Expression:
        found = _switch(node)
        if found is None:
            return node
        at, later = found
        if isinstance(at, Known) and at.quantity == "mtime":
            number = at.index
        elif _all_the_same(at, same, columns) and _is_moving(at, moving):
            if at not in times:
                times.append(at)
            number = times.index(at) + 1
        else:
            return node
        return Compare("==", Known("mpast", number), Number(float(later)))

    statements = transform(dynamics.statements, change)
    return model.replace(dynamics=replace(dynamics, statements=statements, model_times=tuple(times)))


def _switch(node: Expression) -> tuple[Expression, bool] | None:
    """Return the time with which ``node`` compares the running time, and whether it holds from then on."""
    if not isinstance(node, Compare) or node.operator not in _MIRRORED:
        return None
    left, right, operator = node.left, node.right, node.operator
    if any(isinstance(part, Time) for part in walk(right)):
        left, right, operator = right, left, _MIRRORED[operator]
    if isinstance(left, Binary) and left.operator in "+-" and isinstance(left.left, Time):
        right = Binary("+" if left.operator == "-" else "-", right, left.right)
        left = left.left
    if not isinstance(left, Time) or any(isinstance(part, Time) for part in walk(right)):
        return None
    return right, operator in (">", ">=")


def _same_columns(model: Model, data: DataSet) -> set[str]:
    """Return the names of data columns with one value for each subject."""
    first = np.append(True, np.diff(data.subject) != 0)
    start = np.maximum.accumulate(np.where(first, np.arange(data.n_records), 0))
    found = set()
    for column in model.inputs.columns:
        values = data.values.get(column.name)
        if values is not None and np.array_equal(values, values[start], equal_nan=True):
            found |= {column.name, *column.aliases}
    return found


def _same_variables(model: Model, columns: set[str]) -> set[str]:
    """Return the variables of the individual model with one value for each subject."""
    found = {a.target for a in assignments(model.individual)} - set(model.kept)
    while True:
        lost = set(_changing(model.individual, found, columns, False)) & found
        if not lost:
            return found
        found -= lost


def _changing(
    statements: tuple[Statement, ...], same: set[str], columns: set[str], inside: bool
) -> Iterator[str]:
    """Yield what is assigned something else at other records; ``inside``: of a condition that changes."""
    for statement in statements:
        if isinstance(statement, Assign):
            if inside or not _all_the_same(statement.value, same, columns):
                yield statement.target
        elif isinstance(statement, Draw):
            yield from statement.targets
        else:
            steady = all(_all_the_same(c, same, columns) for c in conditions(statement))
            for body in bodies(statement):
                changes = inside or not steady or isinstance(statement, While)
                yield from _changing(body, same, columns, changes)


def _all_the_same(node: Expression, same: set[str], columns: set[str]) -> bool:
    """Return whether ``node`` has one value for each subject."""
    for part in walk(node):
        match part:
            case Variable(name):
                known = name in same
            case Column(name):
                known = name in columns
            case Known(quantity):
                known = quantity in _SAME
            case Amount() | Eps():
                known = False
            case _:
                known = True
        if not known:
            return False
    return True


def _moving_variables(model: Model) -> set[str]:
    """Return the variables of the individual model that depend on parameters."""
    found: set[str] = set()
    while True:
        more = {a.target for a in assignments(model.individual) if _is_moving(a.value, found)} - found
        if not more:
            return found
        found |= more


def _is_moving(node: Expression, moving: set[str]) -> bool:
    return any(
        isinstance(part, Theta | Eta) or (isinstance(part, Variable) and part.name in moving)
        for part in walk(node)
    )
