"""The M-step of the EM methods: population parameters from the posteriors of the random effects.

With z = mu + eta: thetas of mus by generalised least squares, omega by moments (Dempster, Laird and
Rubin 1977). All other thetas, and sigma where it has no closed form, by a step on their scores, scaled by
the information that the observations hold of them, less what is missing of it (Louis 1982, equation 3.2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate, initial
from ..failure import ModelFailure
from ..ir.model import Model
from ..mu_model import MuModel
from ..objective.population import Population
from ..objective.prior import PriorPenalty
from ..parameterisation.unconstrained import Parameterisation, span
from .em_statistics import OtherParameters, Scores, Statistics

OMEGA_FLOOR = 1e-8  # of a block's initial variances: keeps the prior a density
SIGMA_FLOOR = 1e-12  # likewise
TRUSTED_SHARE = 0.02  # of the complete information that a difference of noisy matrices may leave
LEAST_SHARE = 1e-4  # that any step may rest on: it is never more than so many steps of EM
LONGEST = 1.0  # step of a free parameter; of an unbounded theta above 1, as a share of its size
HALVINGS = 6
LEAST_GAIN = 0.3
STEPS_OF_CURVES, SHORTENED_CURVES = 20, 15  # of the regression on a mu that is not linear
SETTLED_CURVES = 1e-6  # of minus twice the log-likelihood: what a step of it gains at its end
DISPLACEMENT = 1e-4  # of free parameters, in differences of the prior's exact slopes


class EMStep:
    """The M-step of one model over its data.

    Attributes
    ----------
    mu
        Mu-referenced etas. An eta whose mu has a theta in ``not_mu`` (from 0) is not treated as one.
    others
        All other parameters: thetas (those of mixing probabilities included) and sigma.
    """

    def __init__(
        self,
        population: Population,
        start: Estimate | None = None,
        *,
        interaction: bool = True,
        not_mu: frozenset[int] = frozenset(),
    ) -> None:
        model = population.model
        if any(likelihood.reads_omega for likelihood in population.likelihoods) and not all(
            block.fixed for block in model.omega
        ):
            raise ModelFailure(
                "EM methods cannot estimate an OMEGA whose elements the statements read",
                model.omega[0].span,
                "fix OMEGA, use FOCE or Laplace, or write the standard deviation as a theta",
            )
        self.population, self.model = population, model
        self.mu = MuModel.of(model, population.data, not_mu, curved=True)
        self.parameterisation = Parameterisation(model)
        elsewhere = [j for j in self.parameterisation.free_thetas if j not in set(self.mu.mu_thetas)]
        self.others = OtherParameters(population, elsewhere, start or initial(model), interaction)
        self._regression = MuRegression(self.mu, population.active, self.parameterisation)

    def statistics(self, estimate: Estimate, eta: Array, weights: Array, component: int = 0) -> Statistics:
        """Return the expectations over draws ``eta`` [draw, id, eta] with ``weights`` [draw, id].

        Weights add up to 1 over the draws (and over the subpopulations, ``component`` from 0) of a subject.
        """
        scores = Scores(self.others, estimate, self.population.likelihoods[component])
        scores.add(eta, weights)
        return self.completed(scores, estimate, eta, weights, component)

    def precision(self, estimate: Estimate) -> Array:
        """Return the inverse of omega [eta, eta]; zero for random effects without variance."""
        made, inside = np.zeros_like(estimate.omega), np.ix_(self.population.active, self.population.active)
        made[inside] = np.linalg.inv(estimate.omega[inside])
        return made

    def completed(
        self, scores: Scores, estimate: Estimate, eta: Array, weights: Array, component: int = 0
    ) -> Statistics:
        """Return the statistics of draws whose ``scores`` are known."""
        z = eta + self.mu(estimate.theta)
        weighted = weights[..., None] * z
        found = scores.statistics(weighted.sum(0), np.einsum("dik,dil->ikl", weighted, z))
        return self._with_mixing(found, estimate, weights.sum(0), component)

    def maximise(
        self,
        estimate: Estimate,
        statistics: Statistics,
        better: Callable[[Estimate], bool] | None = None,
        gain: float = 1.0,
    ) -> Estimate:
        """Return the next estimate.

        ``better`` tells whether a trial estimate improves the objective: a long step of the other
        parameters is halved until it does. ``gain`` shortens that step.
        """
        theta = self._regression.solve(estimate, statistics.first, self.population.prior)
        mu, active = self.mu(theta), self.population.active
        omega = update_omega(self.model, active, estimate.omega, statistics, mu, self.population.prior)
        moved = Estimate(theta, omega, estimate.sigma)
        step, is_long = self._step(estimate, statistics)
        step = gain * step
        sigma = self._closed_form(statistics, estimate.sigma)
        for _ in range(HALVINGS):
            trial = self._shifted(moved, step, sigma)
            if better is None or not is_long or better(trial):
                return trial
            step = 0.5 * step
        return self._shifted(moved, np.zeros_like(step), sigma)

    def _step(self, estimate: Estimate, statistics: Statistics) -> tuple[Array, bool]:
        """Return the step of the other parameters in the free vector, and whether it is a long one."""
        score = statistics.score.sum(0)
        if not len(score):
            return score, False
        own = statistics.score
        missing = (statistics.outer - own[:, :, None] * own[:, None, :]).sum(0)
        slope, bend = self._prior(estimate)
        score = score + slope
        step = louis_step(score, statistics.information + bend, missing, own.T @ own + bend)
        free = self.parameterisation.pack(estimate)[self.others.places]
        unbounded = np.zeros(len(step), dtype=bool)
        transforms = self.parameterisation.transforms
        unbounded[: len(self.others.thetas)] = [transforms[j].is_identity for j in self.others.thetas]
        allowed = LONGEST * np.where(unbounded, np.maximum(np.abs(free), 1.0), 1.0)
        promised = -float(score @ step)
        return step / max(float((np.abs(step) / allowed).max()), 1.0), promised > 0.5

    def _shifted(self, moved: Estimate, step: Array, sigma: Array | None) -> Estimate:
        free = self.parameterisation.pack(moved)
        free[self.others.places] += step
        made = self.parameterisation.natural(free)
        theta = moved.theta.copy()
        theta[self.others.thetas] = made.theta[self.others.thetas]
        return Estimate(theta, moved.omega, made.sigma if sigma is None else sigma)

    def _prior(self, estimate: Estimate) -> tuple[Array, Array]:
        """Return the derivative of half the prior's penalty to the other parameters, and its derivative."""
        places, prior = self.others.places, self.population.prior
        m = len(places)
        if prior is None:
            return np.zeros(m), np.zeros((m, m))
        free = self.parameterisation.pack(estimate)

        def slope(at: Array) -> Array:
            gradient = prior.gradient(self.parameterisation.natural(at))
            return 0.5 * self.parameterisation.free_gradient(at, gradient)[places]

        ends = free + DISPLACEMENT * np.eye(len(free))[places][:, None] * np.array([1.0, -1.0])[:, None]
        bend = np.array([slope(ahead) - slope(behind) for ahead, behind in ends]) / (2.0 * DISPLACEMENT)
        values, vectors = np.linalg.eigh(0.5 * (bend + bend.T).reshape(m, m))
        return slope(free), np.asarray((vectors * np.abs(values)) @ vectors.T)

    def _closed_form(self, statistics: Statistics, sigma: Array) -> Array | None:
        """Return sigma where every normal observation has one eps, else None."""
        if not np.isfinite(statistics.squares).all():
            return None
        updated = sigma.copy()
        terms = () if self.population.prior is None else self.population.prior.sigma
        for k, block in enumerate(self.model.sigma):
            own = [(term.weight, float(term.mode[0, 0])) for term in terms if term.first == k]
            count = statistics.counts[k] + sum(weight for weight, _ in own)
            if not block.fixed and count > 0:
                total = statistics.squares[k] + sum(weight * mode for weight, mode in own)
                updated[k, k] = max(total / count, SIGMA_FLOOR * block.element(0, 0))
        return updated

    def _with_mixing(self, found: Statistics, estimate: Estimate, share: Array, component: int) -> Statistics:
        """Return ``found`` with what the membership of a subpopulation says of its probability."""
        if self.model.mixture is None:
            return found
        probability, slope = self.population.probabilities(estimate.theta)
        thetas = self.others.thetas
        with np.errstate(divide="ignore", invalid="ignore"):
            relative = slope[:, component][:, thetas] / probability[:, component, None]
        relative = np.where(share[:, None] > 0, relative, 0.0)
        own = -relative @ self.others.jacobian(estimate)[: len(thetas)]
        cross = own[:, :, None] * found.score[:, None, :]
        square = share[:, None, None] * own[:, :, None] * own[:, None, :]
        log_probability = np.log(np.where(share > 0, probability[:, component], 1.0))
        return Statistics(
            found.first,
            found.second,
            found.score + share[:, None] * own,
            found.outer + cross + cross.transpose(0, 2, 1) + square,
            found.information + square.sum(0),
            found.squares,
            found.counts,
            found.deviance - 2.0 * share * log_probability,
        )


