"""Probabilities of the subpopulations of a mixture, with exact derivatives to the fixed effects."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array
from ..failure import ModelFailure
from ..ir.dataset import DataSet
from ..ir.derivative import derivative_name, differentiate_each
from ..ir.evaluate import evaluate
from ..ir.expression import Column, Expression, Known, Number, Theta, Variable
from ..ir.model import Model
from ..ir.prior import Mixture
from ..ir.span import Span
from ..ir.statement import Assign, If, Statement, assignments, expressions, flatten, transform_statements

ROUNDING = 1e-5  # probabilities written with few digits may miss 1 by this much
ESTIMATING = 2.0  # why the model runs: to estimate


class MixtureProbabilities:
    """The probability of each subpopulation for each subject, as functions of theta.

    The statements see each subject's first observation (its first record where it has none).

    Raises
    ------
    ModelFailure
        Where the statements hold something that has no place there, or a function without a derivative.
    """

    def __init__(self, model: Model, data: DataSet) -> None:
        mixture = model.mixture
        assert mixture is not None
        self.n, self.span = mixture.n, mixture.span
        self.n_subjects, self.n_thetas = data.n_subjects, len(model.thetas)
        self.names = [f"P({i + 1})" for i in range(mixture.n)]
        self.ids = data.ids
        self.columns = _first_observations(model, data)
        _check(mixture)
        self.read = sorted({n.index for n in expressions(mixture.statements) if isinstance(n, Theta)})
        leaves: dict[str, Expression] = {f"THETA{i}": Theta(i) for i in self.read}
        try:
            statements = differentiate_each(mixture.statements, leaves)
        except NotImplementedError as failure:
            raise ModelFailure(f"the probabilities of $MIX need {failure}", mixture.span) from failure
        self.statements = _over_columns(statements)

    def __call__(self, theta: Array) -> tuple[Array, Array]:
        """Return the probabilities [id, component] and their derivatives [id, component, theta].

        Those of a subject are NaN where they are no probabilities (see :meth:`check`).
        """
        chances, slopes = self._evaluate(theta)
        wrong = ~_are_probabilities(chances)
        chances[wrong], slopes[wrong] = np.nan, np.nan
        return chances, slopes

    def check(self, theta: Array) -> None:
        """Raise :class:`ModelFailure` at the first subject whose values are no probabilities at ``theta``."""
        chances, _ = self._evaluate(theta)
        wrong = np.flatnonzero(~_are_probabilities(chances))
        if wrong.size:
            row = chances[wrong[0]]
            found = ", ".join(f"{name}={p:.6g}" for name, p in zip(self.names, row, strict=True))
            raise ModelFailure(
                f"the probabilities of the subpopulations of subject {self.ids[wrong[0]]:g} are {found}",
                self.span,
                "each must be between 0 and 1, and together they must be 1",
            )

    def _evaluate(self, theta: Array) -> tuple[Array, Array]:
        values = self.columns | {f"theta({i})": np.asarray(theta[i - 1]) for i in self.read}
        zero = np.zeros(self.n_subjects)
        values |= {assignment.target: zero for assignment in assignments(self.statements)}
        _run(self.statements, values, np.ones(self.n_subjects, dtype=np.bool_), self.n_subjects)
        chances = np.stack([values[name] for name in self.names], axis=1)
        slopes = np.zeros((self.n_subjects, self.n, self.n_thetas))
        for m, name in enumerate(self.names):
            for i in self.read:
                slopes[:, m, i - 1] = values.get(derivative_name(name, f"THETA{i}"), zero)
        return chances, slopes


def _are_probabilities(chances: Array) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        inside = ((chances >= 0.0) & (chances <= 1.0 + ROUNDING)).all(1)
        return np.asarray(inside & (np.abs(chances.sum(1) - 1.0) <= ROUNDING))


def _first_observations(model: Model, data: DataSet) -> dict[str, Array]:
    """Return every data item at each subject's first observation, under all its names."""
    n = data.n_records
    order = np.where(data.is_observation, 0, n) + np.arange(n)
    first = np.full(data.n_subjects, 2 * n)
    np.minimum.at(first, data.subject, order)
    first %= n
    columns: dict[str, Array] = {}
    for name, values in (data.event | data.values).items():
        columns[_column(name)] = values[first].astype(np.float64)
    for column in model.inputs.columns:
        if column.name in data.values:
            columns |= {_column(alias): columns[_column(column.name)] for alias in column.aliases}
    return columns


def _column(name: str) -> str:
    return f"data.{name}"


def _check(mixture: Mixture) -> None:
    """Refuse what is no arithmetic of thetas and data items."""
    for statement in flatten(mixture.statements):
        if not isinstance(statement, Assign | If):
            _refuse(type(statement).__name__, statement.span)
    for node in expressions(mixture.statements):
        known = isinstance(node, Known) and node.quantity == "icall"
        if not known and type(node).__name__ in ("Eta", "Eps", "Amount", "Time", "Known"):
            _refuse(type(node).__name__, node.span)


def _refuse(what: str, span: Span | None) -> None:
    raise ModelFailure(
        f"{what.lower()} has no place in the probabilities of a mixture", span, "use thetas and data items"
    )


def _over_columns(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
    """Return ``statements`` with every leaf that has a value as a column of the run's table."""

    def change(node: Expression) -> Expression:
        match node:
            case Theta(index):
                return Column(f"theta({index})")
            case Column(name):
                return Column(_column(name))
            case Variable(name):
                return Column(name)
            case Known():
                return Number(ESTIMATING)
        return node

    return transform_statements(statements, change)


def _run(
    statements: tuple[Statement, ...], values: dict[str, Array], here: NDArray[np.bool_], n: int
) -> None:
    """Run ``statements`` for the subjects ``here``; all others keep their values."""
    for statement in statements:
        if isinstance(statement, Assign):
            value = np.broadcast_to(evaluate(statement.value, values), (n,))
            values[statement.target] = np.where(here, value, values[statement.target])
        elif isinstance(statement, If):
            rest = here
            for condition, body in statement.branches:
                holds = rest & (np.broadcast_to(evaluate(condition, values), (n,)) > 0)
                _run(body, values, holds, n)
                rest = rest & ~holds
            _run(statement.otherwise, values, rest, n)
