"""Population estimates as values, and their one order: THETA, SIGMA, OMEGA (lower triangles row-wise)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .ir.model import Model
from .ir.parameter import CovarianceBlock, dimension, matrix

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """Values of all population parameters.

    ``theta`` (theta), ``omega`` (eta eta) and ``sigma`` (eps eps), variances and covariances.
    """

    theta: Array
    omega: Array
    sigma: Array

    def flatten(self) -> Array:
        """Return all values in the order of :func:`names`."""
        return np.concatenate([self.theta, _lower(self.sigma), _lower(self.omega)])


@dataclass(frozen=True)
class Gradient:
    """Derivatives of a number to all population parameters; of several numbers where a first axis is added.

    ``omega`` and ``sigma`` are symmetric: the change of the number is the sum over *all* elements of
    derivative times change of the element.
    """

    theta: Array
    omega: Array
    sigma: Array


def initial(model: Model) -> Estimate:
    """Return the initial estimates that ``model`` states."""
    return Estimate(
        np.array([t.initial for t in model.thetas], dtype=float),
        np.array(matrix(model.omega), dtype=float).reshape(model.n_etas, model.n_etas),
        np.array(matrix(model.sigma), dtype=float).reshape(model.n_eps, model.n_eps),
    )


def names(model: Model) -> tuple[str, ...]:
    """Return the names of all parameters: ``THETA1``, ``SIGMA(1,1)``, ``OMEGA(2,1)``..."""
    thetas = [f"THETA{i + 1}" for i in range(len(model.thetas))]
    return (*thetas, *_triangle_names("SIGMA", model.n_eps), *_triangle_names("OMEGA", model.n_etas))


def labels(model: Model) -> dict[str, str]:
    """Return the labels that the user gave: of thetas, and of the diagonals of sigma and omega."""
    named = model.language == "mlxtran"  # where every parameter has a name of the user's own
    found = {f"THETA{i + 1}": t.label or (t.name if named else "") for i, t in enumerate(model.thetas)}
    for letters, blocks in (("SIGMA", model.sigma), ("OMEGA", model.omega)):
        for block in blocks:
            for i, label in enumerate(block.labels):
                found[f"{letters}({block.first + i},{block.first + i})"] = label
    return {name: label for name, label in found.items() if label}


def is_fixed(model: Model) -> NDArray[np.bool_]:
    """Return True for every parameter that is not estimated, structural zeros included."""
    return np.concatenate(
        [np.array([t.fixed for t in model.thetas], dtype=bool), _fixed(model.sigma), _fixed(model.omega)]
    )


def is_repeated(model: Model) -> NDArray[np.bool_]:
    """Return True for every covariance that repeats another block's (SAME): no parameter of its own."""
    parts = [np.zeros(len(model.thetas), dtype=bool)]
    for blocks in (model.sigma, model.omega):
        n = dimension(blocks)
        repeated = np.zeros((n, n), dtype=bool)
        for block in blocks:
            inside = slice(block.first - 1, block.first - 1 + block.size)
            repeated[inside, inside] = block.same_as is not None
        parts.append(repeated[np.tril_indices(n)])
    return np.concatenate(parts)


def _triangle_names(letter: str, n: int) -> list[str]:
    return [f"{letter}({i + 1},{j + 1})" for i in range(n) for j in range(i + 1)]


def _lower(full: Array) -> Array:
    rows, columns = np.tril_indices(len(full))
    return np.asarray(full[rows, columns], dtype=float)


def _fixed(blocks: tuple[CovarianceBlock, ...]) -> NDArray[np.bool_]:
    n = dimension(blocks)
    fixed = np.ones((n, n), dtype=bool)
    for block in blocks:
        inside = slice(block.first - 1, block.first - 1 + block.size)
        fixed[inside, inside] = block.fixed
    rows, columns = np.tril_indices(n)
    return fixed[rows, columns]
