"""Conditional modes: for each subject the eta that minimises -2 log p(y, eta), all subjects at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..objective.observations import ObservationLikelihood
from ..objective.points import Points
from .mode_search import ModeSearch
from .precision import active_etas, prior_precision

TOLERANCE = 1e-9  # length of the last Newton step, in posterior standard deviations
ITERATIONS = 90
STARTS = 4  # draws of the prior from which a glance for other modes goes down
STEPS = 15  # of it
GLANCED = 0.05  # its last step, in posterior standard deviations


@dataclass(frozen=True, eq=False)
class Modes:
    """Conditional modes of all subjects.

    Attributes
    ----------
    eta
        [id, eta], zero for etas without variance.
    value
        [id], -2 log p(y | eta) + eta' Omega^-1 eta at the mode; infinite where the model fails everywhere.
    information
        [id, eta, eta], posterior precision: expected information plus Omega^-1; zero for etas without
        variance.
    known
        [id, eta, eta], the expected information of the data alone; likewise.
    converged
        bool[id].
    """

    eta: Array
    value: Array
    information: Array
    known: Array
    converged: NDArray[np.bool_]


def find_modes(
    likelihood: ObservationLikelihood,
    estimate: Estimate,
    start: Array | None = None,
    *,
    interaction: bool = True,
    draws: int = 0,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    iterations: int = ITERATIONS,
    points: Points | None = None,
    thorough: bool = False,
) -> Modes:
    """Return the conditional modes of all subjects.

    Parameters
    ----------
    start
        [id, eta]: modes nearby; where they are not near, eta = 0 is tried, too. Default: eta = 0.
    interaction
        Whether the residual variance depends on eta.
    draws, seed
        Number of random starts from the prior: from the best of them the search goes down, too.
    tolerance
        Largest last step in posterior standard deviations.
    points
        The likelihood at ``estimate``, where the caller has it already.
    thorough
        Whether eta = 0 is one of those other starts wherever ``start`` is. Of two modes the better is kept.

    Raises
    ------
    ValueError
        Where omega is not positive definite over the etas with variance.
    """
    points = Points(likelihood, estimate, interaction) if points is None else points
    active = active_etas(estimate.omega)
    omega = estimate.omega[np.ix_(active, active)]
    prior = prior_precision(omega)
    if prior is None:
        raise ValueError("omega is not positive definite")
    search = ModeSearch(points, active, prior[0], np.linalg.inv(np.linalg.cholesky(omega)))
    zero = np.zeros((likelihood.n_subjects, likelihood.n_etas))
    if start is None:
        state = search.evaluate(zero)
    else:
        state = search.evaluate(np.asarray(start, dtype=float))
        far = search.is_far(state) | ~np.isfinite(state.value)
        state = search.better(state, zero, far)
    others = list(_prior_draws(omega, active, zero.shape, draws, seed))
    if thorough and start is not None:
        others.append(zero)
    if not len(active):
        state.converged = np.isfinite(state.value)
    else:
        state, missing = search.approach(state, iterations)
        state = search.descend(state, tolerance, iterations, missing)
        if others:
            state = search.other_modes(state, others, tolerance, iterations)
        lost = ~state.converged & state.begun.any(1)
        if lost.any():
            again = search.descend(search.evaluate(zero, lost), tolerance, iterations)
            state = state.where(lost & again.converged, again)
        state = search.leave_saddles(state, tolerance, iterations)
    information = np.zeros((likelihood.n_subjects, likelihood.n_etas, likelihood.n_etas))
    known = information.copy()
    information[:, active[:, None], active] = state.precision
    known[:, active[:, None], active] = state.known
    return Modes(state.eta, 2.0 * state.value, information, known, state.converged)


def lesser_modes(
    likelihood: ObservationLikelihood, estimate: Estimate, eta: Array, *, interaction: bool, seed: int = 0
) -> Array:
    """Return by how much [id] -2 log p(y, eta) at modes ``eta`` [id, eta] is above what a glance found lower.

    The glance: a few steps down from the modes' reflections about 0 and from draws of the prior.
    """
    active = active_etas(estimate.omega)
    omega = estimate.omega[np.ix_(active, active)]
    prior = prior_precision(omega)
    if prior is None or not len(active):
        return np.zeros(len(eta))
    points = Points(likelihood, estimate, interaction)
    search = ModeSearch(points, active, prior[0], np.linalg.inv(np.linalg.cholesky(omega)))
    lowest = own = search.evaluate(eta).value
    for start in (-eta, *_prior_draws(omega, active, eta.shape, STARTS, seed)):
        found = search.descend(search.evaluate(start), GLANCED, STEPS)
        lowest = np.minimum(lowest, found.value)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(np.isfinite(lowest), 2.0 * (own - lowest), 0.0))


def _prior_draws(
    omega: Array, active: NDArray[np.int64], shape: tuple[int, ...], draws: int, seed: int
) -> Array:
    """Return [draw, id, eta] from the prior."""
    found = np.zeros((draws, *shape))
    noise = np.random.default_rng(seed).standard_normal((draws, shape[0], len(active)))
    found[..., active] = noise @ np.linalg.cholesky(omega).T
    return found
