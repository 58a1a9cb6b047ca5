"""Precisions of random effects: of the prior, of the data, and their determinants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array
from ..objective.points import Points


def active_etas(omega: Array) -> NDArray[np.int64]:
    """Return the etas (from 0) with non-zero variance."""
    return np.flatnonzero(np.diag(omega) > 0)


def prior_precision(omega: Array) -> tuple[Array, float] | None:
    """Return the inverse of ``omega`` and its log determinant; None where it is not positive definite."""
    try:
        root = np.linalg.cholesky(omega)
    except np.linalg.LinAlgError:
        return None
    inverse = np.linalg.inv(root)
    return inverse.T @ inverse, float(2.0 * np.log(np.diag(root)).sum())


def half_second_derivative(
    points: Points,
    eta: Array,
    precision: Array,
    active: NDArray[np.int64],
    step: float,
    order: int,
    wanted: NDArray[np.bool_] | None = None,
) -> Array:
    """Return half the second derivative of -2 log p(y | eta) to the active etas, [id, active, active].

    Central differences of exact gradients, ``order`` 2 or 4, over ``step`` standard deviations of each eta
    given the others (``precision`` [id, active, active]).
    """
    size = step / np.sqrt(np.einsum("ipp->ip", precision))
    units = np.zeros((len(active), *eta.shape))
    for k, eta_k in enumerate(active):
        units[k, :, eta_k] = size[:, k]
    weights = np.array([0.5]) if order == 2 else np.array([2.0 / 3.0, -1.0 / 12.0])
    multiples = np.arange(1, len(weights) + 1)
    moves = np.concatenate([sign * m * units for m in multiples for sign in (1.0, -1.0)])
    gradient = points(eta + moves, "eta", wanted=wanted).gradient[..., active]
    gradient = gradient.reshape(len(weights), 2, len(active), *gradient.shape[1:])
    with np.errstate(invalid="ignore"):
        change = np.einsum("w,wkip->kip", weights, gradient[:, 0] - gradient[:, 1])
    second = 0.5 * (change / size.T[:, :, None]).transpose(1, 0, 2)
    return np.asarray(0.5 * (second + second.transpose(0, 2, 1)))


def log_determinant(matrices: Array) -> Array:
    """Return log|H| of each matrix, infinite where it is not positive definite."""
    finite = np.asarray(np.isfinite(matrices).all((-1, -2)))
    values = np.linalg.eigvalsh(np.where(finite[..., None, None], matrices, np.eye(matrices.shape[-1])))
    sound = finite & (values > 0.0).all(-1)
    logs = np.log(np.where(values > 0.0, values, 1.0)).sum(-1)
    return np.asarray(np.where(sound, logs, np.inf))


def is_definite(matrices: Array) -> NDArray[np.bool_]:
    """Return which matrices are positive definite, by more than rounding whatever the scales of their rows.

    Far out an information may hold 1e200 beside the prior's 1: its eigenvalues are positive then, and an
    elimination still meets a zero.
    """
    diagonal = np.einsum("ipp->ip", matrices)
    sound = np.isfinite(matrices).all((-1, -2)) & (diagonal > 0.0).all(-1)
    size = matrices.shape[-1]
    root = np.sqrt(np.where(sound[:, None], diagonal, 1.0))
    scaled = np.where(sound[:, None, None], matrices, np.eye(size)) / root[:, :, None] / root[:, None, :]
    smallest = np.linalg.eigvalsh(scaled)[:, 0] if size else np.ones(len(scaled))
    return np.asarray(sound & (smallest > size * np.finfo(float).eps))
