"""Typical values of the mu-referenced random effects, linear in transformed thetas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimate import Array, initial
from .ir.dataset import DataSet
from .ir.derivative import ONE, ZERO, derivative
from .ir.evaluate import evaluate
from .ir.expression import Column, Compare, Conditional, Expression, Logical, Not, Theta, transform, walk
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


class MuCurve:
    """The part of one mu that is not linear in its thetas."""

    def __init__(self, eta: int, curve: Expression, constant: Mapping[str, Array], n_subjects: int) -> None:
        self.eta = eta  # from 0
        curve = transform(curve, _as_numbers)
        self.thetas = sorted({n.index - 1 for n in walk(curve) if isinstance(n, Theta)})  # from 0
        self._value = transform(curve, _as_columns)
        slopes = [derivative(curve, Theta(j + 1), {}) for j in self.thetas]
        self._slopes = [transform(slope, _as_columns) for slope in slopes]
        self._constant, self._ones = constant, np.ones(n_subjects)

    def value(self, theta: Array) -> Array:
        """Return the curve [id]."""
        return evaluate(self._value, self._with(theta)) * self._ones

    def slopes(self, theta: Array) -> Array:
        """Return its derivatives to :attr:`thetas`, [id, own theta]."""
        columns = self._with(theta)
        return np.stack([evaluate(slope, columns) * self._ones for slope in self._slopes], axis=-1)

    def _with(self, theta: Array) -> dict[str, Array]:
        return {**self._constant, **{_column(j): np.asarray(theta[j]) for j in self.thetas}}


def _column(theta: int) -> str:
    return f"THETA({theta + 1})"


def _as_columns(node: Expression) -> Expression:
    return Column(_column(node.index - 1)) if isinstance(node, Theta) else node


def _as_numbers(node: Expression) -> Expression:
    """Return conditions as expressions that have derivatives."""
    return Conditional(node, ONE, ZERO) if isinstance(node, Compare | Logical | Not) else node


class MuModel:
    """Mu of every subject as a function of theta, and which thetas stand where.

    An eta whose mu uses data items that change within a subject, whose mu is not defined for every subject at
    the initial estimates, or whose variance is zero, is left out, and one with a theta in ``left_out`` (from
    0): its thetas are then structural, estimated by gradient. ``curved``: mus that are not linear in
    transformed thetas, or share them, count too.

    Attributes
    ----------
    references
        By eta (from 0).
    terms, offset, design
        mu = offset [id, eta] + design [id, eta, term] g(theta of term) + curves.
    curves
        What is not linear.
    mu_thetas, structural_thetas, residual_thetas
        Estimated thetas (from 0): of mus; elsewhere in the structural model; in the observation model alone.
    """

    def __init__(
        self,
        model: Model,
        constant: Mapping[str, Array],
        n_subjects: int,
        left_out: frozenset[int] = frozenset(),
        *,
        curved: bool = False,
    ) -> None:
        self.model, self.n_subjects = model, n_subjects
        self.references: dict[int, MuReference] = {}
        self.terms: list[MuTermColumn] = []
        self.curves: list[MuCurve] = []
        self.offset = np.zeros((n_subjects, model.n_etas))
        start = initial(model)
        parts = {
            r.eta - 1: _Part(r, constant, n_subjects)
            for r in mu_references(model, curves=curved, columns=constant.keys())
            if start.omega[r.eta - 1, r.eta - 1] > 0
        }
        estimated = {j for j, t in enumerate(model.thetas) if not t.fixed}
        barred = set(left_out)
        for k in [k for k, part in parts.items() if not part.is_defined(start.theta)]:
            barred |= parts.pop(k).thetas & estimated
        while wrong := [k for k, part in parts.items() if barred & part.thetas]:
            for k in wrong:  # of mus that share a theta all or none are used
                barred |= parts.pop(k).thetas & estimated
        for k, part in parts.items():
            self.references[k] = part.reference
            self.offset[:, k] = part.offset
            self.terms += part.terms
            self.curves += part.curves
        self.design = np.zeros((n_subjects, model.n_etas, len(self.terms)))
        for position, t in enumerate(self.terms):
            self.design[:, t.eta, position] = t.design
        used = {t.theta for t in self.terms}.union(*(c.thetas for c in self.curves))
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
    def of(
        cls, model: Model, data: DataSet, left_out: frozenset[int] = frozenset(), *, curved: bool = False
    ) -> MuModel:
        """Return the mu model over the subjects of ``data``; ``left_out``: thetas (from 0) of no mu."""
        return cls(model, constant_columns(data), data.n_subjects, left_out, curved=curved)

    def __call__(self, theta: Array) -> Array:
        """Return mu [id, eta]; zero where an eta has none."""
        mu = self.offset
        if self.terms:
            value = np.array([t.to_scale(float(theta[t.theta])) for t in self.terms])
            mu = np.asarray(mu + self.design @ value)
        if self.curves:
            mu = mu.copy()
            for curve in self.curves:
                mu[:, curve.eta] += curve.value(theta)
        return mu

    def jacobian(self, theta: Array) -> Array:
        """Return the derivatives of mu to the thetas, [id, eta, theta]."""
        slopes = np.zeros((len(self.terms), len(theta)))
        for position, t in enumerate(self.terms):
            slopes[position, t.theta] = t.slope(float(theta[t.theta]))
        made = np.asarray(self.design @ slopes)
        for curve in self.curves:
            made[:, curve.eta, curve.thetas] += curve.slopes(theta)
        return made

    def thetas_of(self, eta: int) -> set[int]:
        """Return the thetas (from 0) of the mu of ``eta`` (from 0)."""
        return {t - 1 for t in self.references[eta].thetas}


class _Part:
    """What one mu is made of."""

    def __init__(self, reference: MuReference, constant: Mapping[str, Array], n_subjects: int) -> None:
        self.reference, k, ones = reference, reference.eta - 1, np.ones(n_subjects)
        self.offset = 0.0 * ones
        if reference.offset is not None:
            self.offset = evaluate(reference.offset, constant) * ones
        self.terms = [
            MuTermColumn(k, t.theta - 1, t.transform, evaluate(t.design, constant) * ones)
            for t in reference.terms
        ]
        curve = reference.curve
        self.curves = [] if curve is None else [MuCurve(k, curve, constant, n_subjects)]
        self.thetas = {t - 1 for t in reference.thetas}

    def is_defined(self, theta: Array) -> bool:
        """Return whether mu and its slopes are numbers for every subject."""
        known = [self.offset, *(t.design * t.to_scale(float(theta[t.theta])) for t in self.terms)]
        known += [part for c in self.curves for part in (c.value(theta), c.slopes(theta))]
        return all(np.isfinite(part).all() for part in known)


def constant_columns(data: DataSet) -> dict[str, NDArray[np.float64]]:
    """Return the data items, [id], that do not change within any subject."""
    first = np.searchsorted(data.subject, np.arange(data.n_subjects))
    columns = {}
    for name, values in (data.event | data.values).items():
        if bool((values == values[first][data.subject]).all()):
            columns[name] = values[first]
    return columns
