"""The estimated natural parameters: thetas, variances and covariances, each once.

Standard errors belong to these. Fixed parameters and structural zeros are left out; a SAME block is the same
parameters as the block that it repeats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient, is_fixed, is_repeated, names
from ..ir.model import Model
from ..ir.parameter import CovarianceBlock, dimension
from .unconstrained import span


class NaturalParameters:
    """Maps between estimates and the vector of estimated natural parameters.

    Attributes
    ----------
    names
        Of the estimated parameters, in the order of :func:`.estimate.names`.
    index
        Their places among all parameters.
    spread
        [parameter, estimated] of zeros and ones: what each parameter repeats.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        every = names(model)
        self.index: NDArray[np.intp] = np.flatnonzero(~is_fixed(model) & ~is_repeated(model))
        self.names = tuple(every[i] for i in self.index)
        self.size = len(self.index)
        source = np.concatenate(
            [
                np.arange(len(model.thetas)),
                _sources(model.sigma, len(model.thetas)),
                _sources(model.omega, len(model.thetas) + _count(model.n_eps)),
            ]
        )
        self.spread = (source[:, None] == self.index[None, :]).astype(float)

    def values(self, estimate: Estimate) -> Array:
        """Return the estimated parameters of ``estimate``."""
        return estimate.flatten()[self.index]

    def moved(self, estimate: Estimate, change: Array) -> Estimate:
        """Return ``estimate`` with its estimated parameters moved by ``change``."""
        delta = self.spread @ change
        n_thetas, n_eps = len(self.model.thetas), self.model.n_eps
        theta, sigma, omega = np.split(delta, [n_thetas, n_thetas + _count(n_eps)])
        return Estimate(
            estimate.theta + theta,
            estimate.omega + _symmetric(omega, self.model.n_etas),
            estimate.sigma + _symmetric(sigma, n_eps),
        )

    def gradient(self, gradient: Gradient) -> Array:
        """Return derivatives [.., estimated]; a covariance moves both of its elements, SAME blocks add up."""
        theta, sigma, omega = gradient.theta, gradient.sigma, gradient.omega
        rows, columns = np.tril_indices(self.model.n_eps)
        lower = [theta, (sigma + np.swapaxes(sigma, -1, -2))[..., rows, columns] * _half(rows, columns)]
        rows, columns = np.tril_indices(self.model.n_etas)
        lower.append((omega + np.swapaxes(omega, -1, -2))[..., rows, columns] * _half(rows, columns))
        made: Array = np.concatenate(lower, axis=-1) @ self.spread
        return made

    def expand(self, matrix: Array) -> Array:
        """Return a covariance of the estimated parameters over all; zero rows where fixed."""
        made: Array = self.spread @ matrix @ self.spread.T
        return made


def _half(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Array:
    return np.where(rows == columns, 0.5, 1.0)


def _count(n: int) -> int:
    return n * (n + 1) // 2


def _symmetric(lower: Array, n: int) -> Array:
    rows, columns = np.tril_indices(n)
    full = np.zeros((n, n))
    full[rows, columns] = lower
    full[columns, rows] = lower
    return full


def _sources(blocks: tuple[CovarianceBlock, ...], first: int) -> NDArray[np.intp]:
    """Return, for each element of the lower triangle, the place of the parameter that it repeats."""
    n = dimension(blocks)
    place = np.zeros((n, n), dtype=np.intp)
    rows, columns = np.tril_indices(n)
    place[rows, columns] = first + np.arange(len(rows))
    for block in blocks:
        if block.same_as is not None:
            place[span(block), span(block)] = place[span(blocks[block.same_as]), span(blocks[block.same_as])]
    return place[rows, columns]
