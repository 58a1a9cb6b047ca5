"""An objective evaluated at one estimate, subject by subject; mixtures of subpopulations put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient
from .population import Population


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The objective at ``estimate``, without N log 2 pi.

    Attributes
    ----------
    ofv
        Sum of ``by_subject`` [id]; infinite where a subject has no value.
    modes
        [component, id, eta], conditional modes under each subpopulation.
    precision
        [component, id, eta, eta], posterior precision at the modes as the method has it (the matrix H of the
        Laplace approximation); zero for etas without variance.
    converged
        bool[id]: the modes are known (of all subpopulations).
    by_component
        [component, id], contributions as if the subject were of that subpopulation for certain.
    weights
        [id, component], probabilities of the subpopulations given the data.
    """

    estimate: Estimate
    ofv: float
    by_subject: Array
    modes: Array
    precision: Array
    converged: NDArray[np.bool_]
    by_component: Array
    weights: Array

    @property
    def best(self) -> NDArray[np.int64]:
        """Most probable subpopulation of each subject, from 0."""
        return np.asarray(np.argmax(self.weights, axis=1), dtype=np.int64)

    @property
    def best_modes(self) -> Array:
        """Conditional modes [id, eta] under each subject's most probable subpopulation."""
        return np.asarray(self.modes[self.best, np.arange(len(self.by_subject))])


def posterior_covariance(precision: Array) -> Array:
    """Return the inverses of ``precision`` [.., eta, eta] over the etas that have one; zero elsewhere."""
    covariance = np.zeros_like(precision)
    diagonal = np.einsum("...kk->...k", precision)
    known = np.flatnonzero(diagonal.any(axis=tuple(range(diagonal.ndim - 1))))
    if len(known):
        own = (..., known[:, None], known)
        covariance[own] = np.linalg.inv(precision[own])
    return covariance


@runtime_checkable
class Objective(Protocol):
    """What the deterministic methods minimise."""

    def value(self, estimate: Estimate, start: Array | None = None, thorough: bool = False) -> Evaluation:
        """Return the objective; ``start`` [component, id, eta] are modes nearby.

        ``thorough``: the modes are sought from 0, too, and the better ones are kept.
        """
        ...

    def gradient(self, evaluation: Evaluation) -> Gradient:
        """Return the derivatives of each subject's contribution, an id axis before all others."""
        ...


def joined(
    population: Population,
    estimate: Estimate,
    by_component: Array,
    modes: Array,
    precision: Array,
    converged: NDArray[np.bool_],
) -> Evaluation:
    """Return the evaluation from those of the subpopulations: -2 log sum_m p_m exp(-O_m / 2).

    Arrays as in :class:`Evaluation`, ``converged`` bool[component, id].
    """
    values = np.where(np.isnan(by_component), np.inf, by_component)
    prior, _ = population.probabilities(estimate.theta)
    if len(values) == 1:
        by_subject, weights = values[0], np.ones((values.shape[1], 1))
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            log_joint = np.log(prior) - 0.5 * values.T
            top = log_joint.max(1, keepdims=True)
            top = np.where(np.isfinite(top), top, 0.0)
            shares = np.exp(log_joint - top)
            total = shares.sum(1, keepdims=True)
            by_subject = -2.0 * (np.log(total) + top)[:, 0]
            weights = np.where(total > 0.0, shares / total, prior)
        by_subject = np.where(np.isnan(by_subject), np.inf, by_subject)
    return Evaluation(
        estimate,
        float(by_subject.sum()),
        by_subject,
        modes,
        precision,
        np.asarray(converged.all(0)),
        values,
        weights,
    )


def joined_gradient(population: Population, evaluation: Evaluation, parts: list[Gradient]) -> Gradient:
    """Return the gradient of the joined contributions from those of the subpopulations."""
    if len(parts) == 1:
        return parts[0]
    weights = evaluation.weights
    prior, slopes = population.probabilities(evaluation.estimate.theta)
    theta = sum(weights[:, m, None] * part.theta for m, part in enumerate(parts))
    safe = np.where(prior > 0.0, prior, 1.0)
    theta = theta - 2.0 * np.einsum("im,imt->it", weights / safe, slopes)
    omega = sum(weights[:, m, None, None] * part.omega for m, part in enumerate(parts))
    sigma = sum(weights[:, m, None, None] * part.sigma for m, part in enumerate(parts))
    return Gradient(np.asarray(theta), np.asarray(omega), np.asarray(sigma))
