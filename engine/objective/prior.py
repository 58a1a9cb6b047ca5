"""Prior distributions of the population parameters: what they add to the objective.

A normal prior on the first fixed effects, inverse Wishart priors on blocks of omega and sigma (Gisleskog,
Karlsson and Beal 2002)::

    -2 log p = (theta - m)' V^-1 (theta - m) + sum over blocks of nu (tr(M B^-1) + log|B|) + constant

with the mode M and the degrees of freedom nu of the block B: the density whose maximum is at M and whose
weight is that of nu subjects. NONMEM prints objectives without the constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient
from ..failure import ModelFailure
from ..ir.model import Model
from ..ir.parameter import CovarianceBlock, matrix
from ..ir.prior import Prior, WishartPrior
from ..ir.span import Span

LOG_PI, LOG_2 = math.log(math.pi), math.log(2.0)


@dataclass(frozen=True, eq=False)
class WishartTerm:
    """The prior of rows and columns ``first`` to ``last`` (from 0, ``last`` excluded) of a covariance matrix.

    ``mode`` [n, n] is where the density is largest; ``weight`` its degrees of freedom.
    """

    first: int
    last: int
    mode: Array
    weight: float

    def value(self, covariance: Array) -> float:
        """Return the contribution at the full matrix ``covariance``; infinite where it is no covariance."""
        block = covariance[self.first : self.last, self.first : self.last]
        sign, log_determinant = np.linalg.slogdet(block)
        if not sign > 0:
            return math.inf
        return self.weight * (float(np.trace(np.linalg.solve(block, self.mode))) + float(log_determinant))

    def add_gradient(self, covariance: Array, gradient: Array) -> None:
        """Add the derivative to every element to ``gradient``: nu (B^-1 - B^-1 M B^-1)."""
        inside = slice(self.first, self.last)
        inverse = np.linalg.inv(covariance[inside, inside])
        slope = self.weight * (inverse - inverse @ self.mode @ inverse)
        gradient[inside, inside] += 0.5 * (slope + slope.T)

    def directions(self, covariance: Array) -> Array:
        """Return symmetric matrices R [row, n, n]: the squares <R, d>^2 of a change d sum to 4 d'Id.

        I is the information of the block at ``covariance``, half the second derivative at the mode:
        d'Id = nu / 2 tr(B^-1 d B^-1 d).
        """
        inside = slice(self.first, self.last)
        root = np.linalg.inv(np.linalg.cholesky(covariance[inside, inside])).T
        n = len(root)
        pairs = [(a, b) for a in range(n) for b in range(a + 1)]
        found = [np.outer(root[:, a], root[:, b]) * (1.0 if a == b else math.sqrt(2.0)) for a, b in pairs]
        made = math.sqrt(2.0 * self.weight) * np.array(found)
        return np.asarray(0.5 * (made + made.transpose(0, 2, 1)))

    @property
    def constant(self) -> float:
        """-2 log of the density's normalising constant, the scale matrix nu times the mode.

        NaN where that is no density (degrees of freedom below the dimension, a singular mode).
        """
        n, nu = len(self.mode), self.weight
        sign, log_determinant = np.linalg.slogdet(nu * self.mode)
        if not sign > 0 or nu <= n - 1:
            return math.nan
        log_gamma = n * (n - 1) / 4 * LOG_PI + sum(math.lgamma((nu - j) / 2) for j in range(n))
        return float(nu * n * LOG_2 - nu * log_determinant + 2 * log_gamma)


class PriorPenalty:
    """What the prior of a model adds to the objective.

    Fixed parameters have no prior. ``rows`` are the thetas (from 0) that have one, ``mean`` and ``precision``
    its parameters; ``omega`` and ``sigma`` the terms of covariance blocks.

    Raises
    ------
    ModelFailure
        Where the prior does not fit the parameters, or is one that cannot be read.
    """

    def __init__(self, model: Model) -> None:
        prior = model.prior
        assert prior is not None
        if prior.transformed:
            raise ModelFailure(
                "a prior of the transformed parameters (TNPRI) cannot be used: "
                "its values are in a binary file of an earlier run",
                prior.span,
                "write the prior out with $PRIOR NWPRI, $THETAP, $THETAPV, $OMEGAP, $OMEGAPD",
            )
        self.rows, self.mean, covariance = _normal(model, prior)
        if not np.isfinite(covariance).all() or (np.linalg.eigvalsh(covariance) <= 0.0).any():
            raise ModelFailure(
                "the covariance of the prior of the thetas is not positive definite", prior.span
            )
        self.precision = np.linalg.inv(covariance)
        self.covariance = covariance
        self.omega = _terms("OMEGA", model.omega, prior.omega, prior.span)
        self.sigma = _terms("SIGMA", model.sigma, prior.sigma, prior.span)

    def value(self, estimate: Estimate) -> float:
        """Return -2 log of the prior density at ``estimate``, less :attr:`constant`."""
        deviation = estimate.theta[self.rows] - self.mean
        total = float(deviation @ self.precision @ deviation)
        total += sum(term.value(estimate.omega) for term in self.omega)
        return total + sum(term.value(estimate.sigma) for term in self.sigma)

    def gradient(self, estimate: Estimate) -> Gradient:
        """Return the derivatives of :meth:`value`."""
        theta = np.zeros_like(estimate.theta)
        theta[self.rows] = 2.0 * self.precision @ (estimate.theta[self.rows] - self.mean)
        omega, sigma = np.zeros_like(estimate.omega), np.zeros_like(estimate.sigma)
        for term in self.omega:
            term.add_gradient(estimate.omega, omega)
        for term in self.sigma:
            term.add_gradient(estimate.sigma, sigma)
        return Gradient(theta, omega, sigma)

    def scores(self, estimate: Estimate) -> Gradient:
        """Return gradients [row, ..] that sum to :meth:`gradient`, as if each row were a subject's.

        The sum of their outer products is four times the prior's information, plus what vanishes where the
        gradient does: so the prior counts in matrices that are made of the subjects' gradients.
        """
        total = self.gradient(estimate)
        rows: list[tuple[str, tuple[slice, ...], Array]] = []
        for column in np.linalg.cholesky(self.precision).T:
            part = np.zeros_like(total.theta)
            part[self.rows] = 2.0 * column
            rows.append(("theta", (slice(None),), part))
        for name, terms in (("omega", self.omega), ("sigma", self.sigma)):
            full: Array = getattr(estimate, name)
            for term in terms:
                inside = slice(term.first, term.last)
                rows += [(name, (inside, inside), part) for part in term.directions(full)]
        n = max(2 * len(rows), 1)
        made = {name: np.repeat(getattr(total, name)[None] / n, n, 0) for name in ("theta", "omega", "sigma")}
        for k, (name, place, part) in enumerate(rows):
            made[name][2 * k][place] += part / math.sqrt(2.0)
            made[name][2 * k + 1][place] -= part / math.sqrt(2.0)
        return Gradient(made["theta"], made["omega"], made["sigma"])

    @property
    def constant(self) -> float:
        """What :meth:`value` leaves out of -2 log of the density; NaN where the prior of a block is none."""
        normal = len(self.rows) * (LOG_2 + LOG_PI) + float(np.linalg.slogdet(self.covariance)[1])
        return normal + sum(term.constant for term in (*self.omega, *self.sigma))


def _normal(model: Model, prior: Prior) -> tuple[NDArray[np.int64], Array, Array]:
    """Return thetas that are not fixed and have a prior, its mean and covariance."""
    if prior.theta is None:
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 0))
    n = len(prior.theta.mean)
    if n > len(model.thetas):
        raise ModelFailure(f"the prior has {n} thetas, the model {len(model.thetas)}", prior.span)
    full = np.array(matrix(prior.theta.covariance), dtype=float)
    if full.shape != (n, n):
        raise ModelFailure(f"the prior has {n} thetas, and the covariance of {len(full)} of them", prior.span)
    rows = np.array([i for i in range(n) if not model.thetas[i].fixed], dtype=np.int64)
    return rows, np.array(prior.theta.mean, dtype=float)[rows], full[np.ix_(rows, rows)]


def _terms(
    record: str, blocks: tuple[CovarianceBlock, ...], priors: tuple[WishartPrior, ...], span: Span | None
) -> tuple[WishartTerm, ...]:
    """Return the terms of blocks that are not fixed; each prior must have a block of its own size."""
    found = []
    for prior in priors:
        mode = prior.mode
        own = next((block for block in blocks if block.first == mode.first and block.size == mode.size), None)
        if own is None:
            raise ModelFailure(
                f"the prior of ${record} rows {mode.first} to {mode.first + mode.size - 1} "
                f"is that of no block of ${record}",
                mode.span or span,
                "prior blocks must be those of the model",
            )
        if own.fixed or own.same_as is not None:
            continue
        full = np.array([[mode.element(i, j) for j in range(mode.size)] for i in range(mode.size)])
        weight = prior.degrees_of_freedom
        if weight == -(mode.size + 1):  # how a flat prior is written
            continue
        if not (np.isfinite(weight) and weight >= 0.0):
            raise ModelFailure(
                f"{weight:g} degrees of freedom of the prior of ${record} have no meaning",
                mode.span or span,
                f"0 or more, or {-(mode.size + 1)} for a flat prior",
            )
        found.append(WishartTerm(mode.first - 1, mode.first - 1 + mode.size, full, weight))
    return tuple(found)
