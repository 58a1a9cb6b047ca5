"""How a response depends on the residual random effects, and what it is where they are not zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..data.kept import without_unused_memory
from ..estimate import Array
from ..ir.dataset import DataSet
from ..ir.expression import Binary, Column, Conditional, Eps, Expression, Negative, Variable, walk
from ..ir.model import Model
from ..ir.statement import Assign, If, Statement, While, assignments, conditions, transform_statements
from ..kernel.compile import compile_kernel
from ..kernel.kernel import Kernel
from ..kernel.subjects import Subjects

BEYOND = 2  # degree of what is neither constant nor linear


def is_linear(model: Model) -> bool:
    """Return whether the response is a linear function of the eps, whatever else it depends on."""
    degrees: dict[str, int] = {}
    _run(model.observation.statements, degrees)
    return degrees.get(model.observation.response, 0) < BEYOND


def _run(statements: tuple[Statement, ...], degrees: dict[str, int]) -> None:
    for statement in statements:
        if isinstance(statement, Assign):
            degrees[statement.target] = _degree(statement.value, degrees)
        elif isinstance(statement, If | While):
            before = dict(degrees)
            decided = any(_degree(c, degrees) > 0 for c in conditions(statement))
            branches = (
                [statement.body] * BEYOND
                if isinstance(statement, While)
                else [b for _, b in statement.branches]
            )
            if isinstance(statement, If):
                branches.append(statement.otherwise)
            for branch in branches:
                own = dict(degrees) if isinstance(statement, While) else dict(before)
                _run(branch, own)
                degrees |= {name: max(value, degrees.get(name, 0)) for name, value in own.items()}
            if decided:  # a jump
                degrees |= {a.target: BEYOND for a in assignments((statement,))}


def _degree(node: Expression, degrees: Mapping[str, int]) -> int:
    """Return 0 where no eps occurs, 1 where it does linearly, else :data:`BEYOND`."""
    match node:
        case Eps():
            return 1
        case Variable(name):
            return degrees.get(name, 0)
        case Negative(operand):
            return _degree(operand, degrees)
        case Binary(operator, left, right):
            a, b = _degree(left, degrees), _degree(right, degrees)
            if operator in "+-":
                return max(a, b)
            if operator == "*":
                return min(a + b, BEYOND)
            return a if b == 0 and (operator == "/" or a == 0) else BEYOND
        case Conditional(condition, then, otherwise):
            if _degree(condition, degrees) > 0:
                return BEYOND
            return max(_degree(then, degrees), _degree(otherwise, degrees))
    inner = [part for part in walk(node) if part is not node]
    return BEYOND if any(_degree(part, degrees) > 0 for part in inner) else 0


class ExactResponse:
    """The response at any eta and eps."""

    def __init__(self, model: Model, data: DataSet, threads: int = 1) -> None:
        self.threads = threads
        self.names = [f"EPS@{k + 1}" for k in range(model.n_eps)]

        def change(node: Expression) -> Expression:
            return Column(self.names[node.index - 1]) if isinstance(node, Eps) else node

        observation = model.observation
        statements = transform_statements(observation.statements, change)
        model = model.replace(observation=replace(observation, statements=statements))
        model = without_unused_memory(model, data)
        self.data = replace(
            data, values=data.values | {name: np.zeros(data.n_records) for name in self.names}
        )
        compiled = compile_kernel(model, wanted=None)
        self.kernel = Kernel(compiled, Subjects.build(compiled.model, self.data))

    def __call__(self, theta: Array, eta: Array, eps: Array, known: Mapping[str, float | Array]) -> Array:
        """Return the response [draw, record]; ``eta`` [draw, id, eta], ``eps`` [draw, record, eps].

        ``known`` must not be empty: what is known is read anew for each draw, and the eps with it.
        """
        assert known
        out = np.zeros(eps.shape[:2])
        for draw, own in enumerate(eps):
            for k, name in enumerate(self.names):
                self.data.values[name][:] = own[:, k]
            out[draw] = self.kernel.evaluate(theta, eta[draw], "none", known, self.threads).values[0, :, 0]
        return out