class StepGain:
    """Shortens the steps of the other parameters while each turns back on the one before.

    The expected information may be too small, so that whole steps overshoot for ever.
    """

    def __init__(self, em: EMStep) -> None:
        self.em, self.value = em, 1.0
        self._last = np.zeros(len(em.others.places))

    def follow(self, before: Estimate, after: Estimate, information: Array) -> None:
        """Take the step from ``before`` to ``after``, which ``information`` scaled."""
        places, pack = self.em.others.places, self.em.parameterisation.pack
        step = (pack(after) - pack(before))[places] * np.sqrt(np.maximum(np.diag(information), 0.0))
        along = float(step @ self._last)
        if along < -0.5 * float(self._last @ self._last):
            self.value = max(0.7 * self.value, LEAST_GAIN)
        elif along > 0.0:
            self.value = min(1.2 * self.value, 1.0)
        self._last = step


class MuRegression:
    """Generalised least squares of E[z] on mu, over the estimated thetas of mus.

    On the transformed scale of a theta where mu is linear in that; a mu that is linear in nothing is fitted
    by Gauss and Newton's method with shortened steps.
    """

    def __init__(self, mu: MuModel, active: NDArray[np.int64], parameterisation: Parameterisation) -> None:
        self.mu, self.active, self.parameterisation = mu, active, parameterisation
        self.thetas = list(mu.mu_thetas)
        curved = {j for curve in mu.curves for j in curve.thetas}
        self.transforms = {t.theta: t for t in mu.terms if t.theta not in curved}

    def solve(self, estimate: Estimate, first: Array, prior: PriorPenalty | None = None) -> Array:
        """Return theta with the thetas of mus at their optimum; what the design does not determine stays."""
        theta: Array = estimate.theta.copy()
        if not self.thetas:
            return theta
        within = np.ix_(self.active, self.active)
        precision = np.asarray(np.linalg.inv(estimate.omega[within]), dtype=np.float64)

        def misfit(at: Array) -> float:
            rest = (first - self.mu(at))[:, self.active]
            value = float(np.einsum("ik,kl,il->", rest, precision, rest))
            moved = Estimate(at, estimate.omega, estimate.sigma)
            return value if prior is None else value + prior.value(moved)

        if not self.mu.curves:
            return self._moved(theta, self._change(theta, first, precision, estimate, prior))
        here = misfit(theta)
        for _ in range(STEPS_OF_CURVES):
            change = self._change(theta, first, precision, estimate, prior)
            for _ in range(SHORTENED_CURVES):
                trial = self._moved(theta, change)
                with np.errstate(all="ignore"):
                    there = misfit(trial)
                if there <= here:
                    break
                change = 0.5 * change
            else:
                break
            theta, gained, here = trial, here - there, there
            if gained <= SETTLED_CURVES:
                break
        return theta

    def _change(
        self, theta: Array, first: Array, precision: Array, estimate: Estimate, prior: PriorPenalty | None
    ) -> Array:
        """Return the step of the transformed thetas."""
        slope = np.array([self._slope(j, float(theta[j])) for j in self.thetas])
        columns = self.mu.jacobian(theta)[:, self.active][..., self.thetas] / slope
        rest = (first - self.mu(theta))[:, self.active]
        pulled = precision @ columns
        gram = np.einsum("ikt,iks->ts", columns, pulled)
        linear = np.einsum("ikt,ik->t", pulled, rest)
        if prior is not None:
            own = np.zeros((len(theta), len(theta)))
            own[np.ix_(prior.rows, prior.rows)] = prior.precision
            moved = Estimate(theta, estimate.omega, estimate.sigma)
            pull = 0.5 * prior.gradient(moved).theta[self.thetas]
            gram = gram + own[np.ix_(self.thetas, self.thetas)] / np.outer(slope, slope)
            linear = linear - pull / slope
        scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))
        return np.asarray(
            np.linalg.lstsq(gram / np.outer(scale, scale), linear / scale, rcond=1e-12)[0] / scale
        )

    def _slope(self, theta: int, value: float) -> float:
        return self.transforms[theta].slope(value) if theta in self.transforms else 1.0

    def _moved(self, theta: Array, change: Array) -> Array:
        """Return theta moved by ``change``, within its bounds."""
        moved = theta.copy()
        for j, delta in zip(self.thetas, change, strict=True):
            value = float(theta[j] + delta)
            if j in self.transforms:
                scale = self.transforms[j]
                value = scale.from_scale(scale.to_scale(float(theta[j])) + float(delta))
            moved[j] = self.parameterisation.clip_theta(j, value)
        return moved


