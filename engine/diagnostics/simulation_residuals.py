"""Residuals against simulated observations: expected predictions and their residuals, NPD and NPDE.

Random effects are drawn from N(0, Omega). EPRED is the mean of the predictions, EC their covariance plus the
mean residual covariance, ERES = y - EPRED, EWRES = EC^(-1/2) ERES; ECWRES takes the residual covariance at
the conditional estimates. NPDE counts how many of as many simulated data sets, weighted by the same root, lie
below the data (Brendel, Comets, Laffont, Laveille and Mentre 2006; Comets, Brendel and Mentre 2008); NPD is
the mean probability over the draws of an observation below y, without decorrelation. Observations below or
above a limit take a random place among what is simulated there (Nguyen, Comets and Mentre 2012).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from ..streams import stream
from .weighted_residuals import Array, Grouping, Rows, inverse_root

CHUNK = 2**22  # elements of one array over draws, subjects and their observations


@dataclass(frozen=True, eq=False)
class Simulated:
    """Draws at the observations: ``value`` [draw, obs] at eps = 0, NaN where the model has none there.

    ``eps`` [draw, obs, eps] are the slopes to eps, ``observation`` [draw, obs] values with residual error.
    """

    value: Array
    eps: Array
    observation: Array


@dataclass(frozen=True, eq=False)
class Limits:
    """Limits of quantification of the observations, infinite where there are none.

    An observation that is not above ``lower`` [obs] is only known not to be; likewise ``upper``.
    """

    lower: Array
    upper: Array


def draw_etas(omega: Array, draws: int, n_subjects: int, seed: int) -> Array:
    """Return draws of N(0, ``omega``), [draw, id, eta]."""
    normal = stream(seed, "tables/eta").standard_normal((draws, n_subjects, len(omega)))
    return np.asarray(normal @ _root(omega).T)


def draw_eps(sigma: Array, draws: int, level: Rows, seed: int) -> Array:
    """Return draws of N(0, ``sigma``), [draw, obs, eps], the same for observations of equal ``level``."""
    _, position = np.unique(level, return_inverse=True)
    count = int(position.max(initial=-1)) + 1
    normal = stream(seed, "tables/eps").standard_normal((draws, count, len(sigma)))
    return np.asarray((normal @ _root(sigma).T)[:, position])


def _root(covariance: Array) -> Array:
    """Return R with R R' = ``covariance``, which may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(values.clip(min=0.0)))


