"""Exact gradients of the conditional objectives by implicit differentiation.

Almquist, Leander and Jirstrand 2015 (J Pharmacokinet Pharmacodyn 42:191), with one vector per subject in
place of the derivatives of all modes: dO/dp = partial O / partial p - (d log|H| / d eta) K^-1 (partial g /
partial p), where g(eta, p) = 0 is the equation of the mode, g = D_eta / 2 + Omega^-1 eta, and K its
derivative to eta.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, Gradient
from ..inner.precision import active_etas, prior_precision
from .displacement import SECOND_MIDDLE, SECOND_MULTIPLES, SECOND_WEIGHTS, Displacement
from .observations import Terms
from .points import Points
from .slopes import eta_slopes, information_slopes, slopes_along, slopes_by_value, theta_scales


def component_gradient(
    points: Points,
    eta: Array,
    precision: Array,
    second_order: bool,
    displacement: Displacement,
    contributions: Callable[[Estimate], Array],
    also: Array | None = None,
) -> Gradient:
    """Return the derivatives of each subject's contribution at its mode, an id axis before all others.

    Parameters
    ----------
    eta, precision
        [id, eta], [id, eta, eta]: the modes and H there.
    second_order
        Whether H has the exact second derivative (Laplace) or the expected information (FOCE).
    contributions
        The contributions [id] at another estimate: for elements of sigma and omega that the statements read.
    also
        [id, eta], derivatives to the modes of something else that is added to the contributions.
    """
    estimate, likelihood = points.estimate, points.likelihood
    n, n_eta, n_eps = likelihood.n_subjects, likelihood.n_etas, likelihood.n_eps
    theta = np.zeros((n, len(estimate.theta)))
    omega, sigma = np.zeros((n, n_eta, n_eta)), np.zeros((n, n_eps, n_eps))
    base = points(eta[None], "eta+theta")
    active = active_etas(estimate.omega)
    prior = prior_precision(estimate.omega[np.ix_(active, active)])
    assert prior is not None, "gradients are taken where the objective is finite"
    theta[:, points.free_thetas] = base.gradient[0, :, n_eta:]
    sigma += base.sigma_gradient[0]
    if len(active):
        own_omega = estimate.omega[np.ix_(active, active)]
        metric = precision[:, active[:, None], active]
        inverse = np.asarray(np.linalg.inv(metric), dtype=float)
        known = metric - prior[0]  # what the data say, of H
        if second_order:
            by_theta, by_sigma, by_eta = _third_derivatives(points, eta, inverse, active, base, displacement)
            curvature = known
        else:
            known = base.information[0][:, active[:, None], active]
            scales = theta_scales(points, base.gradient[0, :, n_eta:])
            by_theta, by_sigma = information_slopes(points, eta, inverse, active, scales, displacement)
            by_eta, curvature = eta_slopes(points, eta, inverse, active, displacement)
        if also is not None:
            by_eta = by_eta + also[:, active]
        # Omega^-1 K^-1 and Omega^-1 eta without Omega^-1, which has no digits left where omega is singular
        turned = np.linalg.solve(np.eye(len(active)) + curvature @ own_omega, by_eta[..., None])[..., 0]
        own = -0.5 * base.gradient[0][:, active]
        pull = turned @ own_omega
        moved_theta, moved_sigma = slopes_along(points, eta, pull, metric, active, displacement)
        theta[:, points.free_thetas] += by_theta - 0.5 * moved_theta
        sigma += by_sigma - 0.5 * moved_sigma
        cross = 0.5 * (turned[:, :, None] * own[:, None, :] + own[:, :, None] * turned[:, None, :])
        left = np.linalg.solve(np.eye(len(active)) + known @ own_omega, known)  # Omega^-1 (1 - H^-1 Omega^-1)
        left = 0.5 * (left + left.transpose(0, 2, 1))
        omega[:, active[:, None], active] = left - own[:, :, None] * own[:, None, :] + cross
    if likelihood.reads_sigma:
        sigma = slopes_by_value(contributions, estimate, "sigma", likelihood.model.sigma)
    if likelihood.reads_omega:
        omega = slopes_by_value(contributions, estimate, "omega", likelihood.model.omega)
    return Gradient(theta, omega, sigma)


def _third_derivatives(
    points: Points, eta: Array, inverse: Array, active: NDArray[np.int64], base: Terms, how: Displacement
) -> tuple[Array, Array, Array]:
    """Return d log|H| / d theta (free), sigma, eta for H with half the exact second derivative of D.

    tr(H^-1 d(D_etaeta)/dp) is the sum of second differences of D_p along the columns of a root of H^-1.
    ``base`` holds the terms at ``eta``.
    """
    n_eta = points.likelihood.n_etas
    root = np.linalg.cholesky(inverse)  # [id, active, column]
    moves = np.zeros((len(active), *eta.shape))
    moves[:, :, active] = root.transpose(2, 0, 1)
    etas = eta + how.second * SECOND_MULTIPLES[:, None, None, None] * moves
    found = points(etas.reshape(-1, *eta.shape), "eta+theta")
    weights = 0.5 * SECOND_WEIGHTS / how.second**2
    middle = 0.5 * len(active) * SECOND_MIDDLE / how.second**2
    shape = (len(SECOND_MULTIPLES), len(active))
    slopes = found.gradient.reshape(*shape, *found.gradient.shape[1:])
    bend = np.einsum("w,wkiq->iq", weights, slopes) + middle * base.gradient[0]
    slopes = found.sigma_gradient.reshape(*shape, *found.sigma_gradient.shape[1:])
    by_sigma = np.einsum("w,wkief->ief", weights, slopes) + middle * base.sigma_gradient[0]
    return bend[:, n_eta:], by_sigma, bend[:, active]
