"""Slopes of information matrices and of gradients, by differences of exact first derivatives.

All displaced points of one difference are evaluated together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..ir.parameter import CovarianceBlock, dimension
from .displacement import Displacement
from .points import Points

SIGMA_STEP = 2e-5  # relative; the information is a rational function of sigma
SIGNS = np.array([1.0, -1.0])  # of the two points of a first difference
READ_STEP = 1e-3  # relative, four points: where the statements read sigma or omega


def information_slopes(
    points: Points, eta: Array, metric: Array, active: NDArray[np.int64], scales: Array, how: Displacement
) -> tuple[Array, Array]:
    """Return the derivatives of tr(metric information) to the free thetas and to sigma, eta held.

    Parameters
    ----------
    metric
        [id, active, active], symmetric.
    scales
        [free], see :func:`theta_scales`.

    Returns
    -------
    [id, free] and [id, eps, eps].
    """
    estimate, free = points.estimate, points.free_thetas
    step = how.first * scales
    by_theta = np.zeros((len(eta), len(free)))
    if len(free):
        thetas = np.tile(estimate.theta, (2, len(free), 1))
        thetas[:, np.arange(len(free)), free] += SIGNS[:, None] * step
        etas = np.broadcast_to(eta, (2 * len(free), *eta.shape))
        found = points(etas, "eta", thetas.reshape(-1, thetas.shape[-1])).information
        found = found[..., active[:, None], active].reshape(2, len(free), *metric.shape)
        by_theta = np.einsum("kipq,iqp->ik", found[0] - found[1], metric) / (2.0 * step)
    by_sigma = np.zeros((len(eta), *estimate.sigma.shape))
    elements = list(free_elements(points.likelihood.model.sigma))
    if elements and not points.likelihood.reads_sigma:
        moved = [displaced(estimate.sigma, i, j, sign * SIGMA_STEP) for i, j in elements for sign in (1, -1)]
        found = points.information_at(eta, np.stack([m for m, _ in moved]))[..., active[:, None], active]
        change = np.einsum("kipq,iqp->ki", found, metric)
        for k, (i, j) in enumerate(elements):
            slope = (change[2 * k] - change[2 * k + 1]) / (2.0 * moved[2 * k][1])
            by_sigma[:, i, j] = by_sigma[:, j, i] = slope if i == j else 0.5 * slope
    return by_theta, by_sigma


def eta_slopes(
    points: Points, eta: Array, metric: Array, active: NDArray[np.int64], how: Displacement
) -> tuple[Array, Array]:
    """Return the derivative of tr(metric information) to eta, [id, active], and half D_etaeta.

    ``metric`` [id, active, active] is held; the root of its diagonal scales the displacements.
    """
    step = how.first * np.sqrt(np.einsum("ipp->ip", metric))
    moves = np.zeros((len(active), *eta.shape))
    for k, eta_k in enumerate(active):
        moves[k, :, eta_k] = step[:, k]
    etas = eta + SIGNS[:, None, None, None] * moves
    found = points(etas.reshape(-1, *eta.shape), "eta")
    shape = (2, len(active))
    information = found.information[..., active[:, None], active].reshape(*shape, *metric.shape)
    gradient = found.gradient[..., active].reshape(*shape, *metric.shape[:2])
    by_eta = np.einsum("kipq,iqp->ik", information[0] - information[1], metric) / (2.0 * step)
    curvature = (gradient[0] - gradient[1]).transpose(1, 0, 2) / (4.0 * step[:, :, None])
    return by_eta, 0.5 * (curvature + curvature.transpose(0, 2, 1))


def slopes_along(
    points: Points, eta: Array, direction: Array, metric: Array, active: NDArray[np.int64], how: Displacement
) -> tuple[Array, Array]:
    """Return the slopes along ``direction`` [id, active] of D_theta (free thetas) and of D_sigma.

    ``metric`` [id, active, active] is a posterior precision, in which the displacement has its length.
    """
    length = np.sqrt(np.maximum(np.einsum("ip,ipq,iq->i", direction, metric, direction), 0.0))
    moves = np.zeros_like(eta)
    moves[:, active] = direction / np.where(length > 0.0, length, 1.0)[:, None]
    found = points(eta + how.first * SIGNS[:, None, None] * moves, "eta+theta")
    scale = length / (2.0 * how.first)
    slopes = found.gradient[..., points.likelihood.n_etas :]
    by_theta = scale[:, None] * (slopes[0] - slopes[1])
    return by_theta, scale[:, None, None] * (found.sigma_gradient[0] - found.sigma_gradient[1])


def theta_scales(points: Points, slopes: Array) -> Array:
    """Return what change of each free theta the data would notice, [free]: about a standard error.

    From the squared slopes [id, free] of the conditional likelihoods; never so much that a displacement would
    cross a bound.
    """
    estimate, thetas = points.estimate, points.likelihood.model.thetas
    with np.errstate(divide="ignore", over="ignore"):
        scale = 1.0 / np.sqrt(np.nansum(0.25 * slopes * slopes, axis=0))
    for k, j in enumerate(points.free_thetas):
        value = abs(float(estimate.theta[j]))
        if not np.isfinite(scale[k]) or scale[k] == 0.0:
            scale[k] = value if value > 0.0 else 1.0
        scale[k] = min(scale[k], 10.0 * max(value, abs(thetas[j].initial), 1e-3))
        for bound in (thetas[j].lower, thetas[j].upper):
            room = abs(float(estimate.theta[j]) - bound)
            if 0.0 < room < np.inf:
                scale[k] = min(scale[k], 5.0 * room)
    return np.asarray(scale)


def free_elements(blocks: tuple[CovarianceBlock, ...]) -> Iterator[tuple[int, int]]:
    """Yield row and column (from 0, lower triangle) of every element of the blocks that are not fixed."""
    for block in blocks:
        if not block.fixed:
            for i in range(block.size):
                for j in range(i + 1):
                    yield block.first - 1 + i, block.first - 1 + j


def displaced(covariance: Array, i: int, j: int, relative: float) -> tuple[Array, float]:
    """Return ``covariance`` with element (i, j) displaced, both triangles, and the size of the change."""
    step = relative * float(np.sqrt(covariance[i, i] * covariance[j, j])) or relative
    moved = covariance.copy()
    moved[i, j] += step
    if i != j:
        moved[j, i] += step
    return moved, abs(step)


def slopes_by_value(
    contributions: Callable[[Estimate], Array],
    estimate: Estimate,
    which: str,
    blocks: tuple[CovarianceBlock, ...],
) -> Array:
    """Return the derivatives to one covariance matrix by fourth-order differences of the contributions.

    ``contributions`` gives [..], one for each subject, or draw and subject; returned are [.., n, n].
    """
    n = dimension(blocks)
    slopes: dict[tuple[int, int], Array] = {}
    for i, j in free_elements(blocks):
        total: Array | float = 0.0
        for multiple, weight in ((1, 2 / 3), (-1, -2 / 3), (2, -1 / 12), (-2, 1 / 12)):
            moved, step = displaced(getattr(estimate, which), i, j, multiple * READ_STEP)
            parts = {"theta": estimate.theta, "omega": estimate.omega, "sigma": estimate.sigma, which: moved}
            total = total + weight * contributions(Estimate(**parts)) / (step / abs(multiple))
        slopes[i, j] = np.asarray(total if i == j else 0.5 * total)
    shape = (contributions(estimate) if not slopes else next(iter(slopes.values()))).shape
    found = np.zeros((*shape, n, n))
    for (i, j), slope in slopes.items():
        found[..., i, j] = found[..., j, i] = slope
    return found