def louis_step(score: Array, complete: Array, missing: Array, squares: Array | None = None) -> Array:
    """Return the step down that the information ``complete`` less ``missing`` gives.

    In units of the complete information each direction's share is at most 1 (the step of EM). Because
    ``missing`` is an estimate, a share below TRUSTED_SHARE is not taken at its word: there that of
    ``squares`` counts where it is larger, the cross products of the subjects' scores, which estimate the
    information without a difference (Berndt, Hall, Hall and Hausman 1974) and are too large far from the
    maximum.
    """
    scale = np.sqrt(np.maximum(np.diag(complete), 1e-300))
    unit = complete / np.outer(scale, scale) + 1e-10 * np.eye(len(scale))
    inverse = np.linalg.inv(np.linalg.cholesky(unit)) / scale
    values, vectors = np.linalg.eigh(np.eye(len(scale)) - inverse @ missing @ inverse.T)
    least = np.full(len(scale), TRUSTED_SHARE)
    if squares is not None:
        own = np.einsum("kv,kl,lv->v", vectors, inverse @ squares @ inverse.T, vectors)
        least = np.clip(own, LEAST_SHARE, TRUSTED_SHARE)
    share = np.clip(values, least, 1.0)
    return np.asarray(-inverse.T @ (vectors @ ((vectors.T @ (inverse @ score)) / share)))


