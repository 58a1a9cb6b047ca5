"""The observed information from weighted draws of the random effects, by Louis' identity.

With the complete-data score s and second derivative H of half the complete-data -2 log-likelihood, and E over
the posterior of each subject (Louis 1982, equation 3.2)::

    information = sum_i E[H_i] - E[s_i s_i'] + E[s_i] E[s_i]'

Draws are those of z = mu + eta: of thetas of mus and of omega all is then known in closed form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..estimate import Array, Estimate, Gradient
from ..kernel.kernel import Directions, Predictions
from ..objective.observations import Frozen, ObservationLikelihood
from ..objective.prior import PriorPenalty
from ..parameterisation.natural import NaturalParameters
from .em_statistics import chunks, read_sigma_slopes
from .em_step import EMStep

DISPLACEMENT = 1e-2  # of a parameter, in its own standard deviations given all others and the random effects


@dataclass(frozen=True, eq=False)
class WeightedDraws:
    """Draws ``eta`` [draw, id, eta] of one subpopulation with ``weights`` [draw, id].

    Weights add up to 1 over the draws and the subpopulations of each subject.
    """

    eta: Array
    weights: Array


def louis_information(
    em: EMStep, estimate: Estimate, draws: tuple[WeightedDraws, ...]
) -> tuple[Array, Array]:
    """Return the observed information [parameter, parameter] and the scores [id, parameter].

    Half the second derivative of -2 log-likelihood, and half its gradient by subject, in the order of
    :func:`..estimate.names`; rows of fixed and repeated parameters are zero.
    """
    natural = NaturalParameters(em.model)
    louis = _Louis(em, estimate, natural, draws)
    n = em.population.n_subjects
    score, outer = np.zeros((n, natural.size)), np.zeros((natural.size, natural.size))
    for component in range(len(draws)):
        own, squares = louis.scores(component)
        score += own
        outer += squares
    missing = outer - score.T @ score
    step = DISPLACEMENT / np.sqrt(np.maximum(np.diag(outer), 1e-300))
    size = np.abs(natural.values(estimate))
    step = np.minimum(step, 0.01 * np.where(size > 0, size, 1.0))
    complete = louis.second_derivative(step)
    if em.population.prior is not None:
        complete = complete + louis.prior_curvature(em.population.prior, step)
    information = np.zeros((len(natural.spread), len(natural.spread)))
    information[np.ix_(natural.index, natural.index)] = complete - missing
    scores = np.zeros((n, len(natural.spread)))
    scores[:, natural.index] = score
    return information, scores


class _Louis:
    def __init__(
        self, em: EMStep, estimate: Estimate, natural: NaturalParameters, draws: tuple[WeightedDraws, ...]
    ) -> None:
        self.em, self.estimate, self.natural, self.draws = em, estimate, natural, draws
        self.active = em.population.active
        k, n_thetas, n_eta = len(em.others.thetas), len(estimate.theta), em.model.n_etas
        self.directions = Directions(np.zeros((n_thetas, k)), np.zeros((n_eta, k)))
        self.directions.theta[em.others.thetas, np.arange(k)] = 1.0
        self.first = sum(np.einsum("di,dik->ik", d.weights, d.eta) for d in draws)
        self.second = sum(np.einsum("di,dik,dil->ikl", d.weights, d.eta, d.eta) for d in draws)
        self.reached = np.zeros(natural.size, dtype=bool)  # parameters of the observations given z

    def scores(self, component: int) -> tuple[Array, Array]:
        """Return E[s] [id, parameter] and E[s s'] summed over subjects."""
        likelihood, sample = self.em.population.likelihoods[component], self.draws[component]
        n, size = likelihood.n_subjects, self.natural.size
        mean, outer = np.zeros((n, size)), np.zeros((size, size))
        mixing = self._mixing(self.estimate, component)
        for chunk in self._chunks(component):
            eta, weights = sample.eta[chunk], sample.weights[chunk]
            observed = self._observed(likelihood, self.estimate, eta)
            self.reached |= (observed != 0).any((0, 1))
            score = observed + self._prior(self.estimate, eta) + mixing
            weighted = weights[..., None] * score
            mean += weighted.sum(0)
            outer += weighted.reshape(-1, size).T @ score.reshape(-1, size)
        return mean, outer

    def second_derivative(self, step: Array) -> Array:
        """Return E[H] by central differences of exact expected gradients."""
        columns = []
        for place in range(self.natural.size):
            unit = np.zeros(self.natural.size)
            unit[place] = step[place]
            ahead, behind = (
                self._gradient(self.natural.moved(self.estimate, sign * unit), bool(self.reached[place]))
                for sign in (1.0, -1.0)
            )
            columns.append((ahead - behind) / (2.0 * step[place]))
        second = np.array(columns)
        return np.asarray(0.5 * (second + second.T))

    def _chunks(self, component: int) -> list[slice]:
        likelihood = self.em.population.likelihoods[component]
        return chunks(likelihood, len(self.draws[component].eta), len(self.em.others.thetas) + 1)

    def prior_curvature(self, prior: PriorPenalty, step: Array) -> Array:
        """Return half the second derivative of the penalty of the prior of the population parameters."""
        columns = []
        for place in range(self.natural.size):
            unit = np.zeros(self.natural.size)
            unit[place] = step[place]
            ahead, behind = (self.natural.moved(self.estimate, s * unit) for s in (1.0, -1.0))
            difference = self.natural.gradient(prior.gradient(ahead)) - self.natural.gradient(
                prior.gradient(behind)
            )
            columns.append(0.5 * difference / (2.0 * step[place]))
        second = np.array(columns)
        return np.asarray(0.5 * (second + second.T))

    def _gradient(self, at: Estimate, reaches: bool) -> Array:
        """Return the expected gradient at ``at`` for the same draws of z.

        ``reaches``: whether what was moved changes what the observations say of given z.
        """
        shift = self.em.mu(self.estimate.theta) - self.em.mu(at.theta)
        total = self._expected_prior(at, shift)
        for component, likelihood in enumerate(self.em.population.likelihoods):
            sample = self.draws[component]
            if self.em.population.mixture is not None:
                total += sample.weights.sum(0) @ self._mixing(at, component)
            # thetas of mus do not reach the observations otherwise than through z, which stays
            for chunk in self._chunks(component) if reaches else ():
                eta, weights = sample.eta[chunk], sample.weights[chunk]
                total += np.einsum("di,dip->p", weights, self._observed(likelihood, at, eta))
        return total

    def _expected_prior(self, at: Estimate, shift: Array) -> Array:
        """Return the expected score of the distribution of random effects moved by ``shift`` [id, eta]."""
        cross = self.first[:, :, None] * shift[:, None, :]
        second = self.second + cross + cross.transpose(0, 2, 1) + shift[:, :, None] * shift[:, None, :]
        precision = self._precision(at)
        theta = -np.einsum("ikt,ik->it", self.em.mu.jacobian(at.theta), (self.first + shift) @ precision)
        theta[:, self.em.others.thetas] = 0.0
        omega = 0.5 * (precision - precision @ second @ precision)
        sigma = np.zeros((len(theta), *at.sigma.shape))
        return np.asarray(self.natural.gradient(Gradient(theta, omega, sigma)).sum(0))

    def _precision(self, at: Estimate) -> Array:
        precision, inside = np.zeros_like(at.omega), np.ix_(self.active, self.active)
        precision[inside] = np.linalg.inv(at.omega[inside])
        return precision

    def _observed(self, likelihood: ObservationLikelihood, at: Estimate, eta: Array) -> Array:
        """Return scores [draw, id, parameter] of the observations."""
        with np.errstate(all="ignore"):
            made = likelihood.predict(at.theta, eta, self.directions, at.sigma, at.omega)
            terms = likelihood.summed(made, at.sigma, self._frozen(likelihood, at), 0)
        if self.em.others.reads_sigma:
            slopes = read_sigma_slopes(likelihood, at, eta, self.em.others.interaction)
            terms = replace(terms, sigma_gradient=slopes)
        # far out, where a density cannot be told from 0, a draw has no weight
        known = np.asarray(
            np.isfinite(terms.gradient).all(-1) & np.isfinite(terms.sigma_gradient).all((-1, -2))
        )
        draws, n = eta.shape[:2]
        theta = np.zeros((draws, n, len(at.theta)))
        theta[..., self.em.others.thetas] = np.where(known[..., None], 0.5 * terms.gradient, 0.0)
        sigma = np.where(known[..., None, None], 0.5 * terms.sigma_gradient, 0.0)
        nothing = np.zeros((draws, n, len(at.omega), len(at.omega)))
        return self.natural.gradient(Gradient(theta, nothing, sigma))

    def _prior(self, at: Estimate, eta: Array) -> Array:
        """Return scores [draw, id, parameter] of the distribution of the random effects."""
        precision = self._precision(at)
        pull = eta @ precision
        theta = -np.einsum("ikt,dik->dit", self.em.mu.jacobian(at.theta), pull)
        theta[..., self.em.others.thetas] = 0.0
        omega = 0.5 * (precision - pull[..., :, None] * pull[..., None, :])
        sigma = np.zeros((*eta.shape[:2], len(at.sigma), len(at.sigma)))
        return self.natural.gradient(Gradient(theta, omega, sigma))

    def _mixing(self, at: Estimate, component: int) -> Array:
        """Return scores [id, parameter] of the membership of a subpopulation."""
        em = self.em
        probability, slope = em.population.probabilities(at.theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            theta = -slope[:, component] / probability[:, component, None]
        n = len(theta)
        omega, sigma = np.zeros((n, *at.omega.shape)), np.zeros((n, *at.sigma.shape))
        return self.natural.gradient(Gradient(np.nan_to_num(theta), omega, sigma))

    def _frozen(self, likelihood: ObservationLikelihood, at: Estimate) -> Frozen | None:
        if self.em.others.interaction:
            return None
        zero = np.zeros((1, likelihood.n_subjects, likelihood.n_etas))
        made: Predictions = likelihood.predict(at.theta, zero, self.directions, at.sigma, at.omega)
        eps = slice(1, 1 + likelihood.n_eps)
        return Frozen(
            np.ascontiguousarray(made.values[:, :, eps]), np.ascontiguousarray(made.derivatives[:, :, eps])
        )
