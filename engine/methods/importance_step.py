"""The E-step by importance sampling: weighted draws of the random effects of all subjects."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from ..estimate import Array, Estimate
from ..inner.mode import find_modes
from ..kernel.kernel import Predictions
from ..objective.importance_density import LOG_2PI, BasePoints, Points, Proposal, base_points
from ..objective.observations import ObservationLikelihood, Terms
from ..objective.population import Population
from .em_statistics import Scores, Statistics, chunks
from .em_step import EMStep
from .louis import WeightedDraws

ENOUGH = 20  # effective draws for each random effect, from which on a proposal follows them
# of effective draws, below which half of a subject's draws come from the prior from then on
GUARDED_SHARE = 0.1
HEAVY_TAILS = 4  # degrees of freedom of the next proposal of a subject with fewer
LONGEST = 2.0  # change of a scale in one iteration, as a factor


@dataclass(frozen=True)
class ProposalSettings:
    """How the proposal densities are made.

    Attributes
    ----------
    acceptance
        Mean ratio of posterior to proposal density, both 1 at the centre, that the scales are adapted to;
        0: scale and degrees of freedom are those of most use for each subject.
    tail_acceptance
        Likewise of a second, wider density that every other draw comes from; 0: there is none.
    scale_min, scale_max
        Limits of the scale of the variance.
    df
        Degrees of freedom of t distributions; 0: normal.
    from_prior
        Draws come from the distribution of the random effects itself.
    points, seed
        Random or quasi-random (scrambled Sobol) points.
    """

    acceptance: float = 0.4
    tail_acceptance: float = 0.0
    scale_min: float = 0.1
    scale_max: float = 10.0
    df: int = 0
    from_prior: bool = False
    points: Points = "random"
    seed: int = 11456


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the draws at one estimate say.

    Attributes
    ----------
    ofv, se
        -2 log-likelihood without N log 2 pi, and its Monte Carlo standard error: that of random draws, the
        error of even ones being a half to a fourth of it.
    by_subject
        [id], infinite where no draw of a subject has a density.
    effective_draws
        [id], sum of weights squared over sum of squared weights; of a mixture the mean over subpopulations.
    probabilities
        [id, component], of the subpopulations given the data.
    mean, covariance
        [id, eta] and [id, eta, eta] of the posteriors, over the subpopulations.
    draws
        For each subpopulation.
    statistics
        For the M-step; None where they were not asked for.
    """

    ofv: float
    se: float
    by_subject: Array
    effective_draws: Array
    probabilities: Array
    mean: Array
    covariance: Array
    draws: tuple[WeightedDraws, ...]
    statistics: Statistics | None
    log_proposal: tuple[Array, ...]


