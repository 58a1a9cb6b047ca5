"""An interpreter of model statements over arrays, to check symbolic results by their numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from elbomix.engine.ir.evaluate import evaluate
from elbomix.engine.ir.expression import Column, Eta, Expression, Number, Theta, Variable, transform
from elbomix.engine.ir.statement import Assign, If, Statement

Array = NDArray[np.float64]


def run(
    statements: tuple[Statement, ...], columns: Mapping[str, Array], theta: Array, eta: Array
) -> dict[str, Array]:
    """Return every variable that ``statements`` assign, over the subjects of ``columns``.

    ``theta`` (theta), ``eta`` (eta id). A variable that no branch assigned is 0.
    """
    n = eta.shape[1]
    values: dict[str, Array] = dict(columns)
    values |= {f"eta {k}": row for k, row in enumerate(eta, start=1)}
    assigned: dict[str, Array] = {}

    def closed(node: Expression) -> Expression:
        if isinstance(node, Theta):
            return Number(float(theta[node.index - 1]))
        if isinstance(node, Eta):
            return Column(f"eta {node.index}")
        return Column(f"variable {node.name}") if isinstance(node, Variable) else node

    def value(node: Expression) -> Array:
        known = values | {f"variable {name}": row for name, row in assigned.items()}
        return np.broadcast_to(evaluate(transform(node, closed), known), (n,))

    def assign(body: tuple[Statement, ...], where: Array) -> None:
        for statement in body:
            if isinstance(statement, Assign):
                old = assigned.get(statement.target, np.zeros(n))
                assigned[statement.target] = np.where(where > 0, value(statement.value), old)
                continue
            assert isinstance(statement, If), "the interpreter knows assignments and conditionals"
            rest = where
            for condition, inner in statement.branches:
                holds = value(condition)
                assign(inner, rest * holds)
                rest = rest * (1 - holds)
            assign(statement.otherwise, rest)

    assign(statements, np.ones(n))
    return assigned