def expected_residuals(
    made: Simulated,
    dv: Array,
    sigma: Array,
    eps_at_estimates: Array,
    grouping: Grouping,
    *,
    exact: bool = False,
    limits: Limits | None = None,
    seed: int = 0,
) -> dict[str, Array]:
    """Return EPRED, ERES, EWRES, ECWRES, EIWRES, NPD and NPDE of all observations.

    Parameters
    ----------
    made, dv
        Simulations and observations, [.., obs] and [obs].
    eps_at_estimates
        [obs, eps], slopes to eps from which ECWRES takes its residual covariance.
    grouping
        Over the observations.
    exact
        Take moments and probabilities from the simulated observations; else the residual error is averaged
        over by its covariance.
    seed
        Of the places of observations beyond ``limits``.
    """
    out = {name: np.zeros(len(dv)) for name in ("EPRED", "ERES", "EWRES", "ECWRES", "EIWRES", "NPD", "NPDE")}
    observation = made.observation
    if limits is not None:
        dv, observation = placed(dv, made.observation, limits, seed)
    for rows in grouping.pieces(CHUNK // len(made.value)):
        same = grouping.same(rows)
        f, h, simulated = made.value[:, rows], made.eps[:, rows], observation[:, rows]
        good = np.asarray(np.isfinite(f).all(2) & np.isfinite(simulated).all(2) & np.isfinite(h).all((2, 3)))
        share = good / np.maximum(good.sum(0), 1)  # draws without a prediction do not count
        f = np.where(good[..., None], f, 0.0)
        simulated = np.where(good[..., None], simulated, 0.0)
        h = np.where(good[..., None, None], h, 0.0)
        y = dv[rows]
        mean = np.einsum("ks,ksa->sa", share, simulated if exact else f)
        within = np.einsum("ks,ksae,ef,ksbf->sab", share, h, sigma, h, optimize=True) * same
        between = _covariance(f - np.einsum("ks,ksa->sa", share, f), share)
        own = eps_at_estimates[rows]
        at_estimates = (own @ sigma @ own.swapaxes(1, 2)) * same
        root = inverse_root(
            _covariance(simulated - mean, share) if exact else between + within, grouping.cholesky
        )
        out["EPRED"][rows], out["ERES"][rows] = mean, y - mean
        weighted = np.einsum("sab,sb->sa", root, y - mean)
        out["EWRES"][rows] = weighted
        conditional = inverse_root(between + at_estimates, grouping.cholesky)
        out["ECWRES"][rows] = np.einsum("sab,sb->sa", conditional, y - mean)
        individual = _individual(y - f, h, sigma, same, grouping.cholesky)
        out["EIWRES"][rows] = np.einsum("ks,ksa->sa", share, individual)
        count = good.sum(0)[:, None]
        if exact:
            out["NPD"][rows] = normal_score(_share_below(simulated, y, share), count)
        else:
            out["NPD"][rows] = ndtri(np.einsum("ks,ksa->sa", share, ndtr(individual)))
        decorrelated = np.einsum("sab,ksb->ksa", root, simulated - mean, optimize=True)
        out["NPDE"][rows] = normal_score(_share_below(decorrelated, weighted, share), count)
    return out


def normal_score(probability: Array, draws: Array) -> Array:
    """Return the normal quantiles of ``probability``, at least half a draw away from 0 and 1."""
    edge = 0.5 / np.maximum(draws, 1)
    return np.asarray(ndtri(np.clip(probability, edge, 1.0 - edge)))


def placed(dv: Array, observation: Array, limits: Limits, seed: int) -> tuple[Array, Array]:
    """Return data and simulations with a random place for what lies beyond a limit.

    The place of an observation below its limit is uniform among the simulated ones there; so is that of
    every simulated one, lest these be known better. Returns the data and the simulations [draw, obs].
    """
    draws = len(observation)
    generator = stream(seed, "tables/limits")
    ordered = np.sort(observation, axis=0)
    below_lower = (observation <= limits.lower).mean(0)
    below_upper = (observation < limits.upper).mean(0)

    def place(values: Array) -> Array:
        uniform = generator.uniform(size=values.shape)
        low, high = values <= limits.lower, values >= limits.upper
        at = np.where(low, uniform * below_lower, below_upper + uniform * (1.0 - below_upper))
        position = np.clip((at * draws).astype(np.int64), 0, draws - 1)
        moved = np.take_along_axis(ordered, np.atleast_2d(position), 0).reshape(values.shape)
        return np.where(low | high, moved, values)

    return place(dv), place(observation)


def _covariance(deviation: Array, share: Array) -> Array:
    scaled = deviation * np.sqrt(share)[..., None]
    return np.asarray(np.einsum("ksa,ksb->sab", scaled, scaled, optimize=True))


def _share_below(simulated: Array, value: Array, share: Array) -> Array:
    """Return the share of draws below ``value`` [subject, obs]; a draw equal to it counts half."""
    compared = (simulated < value) + 0.5 * (simulated == value)
    return np.asarray(np.einsum("ks,ksa->sa", share, compared))


def _individual(residual: Array, h: Array, sigma: Array, same: NDArray[np.bool_], cholesky: bool) -> Array:
    """Return V^(-1/2) ``residual``, [draw, subject, obs]."""
    if same.sum() == same.shape[0] * same.shape[1]:  # no two share their eps
        variance = np.einsum("ksae,ef,ksaf->ksa", h, sigma, h, optimize=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(residual / np.sqrt(variance))
    covariance = np.einsum("ksae,ef,ksbf->ksab", h, sigma, h, optimize=True) * same
    return np.asarray(np.einsum("ksab,ksb->ksa", inverse_root(covariance, cholesky), residual))