def update_omega(
    model: Model,
    active: NDArray[np.int64],
    previous: Array,
    statistics: Statistics,
    mu: Array,
    prior: PriorPenalty | None = None,
) -> Array:
    """Return omega: the mean of E[(z - mu)(z - mu)'] in its declared blocks, repeated blocks averaged.

    Fixed blocks stay as they are. An inverse Wishart prior counts as so many further subjects.
    """
    cross = statistics.first[:, :, None] * mu[:, None, :]
    second = statistics.second - cross - cross.transpose(0, 2, 1) + mu[:, :, None] * mu[:, None, :]
    moment = np.zeros_like(previous)
    inside = np.ix_(active, active)
    moment[inside] = second.mean(0)[inside]
    omega = previous.copy()
    for index, block in enumerate(model.omega):
        if block.fixed or block.same_as is not None:
            continue
        repeats = [block, *(b for b in model.omega if b.same_as == index)]
        mean = np.mean([moment[span(b), span(b)] for b in repeats], axis=0)
        for term in () if prior is None else prior.omega:
            if term.first == block.first - 1:
                count = len(mu) * len(repeats)
                mean = (count * mean + term.weight * term.mode) / (count + term.weight)
        floor = OMEGA_FLOOR * np.array([block.element(i, i) for i in range(block.size)])
        mean[np.diag_indices(block.size)] = np.maximum(np.diag(mean), floor)
        for b in repeats:
            omega[span(b), span(b)] = mean
    return omega
