"""Weighted residuals of observations, from first-order expansions of the model around given random effects.

Near eta0 an observation is about f(eta0) + J (eta - eta0) + h(eta) eps, with J = df/deta, h = df/deps. So a
subject's observations have mean f(eta0) - J eta0 and covariance J Omega J' + V. The kinds of residuals
differ in eta0 (zero, or the conditional estimates) and in V (Beal and Sheiner, NONMEM Users Guide I, section
E; Hooker, Staatz and Karlsson 2007): h Sigma h' at eta = 0, at the conditional estimates, or, with
interaction, its expectation over eta where h is expanded too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernel.kernel import Predictions

Array = NDArray[np.float64]
Rows = NDArray[np.int64]

CHUNK = 2**22  # elements of the covariance matrices held at once


@dataclass(frozen=True, eq=False)
class Response:
    """The response at eps = 0 and its derivatives at every record.

    ``value`` [record], ``slope`` [record, eta], ``eps`` [record, eps], ``eps_slope`` [record, eps, eta].
    """

    value: Array
    slope: Array
    eps: Array
    eps_slope: Array

    @classmethod
    def of(cls, made: Predictions, n_eps: int, draw: int = 0) -> Response:
        """Return the response of predictions made along the etas."""
        values, derivatives = made.values[draw], made.derivatives[draw]
        return cls(values[:, 0], derivatives[:, 0], values[:, 1 : 1 + n_eps], derivatives[:, 1 : 1 + n_eps])

    def moved(self, eta: Array) -> tuple[Array, Array]:
        """Return mean and slopes to eps continued along straight lines by ``eta`` [record, eta]."""
        value = self.value + np.einsum("rk,rk->r", self.slope, eta)
        return value, self.eps + np.einsum("rek,rk->re", self.eps_slope, eta)


@dataclass(frozen=True, eq=False)
class Grouping:
    """The observations that have residuals, subjects with equally many together.

    ``blocks`` hold int64[subject, observation] rows of the data; ``level`` [record] is equal where records
    share their eps. ``cholesky`` takes the Cholesky root of covariances where residuals are weighted, else
    the symmetric one.
    """

    blocks: tuple[Rows, ...]
    level: Rows
    cholesky: bool = False

    @classmethod
    def build(cls, subject: Rows, kept: NDArray[np.bool_], level: Rows, cholesky: bool = False) -> Grouping:
        """Return the grouping of the records ``kept``."""
        rows = np.flatnonzero(kept)
        counts = np.bincount(subject[rows], minlength=int(subject.max(initial=-1)) + 1)
        ends = np.cumsum(counts)
        blocks = []
        for m in np.unique(counts[counts > 0]):
            starts = (ends - counts)[counts == m]
            blocks.append(rows[starts[:, None] + np.arange(m)])
        return cls(tuple(blocks), level, cholesky)

    def pieces(self, elements: int = CHUNK) -> Iterator[Rows]:
        """Yield the blocks in pieces with at most ``elements`` in [subject, observation, observation]."""
        for block in self.blocks:
            size = max(1, elements // block.shape[1] ** 2)
            for begin in range(0, len(block), size):
                yield block[begin : begin + size]

    def same(self, rows: Rows) -> NDArray[np.bool_]:
        """Return which pairs of observations share their eps, [subject, observation, observation]."""
        level = self.level[rows]
        return np.asarray(level[:, :, None] == level[:, None, :])

    def whitened(self, residual: Array, covariance: Callable[[Rows], Array]) -> Array:
        """Return ``residual`` [record] times the inverse root of its covariance; zero at other records.

        ``covariance`` gives [subject, observation, observation] of the rows of a piece.
        """
        out = np.zeros(len(self.level))
        for rows in self.pieces():
            root = inverse_root(covariance(rows), self.cholesky)
            out[rows] = np.einsum("sab,sb->sa", root, residual[rows])
        return out


def inverse_root(covariance: Array, cholesky: bool = False) -> Array:
    """Return W with W C W' = 1 of covariance matrices [.., n, n]; NaN where one is not positive definite."""
    good = np.asarray(np.isfinite(covariance).all((-1, -2)))
    identity = np.eye(covariance.shape[-1])
    values, vectors = np.linalg.eigh(np.where(good[..., None, None], covariance, identity))
    good &= values[..., 0] > 0
    scale = np.where(good[..., None], values, 1.0) ** -0.5
    root = np.einsum("...ik,...k,...jk->...ij", vectors, scale, vectors)
    if cholesky:
        lower = np.linalg.cholesky(np.where(good[..., None, None], covariance, identity))
        root = np.linalg.inv(lower)
    return np.where(good[..., None, None], root, np.nan)


class Expansion:
    """The distribution of the observations in the expansion around ``eta`` [id, eta].

    ``at`` is the response there; ``base`` [id, eta] are the etas of which the population has the mean: zero,
    but for those that are taken as fixed effects. ``omega`` is zero in rows and columns of the latter.
    """

    def __init__(
        self,
        at: Response,
        eta: Array,
        base: Array,
        sigma: Array,
        omega: Array,
        subject: Rows,
        grouping: Grouping,
    ) -> None:
        self.at, self.grouping, self.sigma, self.omega = at, grouping, sigma, omega
        self.mean, self.moved_eps = at.moved((base - eta)[subject])

    def structural(self, rows: Rows) -> Array:
        """Return J Omega J' of the observations ``rows``."""
        slope = self.at.slope[rows]
        return np.asarray(slope @ self.omega @ slope.swapaxes(1, 2))

    def expected(self, rows: Rows) -> Array:
        """Return the expectation of V over eta, h expanded to first order."""
        residual = residual_covariance(self.moved_eps, self.sigma, self.grouping, rows)
        slope = self.at.eps_slope[rows]
        between = np.einsum("saek,kl,sbfl,ef->sab", slope, self.omega, slope, self.sigma, optimize=True)
        return np.asarray(residual + between * self.grouping.same(rows))

    def weighted(self, residual: Array, variance: Response | None) -> Array:
        """Return weighted residuals [record], V as at ``variance`` (None: its expectation)."""

        def covariance(rows: Rows) -> Array:
            if variance is None:
                return self.structural(rows) + self.expected(rows)
            own = residual_covariance(variance.eps, self.sigma, self.grouping, rows)
            return self.structural(rows) + own

        return self.grouping.whitened(residual, covariance)


def residual_covariance(eps: Array, sigma: Array, grouping: Grouping, rows: Rows) -> Array:
    """Return h Sigma h' of the observations ``rows``; ``eps`` [record, eps] is h."""
    slope = eps[rows]
    return np.asarray((slope @ sigma @ slope.swapaxes(1, 2)) * grouping.same(rows))


def individual_weighted(residual: Array, variance: Response, sigma: Array, grouping: Grouping) -> Array:
    """Return residuals of individual predictions over their standard deviation, [record].

    Those that share eps are decorrelated.
    """
    return grouping.whitened(residual, lambda rows: residual_covariance(variance.eps, sigma, grouping, rows))
