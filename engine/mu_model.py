"""Typical values of the mu-referenced random effects, linear in transformed thetas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimate import Array, initial
from .ir.dataset import DataSet
from .ir.evaluate import evaluate
from .ir.expression import Theta
from .ir.model import Model
from .ir.mu import MuReference, mu_references
from .ir.statement import expressions


@dataclass(frozen=True)
class MuTermColumn:
    """One term of one mu: ``design`` (id) times g(theta), g = log, logit or identity."""

    eta: int  # from 0
    theta: int  # from 0
    transform: str
    design: Array

    def to_scale(self, value: float) -> float:
        """Return g(value)."""
        if self.transform == "log":
            return float(np.log(value))
        if self.transform == "logit":
            return float(np.log(value) - np.log1p(-value))
        return value

    def from_scale(self, value: float) -> float:
        """Return the theta whose g is ``value``."""
        if self.transform == "log":
            return float(np.exp(value))
        if self.transform == "logit":
            return float(1.0 / (1.0 + np.exp(-value)))
        return value

    def slope(self, value: float) -> float:
        """Return the derivative of g."""
        if self.transform == "log":
            return 1.0 / value
        return 1.0 / (value * (1.0 - value)) if self.transform == "logit" else 1.0

    def curvature(self, value: float) -> float:
        """Return the second derivative of g."""
        if self.transform == "log":
            return -1.0 / value**2
        if self.transform == "logit":
            return (2.0 * value - 1.0) / (value * (1.0 - value)) ** 2
        return 0.0


class MuModel:
    """Mu of every subject as a function of theta, and which thetas stand where.

    An eta whose mu uses data items that change within a subject, or whose variance is zero, is left out, and
    one with a theta in ``left_out`` (from 0): its thetas are then structural, estimated by gradient.

    Attributes
    ----------
    references
        By eta (from 0).
    terms, offset, design
        mu = offset [id, eta] + design [id, eta, term] g(theta of term).
    mu_thetas, structural_thetas, residual_thetas
        Estimated thetas (from 0): of mus; elsewhere in the structural model; in the observation model alone.
    """

    def __init__(
        self,
        model: Model,
        constant: Mapping[str, Array],
        n_subjects: int,
        left_out: frozenset[int] = frozenset(),
    ) -> None:
        self.model, self.n_subjects = model, n_subjects
        self.references: dict[int, MuReference] = {}
        self.terms: list[MuTermColumn] = []
        self.offset = np.zeros((n_subjects, model.n_etas))
        variance = np.diag(initial(model).omega)
        for reference in mu_references(model):
            k = reference.eta - 1
            if reference.columns - constant.keys() or variance[k] == 0:
                continue
            if left_out & {term.theta - 1 for term in reference.terms}:
                continue
            self.references[k] = reference
            ones = np.ones(n_subjects)
            if reference.offset is not None:
                self.offset[:, k] = evaluate(reference.offset, constant) * ones
            for term in reference.terms:
                design = evaluate(term.design, constant) * ones
                self.terms.append(MuTermColumn(k, term.theta - 1, term.transform, design))
        self.design = np.zeros((n_subjects, model.n_etas, len(self.terms)))
        for position, t in enumerate(self.terms):
            self.design[:, t.eta, position] = t.design
        used = {t.theta for t in self.terms}
        free = {j for j, t in enumerate(model.thetas) if not t.fixed}
        self.mu_thetas = sorted(used & free)
        nodes = list(expressions(model.individual))
        if model.dynamics is not None:
            nodes += list(expressions(getattr(model.dynamics, "statements", ())))
        inside = {n.index - 1 for n in nodes if isinstance(n, Theta)}
        observed = {n.index - 1 for n in expressions(model.observation.statements) if isinstance(n, Theta)}
        if model.dynamics is None:  # all statements stand in the observation model
            inside |= observed
        self.structural_thetas = sorted((inside - used) & free)
        self.residual_thetas = sorted((observed - used - inside) & free)

    @classmethod
    def of(cls, model: Model, data: DataSet, left_out: frozenset[int] = frozenset()) -> MuModel:
        """Return the mu model over the subjects of ``data``; ``left_out``: thetas (from 0) of no mu."""
        return cls(model, constant_columns(data), data.n_subjects, left_out)

    def __call__(self, theta: Array) -> Array:
        """Return mu [id, eta]; zero where an eta has none."""
        if not self.terms:
            return self.offset
        value = np.array([t.to_scale(float(theta[t.theta])) for t in self.terms])
        return np.asarray(self.offset + self.design @ value)

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of mu to the thetas, [id, eta, theta]."""
        slopes = np.zeros((len(self.terms), len(theta)))
        for position, t in enumerate(self.terms):
            slopes[position, t.theta] = t.slope(float(theta[t.theta]))
        return np.asarray(self.design @ slopes)

    def curvature(self, theta: Array) -> Array:
        """Return the second derivatives of mu to each theta alone, [id, eta, theta]; mixed ones are zero."""
        bends = np.zeros((len(self.terms), len(theta)))
        for position, t in enumerate(self.terms):
            bends[position, t.theta] = t.curvature(float(theta[t.theta]))
        return np.asarray(self.design @ bends)


def constant_columns(data: DataSet) -> dict[str, NDArray[np.float64]]:
    """Return the data items, [id], that do not change within any subject."""
    first = np.searchsorted(data.subject, np.arange(data.n_subjects))
    columns = {}
    for name, values in (data.event | data.values).items():
        if bool((values == values[first][data.subject]).all()):
            columns[name] = values[first]
    return columns
