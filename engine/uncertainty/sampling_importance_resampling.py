"""Sampling importance resampling of population parameters (Dosne, Bergstrand and Karlsson 2016).

Parameter vectors are drawn about the estimate from the covariance matrix of the covariance step, weighted by
their likelihood over the density that they were drawn from, and resampled without replacement. Draws are made
in the unconstrained parameters, so that each lies within its bounds and each omega is positive definite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, is_fixed
from ..ir.model import Model
from ..objective.evaluation import Evaluation, Objective
from ..parameterisation.natural import NaturalParameters
from ..parameterisation.unconstrained import Parameterisation
from ..streams import stream
from .standard_errors import Uncertainty

PERCENTILES = (2.5, 5.0, 25.0, 50.0, 75.0, 95.0, 97.5)
SOURCE = "sampling importance resampling"


@dataclass(frozen=True)
class ResamplingSettings:
    """How parameter vectors are drawn.

    Attributes
    ----------
    draws, resamples
        Of each iteration. The proposal of a later iteration has the covariance of the resamples before it.
    inflation
        Of the covariance of the first proposal.
    df
        Degrees of freedom of a t proposal; 0: normal.
    recentred
        Whether later proposals are centred at the mean of the resamples instead of the estimate.
    """

    draws: tuple[int, ...] = (1000,)
    resamples: tuple[int, ...] = (500,)
    inflation: float = 1.0
    df: int = 0
    recentred: bool = False
    least_weight: float = 1e-3
    largest_weight: float = 1e3
    seed: int = 11456


@dataclass(frozen=True, eq=False)
class Resampling:
    """The draws of the last iteration and what they say.

    Attributes
    ----------
    samples
        [draw, parameter] in the order of :func:`.estimate.names`; ``ofv`` and relative ``weights`` of each.
    chosen
        int64[resample], draws that were resampled.
    percentiles
        [percentile, parameter] of the resamples at ``PERCENTILES``.
    effective_draws
        Of the weights: few where the proposal was poor.
    """

    samples: Array
    ofv: Array
    weights: Array
    chosen: NDArray[np.int64]
    percentiles: Array
    uncertainty: Uncertainty
    effective_draws: float


def resample_parameters(
    model: Model,
    objective: Objective,
    evaluation: Evaluation,
    uncertainty: Uncertainty,
    settings: ResamplingSettings,
    progress: Callable[[int, int], None] | None = None,
) -> Resampling:
    """Return the uncertainty at an estimate by resampling from that of the covariance step.

    ``progress`` is told the number of draws evaluated, and of all.
    """
    natural, parameterisation = NaturalParameters(model), Parameterisation(model)
    centre = parameterisation.pack(evaluation.estimate)
    inverse = np.linalg.inv(parameterisation.jacobian(centre)[natural.index])
    spread = inverse @ uncertainty.covariance[np.ix_(natural.index, natural.index)] @ inverse.T
    spread = settings.inflation * 0.5 * (spread + spread.T)
    total, done = sum(settings.draws), 0
    for iteration, draws in enumerate(settings.draws):
        generator = stream(settings.seed, f"sir/{iteration}")
        points, log_density = _proposed(centre, spread, draws, settings.df, generator)
        ofv = np.full(draws, np.inf)
        for k in range(draws):
            ofv[k] = objective.value(parameterisation.natural(points[k]), evaluation.modes).ofv
            done += 1
            if progress is not None:
                progress(done, total)
        weights = _weights(ofv - evaluation.ofv, log_density, settings)
        wanted = settings.resamples[min(iteration, len(settings.resamples) - 1)]
        chosen = _without_replacement(weights, wanted, generator)
        spread = np.cov(points[chosen], rowvar=False).reshape(len(centre), len(centre))
        centre = points[chosen].mean(0) if settings.recentred else centre
    samples = np.array([parameterisation.natural(point).flatten() for point in points])
    kept = samples[chosen]
    covariance = natural.expand(
        np.cov(kept[:, natural.index], rowvar=False).reshape(natural.size, natural.size)
    )
    fixed = is_fixed(model)
    se = np.where(fixed, np.nan, np.sqrt(np.diag(covariance)))
    own = covariance[np.ix_(natural.index, natural.index)]
    sd = np.sqrt(np.diag(own))
    made = Uncertainty(covariance, se, np.linalg.eigvalsh(own / np.outer(sd, sd)), SOURCE)
    share = weights / weights.sum()
    return Resampling(
        samples,
        ofv,
        weights,
        chosen,
        np.percentile(kept, PERCENTILES, axis=0),
        made,
        float(1.0 / (share**2).sum()),
    )


def _proposed(
    centre: Array, spread: Array, draws: int, df: int, generator: np.random.Generator
) -> tuple[Array, Array]:
    """Return points [draw, free] and their log density relative to the centre's."""
    root = np.linalg.cholesky(spread)
    normal = generator.standard_normal((draws, len(centre)))
    if df > 0:
        normal /= np.sqrt(generator.chisquare(df, draws) / df)[:, None]
    square = (normal**2).sum(1)
    log_density = -0.5 * (df + len(centre)) * np.log1p(square / df) if df > 0 else -0.5 * square
    return centre + normal @ root.T, log_density


def _weights(rise: Array, log_density: Array, settings: ResamplingSettings) -> Array:
    """Return likelihood over proposal density, relative to the centre's, within the limits."""
    log_weight = np.where(np.isfinite(rise), -0.5 * rise - log_density, -np.inf)
    limited = np.clip(log_weight, np.log(settings.least_weight), np.log(settings.largest_weight))
    return np.asarray(np.where(np.isfinite(rise), np.exp(limited), 0.0))


def _without_replacement(weights: Array, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Return draws with probabilities proportional to their weights, each at most once.

    Exponential races (Efraimidis and Spirakis 2006): the smallest of e_k / w_k win.
    """
    possible = np.flatnonzero(weights > 0)
    races = generator.exponential(size=len(weights))[possible] / weights[possible]
    return np.asarray(possible[np.argsort(races)[:wanted]], dtype=np.int64)
