"""Expectations over the posteriors that the M-step needs: moments, scores, information.

Every statistic is linear in the posterior, so that stochastic approximation can average it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..kernel.kernel import Directions, Predictions
from ..objective.observations import Frozen, ObservationLikelihood, Terms
from ..objective.population import Population
from ..objective.slopes import slopes_by_value
from ..objective.terms import NORMAL
from ..parameterisation.unconstrained import Parameterisation

MEMORY = 200e6  # bytes of one kernel call
DISPLACEMENT = 1e-4  # of the free parameters of sigma, in differences of exact slopes


@dataclass(frozen=True, eq=False)
class Statistics:
    """Expectations over the posteriors, all linear in them; those of subpopulations add up.

    Attributes
    ----------
    first, second
        E[z] [id, eta] and E[z z'] [id, eta, eta], z = mu + eta (eta itself where there is no mu).
    score, outer
        E[s] [id, other] and E[s s'] [id, other, other]; s is the derivative to the *other* parameters
        (:attr:`OtherParameters.places`) of half the complete-data -2 log-likelihood.
    information
        [other, other], its expected second derivative, summed over subjects.
    squares, counts
        [eps]: E of the sum of (residual / slope)^2, and its number of terms, where every normal
        observation has one eps; else squares are NaN.
    deviance
        E[-2 log p(y | eta)], [id].
    """

    first: Array
    second: Array
    score: Array
    outer: Array
    information: Array
    squares: Array
    counts: Array
    deviance: Array

    def __add__(self, other: Statistics) -> Statistics:
        """Return the sum over subpopulations."""
        return Statistics(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def towards(self, other: Statistics, gamma: float) -> Statistics:
        """Return the average that moves by ``gamma`` towards ``other`` (stochastic approximation)."""
        if gamma == 1.0:
            return other
        pairs = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Statistics(*(mine + gamma * (new - mine) for mine, new in pairs))


class OtherParameters:
    """The parameters that are neither of mus nor of omega: ``thetas`` (from 0), and sigma.

    Attributes
    ----------
    places
        In the free vector of ``parameterisation``: thetas first, then sigma.
    reads_sigma
        Whether the statements read elements of sigma themselves.
    single_eps
        Whether each normal observation has one eps of its own variance, and nothing else depends on sigma,
        which then has a closed form.
    """

    def __init__(self, population: Population, thetas: list[int], start: Estimate, interaction: bool) -> None:
        self.population, self.thetas, self.interaction = population, thetas, interaction
        model = population.model
        self.parameterisation = Parameterisation(model)
        free = self.parameterisation.free_thetas
        self.places: NDArray[np.intp] = np.array(
            [free.index(j) for j in thetas] + self.parameterisation.sigma_positions, dtype=np.intp
        )
        diagonal = all(block.size == 1 and block.same_as is None for block in model.sigma)
        self.reads_sigma = any(likelihood.reads_sigma for likelihood in population.likelihoods)
        self.single_eps = bool(
            diagonal
            and not self.reads_sigma
            and model.observation.level is None
            and model.n_eps
            and self._one_eps_each(start)
        )

    def jacobian(self, estimate: Estimate) -> Array:
        """Return derivatives of ``thetas`` and the lower triangle of sigma to the free parameters."""
        n_thetas, n_eps = len(estimate.theta), len(estimate.sigma)
        rows = [*self.thetas, *range(n_thetas, n_thetas + n_eps * (n_eps + 1) // 2)]
        free = self.parameterisation.pack(estimate)
        return np.asarray(self.parameterisation.jacobian(free)[np.ix_(rows, self.places)])

    def _one_eps_each(self, start: Estimate) -> bool:
        for likelihood in self.population.likelihoods:
            eta = np.zeros((3, likelihood.n_subjects, likelihood.n_etas))
            eta[1:] = np.sqrt(np.diag(start.omega)) * np.array([0.3, -0.3])[:, None, None]
            made = likelihood.predict(start.theta, eta, "none", start.sigma, start.omega)
            slopes = made.values[:, :, 1 : 1 + likelihood.n_eps]
            normal = is_normal(likelihood, made) & np.isfinite(slopes).all(-1)
            if ((slopes != 0).sum(-1) > 1)[normal].any():
                return False
        return True


class Scores:
    """Sums over draws of what the observations say of the other parameters.

    With ``shift`` [id, eta, other theta] the random effects go along with the other thetas: to the scores is
    added ``shift`` times the slope of the log posterior density, whose posterior mean is 0 (a control variate
    by Stein's identity; Mira, Solgi and Imparato 2013), and the information is that of complete data of which
    eta - shift theta is kept. ``precision`` [eta, eta] is that of the prior.
    """

    def __init__(
        self,
        others: OtherParameters,
        estimate: Estimate,
        likelihood: ObservationLikelihood,
        shift: Array | None = None,
        precision: Array | None = None,
    ) -> None:
        self.shift, self.precision = shift, precision
        self.others, self.estimate, self.likelihood = others, estimate, likelihood
        self.jacobian = others.jacobian(estimate)
        k, m = len(others.thetas), len(others.places)
        n, n_eta = likelihood.n_subjects, likelihood.n_etas
        self.nq = k if shift is None else k + n_eta
        self.directions = Directions(np.zeros((len(estimate.theta), self.nq)), np.zeros((n_eta, self.nq)))
        self.directions.theta[others.thetas, np.arange(k)] = 1.0
        self.joint = np.zeros((n, self.nq, self.nq))  # expected information of other thetas and etas
        if shift is not None:
            self.directions.eta[:, k:] = np.eye(n_eta)
        self.frozen = None if others.interaction else self._frozen_slopes()
        self.score, self.outer = np.zeros((n, m)), np.zeros((n, m, m))
        self.information = np.zeros((m, m))
        self.squares, self.counts = np.zeros(likelihood.n_eps), np.zeros(likelihood.n_eps)
        if not others.single_eps:
            self.squares[:] = np.nan
        self.deviance = np.zeros(n)

    def add(self, eta: Array, weights: Array) -> None:
        """Add draws ``eta`` [draw, id, eta] with ``weights`` [draw, id], in chunks that fit into memory."""
        for chunk in chunks(self.likelihood, len(eta), self.nq):
            self.accumulate(eta[chunk], *self.evaluate(eta[chunk]), weights[chunk])

    def evaluate(self, eta: Array) -> tuple[Predictions, Terms]:
        """Return predictions and terms of draws ``eta`` [draw, id, eta] along the other thetas."""
        own = self.estimate
        with np.errstate(all="ignore"):
            made = self.likelihood.predict(own.theta, eta, self.directions, own.sigma, own.omega)
            terms = self.likelihood.summed(made, own.sigma, self.frozen, self.nq)
        if self.others.reads_sigma:
            slopes = read_sigma_slopes(self.likelihood, own, eta, self.others.interaction)
            terms = replace(terms, sigma_gradient=slopes)
        return made, terms

    def accumulate(self, eta: Array, made: Predictions, terms: Terms, weights: Array) -> None:
        """Add draws ``eta`` [draw, id, eta] that were evaluated, with ``weights`` [draw, id]."""
        k = len(self.others.thetas)
        used = (weights > 0) & np.isfinite(terms.value) & np.isfinite(terms.gradient).all(-1)
        used &= np.isfinite(terms.sigma_gradient).all((-1, -2))
        share = np.where(used, weights, 0.0)
        self.deviance += (share * np.where(used, terms.value, 0.0)).sum(0)
        if self.others.single_eps:
            self._add_squares(made, share)
        if not len(self.others.places):
            return
        sigma = np.where(used[..., None, None], terms.sigma_gradient, 0.0)
        theta = np.where(used[..., None], terms.gradient, 0.0)
        if self.shift is not None and self.precision is not None:
            slope = theta[..., k:] + np.where(used[..., None], 2.0 * eta @ self.precision, 0.0)
            theta = theta[..., :k] + np.einsum("die,iek->dik", slope, self.shift)
        score = 0.5 * np.concatenate([theta, lower_triangle(sigma)], axis=-1) @ self.jacobian
        self.score += (share[..., None] * score).sum(0)
        by_subject = np.ascontiguousarray(score.transpose(1, 0, 2))
        self.outer += (by_subject * share.T[..., None]).transpose(0, 2, 1) @ by_subject
        known = np.where(used[..., None, None], terms.information, 0.0)
        scale = self.jacobian[:k, :k]
        if self.shift is None or self.precision is None:
            complete = np.einsum("di,dipq->pq", share, known)
        else:
            joint = np.einsum("di,dipq->ipq", share, known)
            self.joint += joint
            joint[:, k:, k:] += share.sum(0)[:, None, None] * self.precision
            along = np.concatenate([np.tile(np.eye(k), (len(joint), 1, 1)), self.shift], axis=1)
            complete = np.einsum("ipk,ipq,iql->kl", along, joint, along)
        self.information[:k, :k] += scale.T @ complete @ scale
        if len(self.others.places) > k and not self.others.single_eps:
            self.information[k:, k:] += self._sigma_information(eta, made, share)

    def statistics(self, first: Array, second: Array) -> Statistics:
        """Return the statistics with the moments of z."""
        k = len(self.others.thetas)
        if len(self.others.places) > k and self.others.single_eps:
            # sigma's free parameter is the log of its root, of which each observation holds information 2
            place = [b.first - 1 for b in self.others.population.model.sigma if not b.fixed]
            self.information[k:, k:] = 2.0 * np.diag(self.counts[place])
        return Statistics(
            first,
            second,
            self.score,
            self.outer,
            self.information,
            self.squares,
            self.counts,
            self.deviance,
        )

    def _add_squares(self, made: Predictions, share: Array) -> None:
        likelihood = self.likelihood
        n_eps = likelihood.n_eps
        slopes = made.values[:, :, 1 : 1 + n_eps] if self.frozen is None else self.frozen.slopes
        by_record = share[:, likelihood.data.subject]
        normal = is_normal(likelihood, made) & (by_record > 0)
        involved = (slopes != 0) & normal[..., None]
        residual = likelihood.dv - made.values[:, :, 0]
        for e in range(n_eps):
            where = involved[..., e]
            ratio = np.where(where, residual, 0.0) / np.where(where, slopes[..., e], 1.0)
            self.squares[e] += (by_record * ratio**2).sum()
            self.counts[e] += (by_record * where).sum()
        if (involved.sum(-1) > 1).any():
            self.squares[:] = np.nan

    def _sigma_information(self, eta: Array, made: Predictions, share: Array) -> Array:
        """Return the second derivative to the free parameters of sigma, by differences of exact slopes."""
        others, own = self.others, self.estimate
        k = len(others.thetas)
        bare = Predictions(made.values, made.derivatives[..., :0], made.status, made.layout)
        frozen = None
        if self.frozen is not None:
            frozen = Frozen(self.frozen.slopes, self.frozen.derivatives[..., :0])
        free = others.parameterisation.pack(own)
        columns = []
        for place in others.places[k:]:
            ends = []
            for sign in (1.0, -1.0):
                moved = free.copy()
                moved[place] += sign * DISPLACEMENT
                sigma = others.parameterisation.natural(moved).sigma
                if others.reads_sigma:
                    at = Estimate(own.theta, own.omega, sigma)
                    slopes = read_sigma_slopes(self.likelihood, at, eta, others.interaction)
                else:
                    with np.errstate(all="ignore"):
                        slopes = self.likelihood.summed(bare, sigma, frozen, 0).sigma_gradient
                mean = np.einsum(
                    "di,dis->s", share, np.where(share[..., None] > 0, lower_triangle(slopes), 0)
                )
                there = others.jacobian(Estimate(own.theta, own.omega, sigma))
                ends.append(0.5 * mean @ there[k:, k:])
            columns.append((ends[0] - ends[1]) / (2.0 * DISPLACEMENT))
        second = np.array(columns)
        values, vectors = np.linalg.eigh(0.5 * (second + second.T))
        return np.asarray((vectors * np.abs(values)) @ vectors.T)

    def _frozen_slopes(self) -> Frozen:
        """Return the slopes to eps at eta = 0 with their derivatives along the directions."""
        likelihood, own = self.likelihood, self.estimate
        zero = np.zeros((1, likelihood.n_subjects, likelihood.n_etas))
        made = likelihood.predict(own.theta, zero, self.directions, own.sigma, own.omega)
        eps = slice(1, 1 + likelihood.n_eps)
        return Frozen(
            np.ascontiguousarray(made.values[:, :, eps]), np.ascontiguousarray(made.derivatives[:, :, eps])
        )


def read_sigma_slopes(
    likelihood: ObservationLikelihood, at: Estimate, eta: Array, interaction: bool
) -> Array:
    """Return derivatives [draw, id, eps, eps] of -2 log p(y | eta) to a sigma that the statements read."""

    def values(moved: Estimate) -> Array:
        with np.errstate(all="ignore"):
            frozen = None if interaction else likelihood.frozen(moved.theta, "none", moved.sigma)
            made = likelihood.predict(moved.theta, eta, "none", moved.sigma, moved.omega)
            return likelihood.summed(made, moved.sigma, frozen).value

    with np.errstate(invalid="ignore"):
        return slopes_by_value(values, at, "sigma", likelihood.model.sigma)


def is_normal(likelihood: ObservationLikelihood, made: Predictions) -> NDArray[np.bool_]:
    """Return where, [draw, record], an observation has a normal density."""
    if likelihood.flag < 0:
        return np.broadcast_to(likelihood.kind == NORMAL, made.values.shape[:2])
    observed = likelihood.data.is_observation
    return np.asarray(observed & (made.values[:, :, likelihood.flag] == NORMAL))


def lower_triangle(full: Array) -> Array:
    """Return derivatives [.., n, n] to all elements as those to the lower triangle."""
    n = full.shape[-1]
    rows, columns = np.tril_indices(n)
    both = full + np.swapaxes(full, -1, -2)
    return np.asarray(both[..., rows, columns] * np.where(rows == columns, 0.5, 1.0))


def chunks(likelihood: ObservationLikelihood, draws: int, nq: int) -> list[slice]:
    """Return slices of the draws, each of which fits into :data:`MEMORY`."""
    one = 8 * likelihood.data.n_records * len(likelihood.layout.outputs) * (nq + 1)
    size = max(int(MEMORY / max(one, 1)), 1)
    return [slice(k, min(k + size, draws)) for k in range(0, draws, size)]