class ImportanceSampler:
    """Proposals of all subjects and subpopulations, which follow the posteriors."""

    def __init__(self, em: EMStep, settings: ProposalSettings) -> None:
        self.em, self.settings = em, settings
        self.population: Population = em.population
        self.active = self.population.active
        self.proposals: list[Proposal] = []
        self.lost: list[NDArray[np.bool_]] = []  # of each subpopulation: too few effective draws
        self._guarded: list[NDArray[np.bool_]] = []  # those that once had hardly any
        self._highest: list[Array] = []  # draws of the last iteration with the highest density
        self._mu = np.zeros((self.population.n_subjects, em.model.n_etas))  # that the centres belong to

    def follow_moments(self, estimate: Estimate, mean: Array, covariance: Array) -> None:
        """Centre all proposals at ``mean`` [id, eta] with ``covariance`` [id, eta, eta]."""
        self._mu = self.em.mu(estimate.theta)
        inside = covariance[:, self.active[:, None], self.active]
        sound = (
            (np.linalg.eigvalsh(inside)[:, :1] > 0.0) if len(self.active) else np.ones((len(mean), 1), bool)
        )
        inside = np.where(sound[..., None], inside, np.eye(len(self.active)))
        one = self._shaped(mean[:, self.active], inside)
        self.proposals = [one for _ in self.population.likelihoods]

    def follow_modes(self, estimate: Estimate, starts: int, only_lost: bool = False) -> None:
        """Centre the proposals at the conditional modes, with the inverse of the expected information.

        ``starts`` random starts of each search are tried besides. With ``only_lost`` those alone whose draws
        have too few that are effective; they get heavy tails too.
        """
        self.move(estimate)
        proposals = []
        n_eta = self.em.model.n_etas
        for component, likelihood in enumerate(self.population.likelihoods):
            before = self.population.start_etas
            if self.proposals:
                before = np.zeros((self.population.n_subjects, n_eta))
                before[:, self.active] = self.proposals[component].centre
                if only_lost and self._highest:
                    before[:, self.active] = self._highest[component]
            modes = find_modes(
                likelihood,
                estimate,
                before,
                interaction=self.em.others.interaction,
                draws=starts,
                seed=self.settings.seed,
            )
            precision = modes.information[:, self.active[:, None], self.active]
            covariance = np.linalg.inv(precision)
            covariance = 0.5 * (covariance + covariance.transpose(0, 2, 1))
            made = self._shaped(modes.eta[:, self.active], covariance)
            if self.proposals:  # scales were adapted before
                old = self.proposals[component]
                made = replace(made, scale=old.scale, df=old.df)
                if only_lost:
                    made = _mixed(
                        old, replace(made, df=np.full_like(old.df, HEAVY_TAILS)), self.lost[component]
                    )
            proposals.append(made)
        self.proposals = proposals

    def move(self, estimate: Estimate) -> None:
        """Let the proposals stay where they are in z = mu + eta while mu moves to that of ``estimate``."""
        mu = self.em.mu(estimate.theta)
        shift = (self._mu - mu)[:, self.active]
        self._mu = mu
        self.proposals = [replace(one, centre=one.centre + shift) for one in self.proposals]

    def follow_prior(self, omega: Array) -> None:
        """Draw from the distribution of the random effects."""
        n = self.population.n_subjects
        inside = omega[np.ix_(self.active, self.active)]
        one = Proposal(
            np.zeros((n, len(self.active))),
            np.broadcast_to(inside, (n, *inside.shape)),
            np.ones(n),
            np.zeros(n, dtype=np.int64),
        )
        self.proposals = [one for _ in self.population.likelihoods]

    def _guard(self, estimate: Estimate) -> None:
        """Let half the draws of subjects that had too few effective ones come from the prior."""
        if not self._guarded or not len(self.active):
            return
        broad = estimate.omega[np.ix_(self.active, self.active)]
        self.proposals = [
            replace(one, guarded=guarded, broad=broad) if guarded.any() else one
            for one, guarded in zip(self.proposals, self._guarded, strict=True)
        ]

    def expectation(
        self, estimate: Estimate, draws: int, name: str, wanted: bool, points: Points | None = None
    ) -> Expectation:
        """Return the expectations at ``estimate``, and let the proposals follow them.

        ``name`` is that of the stream of points, ``points`` their kind (None: that of the settings). With
        ``wanted`` statistics for the M-step are made.
        """
        points = points or self.settings.points
        if self.settings.from_prior:
            self.follow_prior(estimate.omega)
        else:
            self.move(estimate)
            self._guard(estimate)
        samples = [
            _Sample(self, component, estimate, draws, (points, f"{name}/{component}"), wanted)
            for component in range(len(self.population.likelihoods))
        ]
        prior, _ = self.population.probabilities(estimate.theta)
        with np.errstate(divide="ignore"):
            joint = np.log(prior) + np.stack([s.log_likelihood for s in samples], axis=1)
            log_likelihood = logsumexp(joint, axis=1)
        known = np.isfinite(log_likelihood)
        probabilities = np.exp(joint - np.where(known, log_likelihood, 0.0)[:, None])
        weighted = [s.share * probabilities[:, c] for c, s in enumerate(samples)]
        variance = sum(probabilities[:, c] ** 2 * s.variance for c, s in enumerate(samples))
        mean = sum(np.einsum("di,dik->ik", w, s.eta) for w, s in zip(weighted, samples, strict=True))
        second = sum(
            np.einsum("di,dik,dil->ikl", w, s.eta, s.eta) for w, s in zip(weighted, samples, strict=True)
        )
        mean = np.asarray(mean)
        statistics = None
        if wanted:
            for component, (sample, weights) in enumerate(zip(samples, weighted, strict=True)):
                own = sample.statistics(weights)
                statistics = own if component == 0 else statistics + own  # type: ignore[operator]
        effective = sum(probabilities[:, c] * s.effective_draws for c, s in enumerate(samples))
        fewest = ENOUGH * len(self.active)
        self.lost = [
            (s.effective_draws < fewest) & (probabilities[:, c] > 0.01) for c, s in enumerate(samples)
        ]
        poor = [s.effective_draws < GUARDED_SHARE * draws for s in samples]
        self._guarded = [old | new for old, new in zip(self._guarded or poor, poor, strict=True)]
        self._highest = [s.drawn[np.argmax(s.log_joint, 0), np.arange(s.drawn.shape[1])] for s in samples]
        for component, sample in enumerate(samples):
            self.proposals[component] = self._followed(self.proposals[component], sample)
        total = float(-2.0 * log_likelihood.sum())
        if self.population.prior is not None:
            total += self.population.prior.value(estimate)
        return Expectation(
            total,
            2.0 * math.sqrt(float(np.sum(variance))),
            np.where(known, -2.0 * log_likelihood, np.inf),
            np.asarray(effective),
            probabilities,
            mean,
            np.asarray(second - mean[:, :, None] * mean[:, None, :]),
            tuple(WeightedDraws(s.eta, w) for s, w in zip(samples, weighted, strict=True)),
            statistics,
            tuple(s.log_proposal for s in samples),
        )

    def objective(self, at: Estimate, expectation: Expectation, origin: Estimate) -> float:
        """Return the objective at an estimate near ``origin``, whose draws of z are used again."""
        shift = self.em.mu(origin.theta) - self.em.mu(at.theta)
        prior, _ = self.population.probabilities(at.theta)
        parts = []
        for component, likelihood in enumerate(self.population.likelihoods):
            eta = expectation.draws[component].eta + shift
            value = evaluate(likelihood, at, eta, self.em)
            log_weight = log_joint(value, at, eta, self.active) - expectation.log_proposal[component]
            parts.append(logsumexp(log_weight, axis=0) - math.log(len(eta)))
        with np.errstate(divide="ignore", invalid="ignore"):
            total = float(-2.0 * logsumexp(np.log(prior) + np.stack(parts, axis=1), axis=1).sum())
        return total if self.population.prior is None else total + self.population.prior.value(at)

    def _shaped(self, centre: Array, covariance: Array) -> Proposal:
        settings, n, size = self.settings, len(centre), max(centre.shape[1], 1)
        scale = 1.2 if settings.acceptance == 0 else settings.acceptance ** (-2.0 / size)
        scale = min(max(scale, settings.scale_min), settings.scale_max)
        tail = None if settings.tail_acceptance == 0 else settings.tail_acceptance ** (-2.0 / size)
        return Proposal(centre, covariance, np.full(n, scale), np.full(n, settings.df, dtype=np.int64), tail)

    def _followed(self, proposal: Proposal, sample: _Sample) -> Proposal:
        """Return the proposal of the next iteration."""
        settings, size = self.settings, len(self.active)
        if settings.from_prior or size == 0:
            return proposal
        if settings.acceptance > 0:
            with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
                factor = (sample.acceptance / settings.acceptance) ** (2.0 / size)
            factor = np.clip(np.where(np.isfinite(factor), factor, 1.0), 1.0 / LONGEST, LONGEST)
            scale = np.clip(proposal.scale * factor, settings.scale_min, settings.scale_max)
            shaped = replace(proposal, scale=scale)
        else:
            shaped = proposal.best_shape(
                sample.drawn, sample.log_joint, sample.share, settings.scale_min, settings.scale_max
            )
        mean = np.einsum("di,dik->ik", sample.share, sample.drawn)
        rest = sample.drawn - mean
        covariance = np.einsum("di,dik,dil->ikl", sample.share, rest, rest)
        enough = sample.effective_draws > ENOUGH * size
        enough &= np.linalg.eigvalsh(np.where(np.isfinite(covariance), covariance, 0.0))[:, 0] > 0.0
        return replace(
            shaped,
            centre=np.where(enough[:, None], mean, proposal.centre),
            covariance=np.where(enough[:, None, None], covariance, proposal.covariance),
        )


