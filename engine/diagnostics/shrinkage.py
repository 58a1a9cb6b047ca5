"""Shrinkage of random effects and residuals, and whether the random effects have mean zero.

Savic and Karlsson (2009), as NONMEM computes it (Bauer, Introduction to NONMEM 7, "Shrinkage and ETASTYPE").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from ..estimate import Array, Estimate
from ..individuals import Shrinkage
from ..objective.observations import ObservationLikelihood
from ..objective.population import Population
from .residuals import Individual, Residuals

LEAST = 1e-10  # per cent: what NONMEM prints where shrinkage is below zero


def shrinkage(
    estimate: Estimate,
    eta: Array,
    covariance: Array,
    iwres: Array,
    included: NDArray[np.bool_] | None = None,
    loss: NDArray[np.int64] | None = None,
) -> Shrinkage:
    """Return shrinkage in per cent, on the SD and on the variance scale.

    Legacy engines count subjects that have observations.

    Parameters
    ----------
    eta, covariance
        [id, eta], [id, eta, eta]: conditional modes, or means after a method that samples; covariances.
    iwres
        [observation, eps], individual weighted residuals of the observations that each eps takes part in,
        NaN elsewhere (:meth:`.residuals.Residuals.by_eps`).
    included
        [id, eta], which random effects count (default: all).
    loss
        int[eta], degrees of freedom that are lost to means of groups of subjects (default: none).
    """
    kept = np.ones(eta.shape, dtype=bool) if included is None else included
    count = kept.sum(0)
    n = np.maximum(count, 1)
    omega = np.diag(estimate.omega)
    estimated = (omega > 0) & (count > 0)
    scale = np.where(omega > 0, omega, 1.0)
    mean = np.where(kept, eta, 0.0).sum(0) / n
    squares = (np.where(kept, eta - mean, 0.0) ** 2).sum(0)
    # NONMEM's conventions: n in the standard error of etas, n - 1 in their shrinkage (from release 7.5.1
    # on n), no mean taken off IWRES
    lost = np.zeros_like(count) if loss is None else loss
    left = np.maximum(n - np.maximum(lost, 1), 1)
    share = np.where(estimated, squares / left / scale, 0.0)
    se = np.sqrt(squares / n / n)
    z = np.abs(mean) / np.where(se > 0, se, 1.0)
    conditional = np.where(kept, np.einsum("ikk->ik", covariance), 0.0).sum(0) / n
    unknown = np.where(estimated, np.minimum(conditional / scale, 1.0), np.where(count > 0, 0.0, 1.0))
    eps = _mean_squares(iwres)
    return Shrinkage(
        eta_sd=_shown(1 - np.sqrt(share)),
        eta_var=_shown(1 - share),
        ebv_sd=_shown(1 - np.sqrt(1 - unknown)),
        ebv_var=_shown(unknown),
        eps_sd=_shown(1 - np.sqrt(eps)),
        eps_var=_shown(1 - eps),
        etabar=mean,
        etabar_se=se,
        etabar_p=np.asarray(erfc(z / np.sqrt(2.0))),
        count=count,
        effective=count - lost,
        relative_information=_relative_information(covariance, kept, estimate.omega),
    )


def _mean_squares(iwres: Array) -> Array:
    there = np.isfinite(iwres)
    total = np.where(there, iwres, 0.0) ** 2
    return np.asarray(total.sum(0) / np.maximum(there.sum(0), 1))


def _shown(share: Array) -> Array:
    return np.asarray(100.0 * np.where(share < 0, LEAST / 100.0, share))


def _relative_information(covariance: Array, kept: NDArray[np.bool_], omega: Array) -> Array:
    """Return 1 / diag((1 - V Omega^-1)^-1) in per cent, V the mean covariance; 0 for fixed etas."""
    out = np.zeros(len(omega))
    active = np.flatnonzero((np.diag(omega) > 0) & kept.any(0))
    if not len(active):
        return out
    pairs = kept[:, :, None] & kept[:, None, :]
    mean = np.where(pairs, covariance, 0.0).sum(0) / np.maximum(pairs.sum(0), 1)
    lost = np.linalg.solve(omega[np.ix_(active, active)], mean[np.ix_(active, active)])
    left = np.eye(len(active)) - lost
    if np.linalg.matrix_rank(left) == len(active):
        out[active] = 100.0 / np.diag(np.linalg.inv(left))
    return out


def influential(likelihood: ObservationLikelihood, estimate: Estimate, eta: Array) -> NDArray[np.bool_]:
    """Return which random effects the observations of a subject depend on at ``eta``, [id, eta]."""
    sigma, omega = estimate.sigma, estimate.omega
    made = likelihood.predict(estimate.theta, eta, "eta", sigma, omega)
    depends = (made.derivatives[0, :, : 1 + likelihood.n_eps] != 0).any(1)
    depends &= likelihood.data.is_observation[:, None]
    out = np.zeros(eta.shape, dtype=bool)
    np.logical_or.at(out, likelihood.data.subject, depends)
    return out


def subpopulation_shrinkage(
    population: Population,
    estimate: Estimate,
    eta: Array,
    covariance: Array,
    probabilities: Array,
    *,
    interaction: bool = True,
    all_etas: bool = False,
) -> tuple[Shrinkage, ...]:
    """Return the shrinkage of every subpopulation, over the subjects that most likely belong to it.

    Parameters
    ----------
    eta, covariance
        [component, id, eta], [component, id, eta, eta]: conditional estimates and covariances.
    probabilities
        [id, component] that a subject belongs to a subpopulation, given its data.
    all_etas
        Whether a random effect counts that the observations of a subject do not depend on in its
        subpopulation (as after methods that sample).
    """
    own = probabilities.argmax(1)
    found = []
    for c, likelihood in enumerate(population.likelihoods):
        counted = (own == c) & (population.n_observations > 0)
        included = np.repeat(counted[:, None], eta.shape[2], 1)
        if not all_etas:
            included &= influential(likelihood, estimate, eta[c])
        component = np.full(len(own), c + 1)
        residuals = Residuals(
            population, estimate, Individual(eta[c], eta[c], component=component), interaction=interaction
        )
        iwres = residuals.by_eps(own == c)
        found.append(shrinkage(estimate, eta[c], covariance[c], iwres, included))
    return tuple(found)
