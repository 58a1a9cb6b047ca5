"""The finish: maximise the true marginal likelihood on importance samples around the posteriors.

Rounds of proposals at the current estimate and quasi-Newton on the likelihood of fixed draws, with
more and independent draws each round, until new draws see nothing left to gain.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..estimate import Array, Estimate
from ..inner.posterior import Posterior, gaussian_posterior
from ..iteration import Iteration, Observer
from ..likelihood import ImportanceLikelihood
from ..objective.joint import LOG_2PI, Joint
from ..objective.sampling import (
    Draws,
    MarginalLikelihood,
    draw,
    effective_sample_size,
    importance_likelihood,
    likelihood_ratio,
    log_weights,
    weighted_moments,
)
from ..parameterisation.tensor import TensorParameterisation
from .quasi_newton import Limits, Single, minimise
from .sample_em import SampleEM
from .vae import VaeSettings

SEARCH_TOLERANCE = 1e-6  # of differential equations: their errors are far below the noise of draws
GAIN = 0.02  # -2 log-likelihood: what fresh draws may still gain at convergence
GAIN_PER_PARAMETER = 0.005  # fitting the noise of fresh draws gains something for every parameter
DECREASE = 1e-5  # -2 log-likelihood: predicted, at the end of a round
MAX_EVALUATIONS = 150  # of a round
# the same where every evaluation solves equations: fresh draws nearer to the maximum are worth more than a
# long way on these, and their noise is some hundredths
DECREASE_SOLVED = 5e-3
EVALUATIONS_SOLVED = 10
SETTLING_ROUNDS = 10
SETTLING_STEPS = 10  # EM steps on the draws of one round
SETTLED = 0.1  # change of a round, in SDs of the random effects or of a log variance
LONGEST_STRIDE = 0.35  # of a log Cholesky diagonal in one round, so that no variance collapses in one leap
CURVATURE_DRAWS = 32  # that show a first search the shape of the likelihood
REPLICATES = 4  # fewer do not tell their scatter
LARGE_ESS = 400.0  # draws: posterior means are then known to a twentieth of an SD
SMALLEST_SHARE = 0.1  # of the draws: effective sample size below which a step is shortened


@dataclass(frozen=True)
class Finished:
    """The end of the finish: estimate, its free vector, posteriors, last draws, convergence."""

    estimate: Estimate
    free: Array
    posterior: Posterior
    likelihood: MarginalLikelihood
    converged: bool


def tensors(estimate: Estimate) -> tuple[Tensor, Tensor, Tensor]:
    """Return (theta, omega, sigma) as tensors."""
    return (
        torch.from_numpy(estimate.theta),
        torch.from_numpy(estimate.omega),
        torch.from_numpy(estimate.sigma),
    )


def match(
    joint: Joint, estimate: Estimate, start: Tensor, *, seed: int, name: str
) -> tuple[Posterior, Posterior]:
    """Return modes, and proposals matched to the weighted moments of a pilot sample around them."""
    parameters = tensors(estimate)
    mode = gaussian_posterior(joint, *parameters, start)
    pilot = draw(joint, parameters, mode, 128, seed=seed, name=name + "/pilot", widening=1.2)
    weights = log_weights(joint, pilot, parameters)
    mean, covariance = weighted_moments(pilot, weights)
    enough = effective_sample_size(weights) > 20 * joint.n_active
    jitter = 1e-10 * torch.eye(joint.n_active, dtype=mean.dtype)
    centre = torch.where(enough[:, None], mean - joint.active_mu(parameters[0]), mode.mean)
    own = mode.chol @ mode.chol.mT
    scale = torch.linalg.cholesky(torch.where(enough[:, None, None], covariance, own) + jitter * own)
    return mode, Posterior(centre, scale, mode.converged)


def propose(
    joint: Joint,
    estimate: Estimate,
    start: Tensor,
    draws: int,
    *,
    seed: int,
    name: str,
    keep: bool,
) -> tuple[Posterior, Draws]:
    """Return modes and draws from the proposals of :func:`match`."""
    mode, matched = match(joint, estimate, start, seed=seed, name=name)
    return mode, draw(joint, tensors(estimate), matched, draws, seed=seed, name=name, keep=keep)


def settle(
    joint: Joint,
    start: Estimate,
    centre: Tensor,
    settings: VaeSettings,
    out: frozenset[int] = frozenset(),
) -> tuple[Estimate, Tensor]:
    """Return the estimate and modes after rounds of EM on fresh importance samples.

    What the encoder's posteriors lack is made good with the care of EM before likelihoods of fixed draws are
    maximised. Thetas in ``out`` stay at zero.
    """
    joint = joint.loosened(SEARCH_TOLERANCE)
    estimate = start
    for number in range(1, SETTLING_ROUNDS + 1):
        mode, draws = propose(
            joint,
            estimate,
            centre,
            settings.draws_for(settings.search_draws, joint.n_subjects),
            seed=settings.seed,
            name=f"settling/{number}",
            keep=True,
        )
        centre = mode.mean
        em = SampleEM(joint, draws.z, likelihood_ratio(joint, draws, tensors(estimate)), estimate)
        before = estimate
        for _ in range(SETTLING_STEPS):
            _, mean, covariance = em.e_step(estimate)
            estimate = em.m_step(estimate, mean, covariance, out)
        if _drift(joint, before, estimate) < SETTLED:
            break
    return estimate, centre


def _drift(joint: Joint, before: Estimate, after: Estimate) -> float:
    variances = [np.diag(e.omega)[joint.active] for e in (before, after)]
    mu = [joint.active_mu(torch.from_numpy(e.theta)).numpy() for e in (before, after)]
    moved = np.abs(mu[1] - mu[0]).max(0) / np.sqrt(variances[1])
    return float(max(moved.max(), np.abs(np.log(variances[1] / variances[0])).max()))


def maximise(
    joint: Joint,
    estimate: Estimate,
    posterior_start: Tensor,
    settings: VaeSettings,
    observer: Observer,
    began: float,
) -> Finished:
    """Return the maximum of the marginal likelihood from ``estimate``."""
    parameterisation = TensorParameterisation(joint.model)
    exact, joint = joint, joint.loosened(SEARCH_TOLERANCE)
    keep = not joint.mu.structural_thetas
    free = parameterisation.pack(estimate)
    start = posterior_start
    enough = GAIN + GAIN_PER_PARAMETER * parameterisation.size
    converged, curvature, doublings, last = False, None, 0, math.inf
    for number in range(1, settings.max_rounds + 1):
        size = settings.draws_of_round(number, doublings, joint, keep=keep)
        current = parameterisation.natural(free)
        mode, sample = propose(
            joint, current, start, size, seed=settings.seed, name=f"refinement/{number}", keep=keep
        )
        start = mode.mean
        likelihood = MarginalLikelihood(joint, parameterisation, sample)
        if likelihood.solves and curvature is None:
            few = MarginalLikelihood(joint, parameterisation, sample.first(joint, CURVATURE_DRAWS))
            curvature = few.hessian(free)
        climbed = _climb(likelihood, free, curvature)
        free, curvature = climbed.point, climbed.curvature
        doublings += climbed.whole or climbed.before > last - enough  # fresh draws see no progress
        last = climbed.before
        objective = climbed.after - joint.data.n_observations * LOG_2PI
        seconds = time.perf_counter() - began
        observer(Iteration("refinement", number, objective, parameterisation.natural(free), seconds))
        if number > 1 and climbed.whole and climbed.before - climbed.after < enough:
            converged = True
            break
    if likelihood.solves:
        sample = replace(sample, chunks=exact.chunks(size))
        likelihood = MarginalLikelihood(exact, parameterisation, sample)
    finished = parameterisation.natural(free)
    return Finished(finished, free, mode, likelihood, converged)


@dataclass(frozen=True, eq=False)
class _Climbed:
    """Where a search on fixed draws came to, and the objective ``before`` and ``after`` it.

    ``whole``: whether that is the maximum; ``curvature`` is what the search knew of it.
    """

    point: Array
    before: float
    after: float
    whole: bool
    curvature: Array


def _climb(likelihood: MarginalLikelihood, start: Array, curvature: Array | None) -> _Climbed:
    """Return the maximum on the draws, or the point on the way where the draws still serve."""
    values: list[float] = []

    def objective(point: Array) -> tuple[float, Array]:
        value, gradient = likelihood.value_and_gradient(point)
        values.append(value)
        return value, gradient

    limits = Limits.none(len(start), DECREASE, MAX_EVALUATIONS)
    if likelihood.solves:
        limits = Limits.none(len(start), DECREASE_SOLVED, EVALUATIONS_SOLVED)
    found = minimise(Single(objective), start, limits, curvature=curvature)
    before, step = values[0], found.best.point - start
    joint, parameterisation = likelihood.joint, likelihood.parameterisation
    stride = float(np.abs(step[len(parameterisation.free_thetas) :]).max(initial=0.0))
    scale = 1.0 if stride <= LONGEST_STRIDE else LONGEST_STRIDE / stride
    whole = scale == 1.0 and (found.ended != "evaluations" or found.decrease < GAIN)

    def shares(point: Array) -> Tensor:
        weights = log_weights(joint, likelihood.draws, tensors(parameterisation.natural(point)))
        return effective_sample_size(weights) / len(weights)

    # a subject whose draws were poor to begin with must not hold up all the others
    least = (0.5 * shares(start)).nan_to_num(0.0).clamp(max=SMALLEST_SHARE)
    for _ in range(10):
        trial = start + scale * step
        if bool((shares(trial) >= least).all()):
            value = found.best.value if scale == 1.0 else likelihood.value_and_gradient(trial)[0]
            if np.isfinite(value) and value <= before:
                return _Climbed(trial, before, value, whole, found.hessian)
        scale, whole = 0.5 * scale, False
    return _Climbed(start, before, before, False, found.hessian)


def evaluated_likelihood(
    joint: Joint, estimate: Estimate, start: Tensor, settings: VaeSettings
) -> tuple[ImportanceLikelihood, Posterior, Draws, Tensor]:
    """Return -2 log-likelihood on fresh draws, modes, and all draws with their log weights.

    Replicates come from the same proposals. Where their draws cost the solution of equations they end once
    the standard error is small and every subject's effective sample large.
    """
    parameters = tensors(estimate)
    mode, matched = match(joint, estimate, start, seed=settings.seed, name="likelihood")
    size, most = settings.likelihood_sizes(joint)
    weights: list[Tensor] = []
    samples: list[Draws] = []
    for replicate in range(most):
        sample = draw(
            joint, parameters, matched, size, seed=settings.seed, name=f"likelihood/{replicate}", keep=True
        )
        weights.append(log_weights(joint, sample, parameters))
        samples.append(replace(sample, structures=None))
        if joint.decoder.derivatives > 1 or replicate + 1 < REPLICATES:
            continue
        found = importance_likelihood(weights)
        if found.se <= settings.likelihood_error and float(found.ess.min()) >= LARGE_ESS:
            break
    together = Draws(
        torch.cat([s.z for s in samples]), torch.cat([s.log_q for s in samples]), samples[0].chunks, None
    )
    return importance_likelihood(weights), mode, together, torch.cat(weights)