def _mixed(old: Proposal, new: Proposal, chosen: NDArray[np.bool_]) -> Proposal:
    return replace(
        old,
        centre=np.where(chosen[:, None], new.centre, old.centre),
        covariance=np.where(chosen[:, None, None], new.covariance, old.covariance),
        scale=np.where(chosen, new.scale, old.scale),
        df=np.where(chosen, new.df, old.df),
    )


class _Sample:
    """Weighted draws of one subpopulation."""

    def __init__(
        self,
        sampler: ImportanceSampler,
        component: int,
        estimate: Estimate,
        draws: int,
        source: tuple[Points, str],
        wanted: bool,
    ) -> None:
        em, population, settings = sampler.em, sampler.population, sampler.settings
        self.em, self.component, self.estimate = em, component, estimate
        likelihood = population.likelihoods[component]
        proposal = sampler.proposals[component]
        n, size = population.n_subjects, len(sampler.active)
        points: BasePoints = base_points(draws, n, size, source[0], settings.seed, source[1])
        self.drawn, self.log_proposal = proposal.draw(points)
        self.eta = np.zeros((draws, n, em.model.n_etas))
        self.eta[:, :, sampler.active] = self.drawn
        self.parts: list[tuple[Predictions, Terms]] | None = None
        if wanted:
            self.scores = Scores(em.others, estimate, likelihood)
            value = self._evaluated(likelihood)
        else:
            value = evaluate(likelihood, estimate, self.eta, em)
        self.log_joint = log_joint(value, estimate, self.eta, sampler.active)
        log_weight = self.log_joint - self.log_proposal
        total = logsumexp(log_weight, axis=0)
        self.log_likelihood = total - math.log(draws)
        self.share = np.exp(log_weight - np.where(np.isfinite(total), total, 0.0))
        squares = (self.share**2).sum(0)
        self.effective_draws = np.where(squares > 0, 1.0 / np.where(squares > 0, squares, 1.0), 0.0)
        self.variance = np.maximum(squares - 1.0 / draws, 0.0)
        self.acceptance = np.ones(n)
        if settings.acceptance > 0 and not settings.from_prior and size:
            centre = np.zeros((1, n, em.model.n_etas))
            centre[0][:, sampler.active] = proposal.centre
            there = log_joint(evaluate(likelihood, estimate, centre, em), estimate, centre, sampler.active)
            top = there - proposal.log_density(proposal.centre[None])
            with np.errstate(over="ignore", invalid="ignore"):
                self.acceptance = np.exp(self.log_likelihood - top[0])

    def _evaluated(self, likelihood: ObservationLikelihood) -> Array:
        """Return values [draw, id]; keep predictions and slopes where they fit into memory."""
        slices = chunks(likelihood, len(self.eta), len(self.em.others.thetas))
        values = []
        for chunk in slices:
            part = self.scores.evaluate(self.eta[chunk])
            values.append(part[1].value)
            if len(slices) == 1:
                self.parts = [part]
        return np.concatenate(values)

    def statistics(self, weights: Array) -> Statistics:
        """Return the expectations under ``weights`` [draw, id]."""
        if self.parts is not None:
            self.scores.accumulate(self.eta, *self.parts[0], weights)
        else:
            self.scores.add(self.eta, weights)
        return self.em.completed(self.scores, self.estimate, self.eta, weights, self.component)


def evaluate(likelihood: ObservationLikelihood, estimate: Estimate, eta: Array, em: EMStep) -> Array:
    """Return -2 log p(y | eta) [draw, id], infinite where the model fails."""
    frozen = None
    if not em.others.interaction:
        frozen = likelihood.frozen(estimate.theta, "none", estimate.sigma)
    values = []
    with np.errstate(all="ignore"):
        for chunk in chunks(likelihood, len(eta), 0):
            made = likelihood.predict(estimate.theta, eta[chunk], "none", estimate.sigma, estimate.omega)
            values.append(likelihood.summed(made, estimate.sigma, frozen).value)
    return np.concatenate(values)


def log_joint(value: Array, estimate: Estimate, eta: Array, active: NDArray[np.int64]) -> Array:
    """Return log p(y, eta) [draw, id] without the 2 pi of the observations."""
    inside = estimate.omega[np.ix_(active, active)]
    own = eta[..., active]
    square = np.einsum("dik,kl,dil->di", own, np.linalg.inv(inside), own)
    constant = float(np.linalg.slogdet(inside)[1]) + len(active) * LOG_2PI
    return np.asarray(-0.5 * (value + square + constant))
