"""One iteration of SAEM: chains, averaged statistics, M-step."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..failure import ModelFailure
from ..inner.metropolis import Chains, Density, Kernels, Sweep, learn, start_chains
from ..ir.model import Model
from ..mu_model import MuModel
from ..objective.population import Population
from ..parameterisation.unconstrained import span
from ..streams import stream
from .em_statistics import Scores, Statistics
from .em_step import EMStep

INFLATION = 1.5  # of the initial variances at the start of an annealed burn-in
SLOWEST_DECREASE = 0.95  # of a variance in one annealed iteration
FULL_STEPS = 20  # iterations of burn-in in which scored parameters take whole steps
BURN_IN_GAIN = 0.2  # of their steps later in burn-in
HALVINGS = 6
EVIDENCE_FORGETTING = 0.05
INFORMATION_FORGETTING = 0.02
JOINT_FORGETTING = 0.1  # likewise of the information on scored thetas and random effects together
STUCK_SWEEPS = 25  # after so many without a finite density a subject is an error
TINY_SD = 0.05  # of a fixed random effect: as the mean of phi its theta would crawl


@dataclass(eq=False)
class State:
    """Where a run stands between two iterations.

    Attributes
    ----------
    chains
        One for each subpopulation: every subject is followed in all of them.
    evidence, share
        [component, id]: running estimate of log p(y | component), and the probability of the component.
    likelihood
        [id]: running logarithm of the posterior mean of p(y, z).
    statistics
        Averaged expectations of the M-step (None before the first one).
    complete, missing
        Averaged information on the scored parameters in complete data, and the part that is missing.
    first, second
        [component, id, active ..]: moments of z = mu + eta.
    average
        Mean of the free vectors of the estimates.
    joint, fresh
        [id, other theta and eta, ..] of each component: expected information, averaged and of the last draws.
    kept
        Draws [component, chain, id, active] of z, for the information matrix.
    barren
        [id]: sweeps since a subject last had a finite density.
    """

    estimate: Estimate
    chains: list[Chains]
    evidence: Array
    share: Array
    likelihood: Array
    barren: NDArray[np.int64]
    statistics: Statistics | None = None
    updates: int = 0
    complete: Array = field(default_factory=lambda: np.zeros((0, 0)))
    missing: Array = field(default_factory=lambda: np.zeros((0, 0)))
    first: Array = field(default_factory=lambda: np.zeros(()))
    second: Array = field(default_factory=lambda: np.zeros(()))
    average: Array = field(default_factory=lambda: np.zeros(0))
    kept: list[Array] = field(default_factory=list)
    joint: list[Array] = field(default_factory=list)
    fresh: dict[int, Array] = field(default_factory=dict)


@dataclass(frozen=True)
class Annealing:
    """Which variances may fall by a twentieth at most in each of the first ``iterations`` of burn-in."""

    omega: bool
    sigma: bool
    iterations: int


class StochasticEM:
    """The parts of an iteration, over one population.

    Attributes
    ----------
    em
        The M-step. Thetas of random effects with a tiny fixed variance count as having none.
    n_chains
        Chains of every subject.
    """

    def __init__(
        self,
        population: Population,
        start: Estimate,
        kernels: Kernels,
        n_chains: int,
        annealing: Annealing,
        seed: int,
        not_mu: frozenset[int] = frozenset(),
    ) -> None:
        self.population, self.model = population, population.model
        self.em = EMStep(population, start, not_mu=not_mu | crawling_thetas(population, start))
        self.mu, self.active = self.em.mu, population.active
        self.n_chains, self.annealing = n_chains, annealing
        is_mixture = len(population.likelihoods) > 1
        # the shares of subpopulations rest on the learned proposals
        self.kernels = replace(kernels, learned=max(kernels.learned, 1)) if is_mixture else kernels
        self.generator = stream(seed, "saem")

    def begin(self, start: Estimate, etas: Array | None = None) -> State:
        """Return the state at the start: chains at ``etas`` [id, eta] (or 0), annealed variances inflated."""
        estimate = start
        if self.annealing.omega and self.annealing.iterations > 0:
            estimate = Estimate(start.theta, _inflated(self.model, start.omega), start.sigma)
        k, n = len(self.population.likelihoods), self.population.n_subjects
        first = self._mu(estimate) if etas is None else self._mu(estimate) + etas[:, self.active]
        phi = np.tile(first, (self.n_chains, 1, 1))
        values = [self._values(estimate, c, phi) for c in range(k)]
        chains = [start_chains(phi, value, self._omega(estimate)) for value in values]
        never = np.full((k, n), -np.inf)
        return State(
            estimate, chains, never, np.full((k, n), 1.0 / k), never[0].copy(), np.zeros(n, dtype=np.int64)
        )

    def sample(self, state: State, gain: float) -> float:
        """Move the chains by one sweep; return the objective."""
        estimate = state.estimate
        mu, omega = self._mu(estimate), self._omega(estimate)
        log_determinant = float(np.linalg.slogdet(omega)[1])
        complete = np.zeros_like(state.evidence)
        # evidence outlives an iteration: it is an average over independent proposals
        forget = gain if 0.0 < gain < EVIDENCE_FORGETTING else EVIDENCE_FORGETTING
        for c, before in enumerate(state.chains):
            sweep = Sweep(self.kernels, self._density(estimate, c), mu, omega, self.generator)
            chains = learn(sweep(before))
            joint = -0.5 * (chains.value + sweep.prior(chains.phi) + log_determinant)
            complete[c] = np.logaddexp.reduce(joint, axis=0) - np.log(len(joint))
            fresh = np.where(np.isfinite(chains.evidence), chains.evidence, complete[c])
            first = bool(np.isneginf(state.evidence[c]).all())
            state.evidence[c] = fresh if first else _blended(state.evidence[c], fresh, forget)
            state.chains[c] = chains
        with np.errstate(divide="ignore"):
            weight = np.log(self.population.probabilities(estimate.theta)[0].T)
            raw = weight + state.evidence
            raw = np.where(np.isneginf(raw).all(0), weight, raw)
            state.share = np.exp(raw - np.logaddexp.reduce(raw, axis=0))
            both = np.logaddexp.reduce(np.log(state.share) + weight + complete, axis=0)
        state.likelihood = _blended(state.likelihood, both, gain)
        self._check(state)
        return float(-2.0 * state.likelihood.sum())

    def maximise(self, state: State, gain: float, count: int, burning: bool) -> None:
        """Update statistics and estimate from where the chains are, in iteration ``count`` of its phase."""
        fresh = self._statistics(state)
        state.statistics = fresh if state.statistics is None else state.statistics.towards(fresh, gain)
        self._collect_information(state, fresh)
        own = fresh.score
        missing = state.missing if state.updates > FULL_STEPS else np.zeros_like(state.missing)
        outer = own[:, :, None] * own[:, None, :] + missing / len(own)
        moved = self.em.maximise(
            state.estimate, replace(state.statistics, score=own, outer=outer, information=state.complete)
        )
        if burning:
            moved = self._annealed(state.estimate, moved, count)
        closed = bool(np.isfinite(fresh.squares).all())
        share = 1.0 if burning and count < FULL_STEPS else BURN_IN_GAIN * gain
        for _ in range(HALVINGS):
            trial = self._towards(state.estimate, moved, share, closed)
            values = [self._values(trial, c, chain.phi) for c, chain in enumerate(state.chains)]
            pairs = zip(values, state.chains, strict=True)
            if all(np.isfinite(value[np.isfinite(chain.value)]).all() for value, chain in pairs):
                break
            share = 0.5 * share
        state.estimate = trial
        state.chains = [replace(chain, value=v) for chain, v in zip(state.chains, values, strict=True)]

    def collect(self, state: State, gain: float, estimate_gain: float) -> None:
        """Average the moments of each subpopulation, and the estimates."""
        phi = np.array([chain.phi for chain in state.chains])
        first, second = phi.mean(1), np.einsum("kcia,kcib->kiab", phi, phi) / self.n_chains
        state.first = first if gain == 1.0 else state.first + gain * (first - state.first)
        state.second = second if gain == 1.0 else state.second + gain * (second - state.second)
        free, share = self.em.parameterisation.pack(state.estimate), estimate_gain
        state.average = free if share == 1.0 else state.average + share * (free - state.average)

    def keep(self, state: State) -> None:
        """Keep the draws for the information matrix."""
        state.kept.append(np.array([chain.phi for chain in state.chains]))

    def averaged(self, state: State) -> Estimate:
        """Return the mean of the collected estimates."""
        return self.em.parameterisation.natural(state.average)

    def full(self, active: Array) -> Array:
        """Return values of all etas [.., eta] from those of the active ones."""
        made = np.zeros((*active.shape[:-1], self.model.n_etas))
        made[..., self.active] = active
        return made

    def _statistics(self, state: State) -> Statistics:
        mu = self._mu(state.estimate)
        total: Statistics | None = None
        for c, chain in enumerate(state.chains):
            weights = np.tile(state.share[c] / self.n_chains, (self.n_chains, 1))
            made = self._expected(state, self.full(chain.phi - mu), weights, c)
            total = made if total is None else total + made
        assert total is not None
        return total

    def _expected(self, state: State, eta: Array, weights: Array, component: int) -> Statistics:
        """Return the statistics of one subpopulation, scores with the least noise.

        Random effects go along with the scored thetas as their posterior means would: so most of what is
        missing of the information is no noise of the draws any more.
        """
        estimate, k = state.estimate, len(self.em.others.thetas)
        likelihood = self.population.likelihoods[component]
        if k == 0 or not len(self.active):
            return self.em.statistics(estimate, eta, weights, component)
        precision = self.em.precision(estimate)
        n, n_eta = eta.shape[1:]
        joint = state.joint[component] if state.joint else np.zeros((n, k + n_eta, k + n_eta))
        a = self.active + k
        inside = joint[:, a[:, None], a] + precision[np.ix_(self.active, self.active)]
        sound = np.linalg.eigvalsh(inside)[:, 0] > 0.0
        inside = np.where(sound[:, None, None], inside, np.eye(len(a)))
        shift = np.zeros((n, n_eta, k))
        shift[:, self.active] = -np.linalg.solve(inside, joint[:, a, :k]) * sound[:, None, None]
        scores = Scores(self.em.others, estimate, likelihood, shift, precision)
        scores.add(eta, weights)
        share = np.maximum(weights.sum(0), 1e-12)[:, None, None]
        state.fresh[component] = scores.joint / share
        return self.em.completed(scores, estimate, eta, weights, component)

    def _collect_information(self, state: State, fresh: Statistics) -> None:
        """Average the information on the scored parameters, and what is missing of it."""
        own = fresh.score
        missing = (fresh.outer - own[:, :, None] * own[:, None, :]).sum(0)
        missing *= self.n_chains / (self.n_chains - 1.0)  # the mean score is that of these few draws
        if state.fresh:
            fresh_joint = [state.fresh[c] for c in range(len(state.chains))]
            pairs = zip(state.joint or fresh_joint, fresh_joint, strict=True)
            state.joint = [old + JOINT_FORGETTING * (new - old) for old, new in pairs]
        state.updates += 1
        weight = max(1.0 / state.updates, INFORMATION_FORGETTING)
        if state.updates == 1:
            state.complete, state.missing = fresh.information, missing
        state.complete = state.complete + weight * (fresh.information - state.complete)
        state.missing = state.missing + weight * (missing - state.missing)

    def _towards(self, before: Estimate, after: Estimate, share: float, closed: bool) -> Estimate:
        """Return ``after``, scored parameters (sigma unless ``closed``) only ``share`` of the way there."""
        others, parameterisation = self.em.others, self.em.parameterisation
        free, old = parameterisation.pack(after), parameterisation.pack(before)
        free[others.places] = old[others.places] + share * (free[others.places] - old[others.places])
        made = parameterisation.natural(free)
        theta = after.theta.copy()
        theta[others.thetas] = made.theta[others.thetas]
        return Estimate(theta, after.omega, after.sigma if closed else made.sigma)

    def _annealed(self, before: Estimate, after: Estimate, count: int) -> Estimate:
        if count >= self.annealing.iterations:
            return after
        omega = _slowed(before.omega, after.omega) if self.annealing.omega else after.omega
        sigma = _slowed(before.sigma, after.sigma) if self.annealing.sigma else after.sigma
        return Estimate(after.theta, omega, sigma)

    def _check(self, state: State) -> None:
        """Raise where a subject has had no finite density for long."""
        finite = np.array([np.isfinite(chain.value).any(0) for chain in state.chains]).any(0)
        state.barren = np.where(finite, 0, state.barren + 1)
        if (state.barren < STUCK_SWEEPS).all():
            return
        worst = int(np.argmax(state.barren))
        raise ModelFailure(
            "no random effects were found for which the model gives a density to subject "
            f"{self.population.data.ids[worst]:g}",
            None,
            "check the subject's records and the initial estimates",
        )

    def _mu(self, estimate: Estimate) -> Array:
        return self.mu(estimate.theta)[:, self.active]

    def _omega(self, estimate: Estimate) -> Array:
        return estimate.omega[np.ix_(self.active, self.active)]

    def _values(self, estimate: Estimate, component: int, phi: Array) -> Array:
        return self._density(estimate, component)(phi - self._mu(estimate))

    def _density(self, estimate: Estimate, component: int) -> Density:
        likelihood = self.population.likelihoods[component]

        def density(eta: Array) -> Array:
            with np.errstate(all="ignore"):
                return likelihood.terms(
                    estimate.theta, estimate.sigma, self.full(eta), omega=estimate.omega
                ).value

        return density


def crawling_thetas(population: Population, start: Estimate) -> frozenset[int]:
    """Return the thetas (from 0) of mus whose random effect has a tiny fixed variance.

    The mean of phi = mu + eta follows mu there, not the observations, so they are estimated by scores.
    """
    model = population.model
    mu = MuModel.of(model, population.data, curved=True)
    fixed = {b.first - 1 + i for b in model.omega if b.fixed for i in range(b.size)}
    typical = np.abs(mu(start.theta)).max(0)
    found = set()
    for eta, reference in mu.references.items():
        scale = typical[eta] if reference.link == "identity" else 1.0
        if eta in fixed and np.sqrt(start.omega[eta, eta]) < TINY_SD * scale:
            found |= mu.thetas_of(eta)
    return frozenset(found)


def _inflated(model: Model, omega: Array) -> Array:
    """Return omega with its estimated blocks widened, so that the search begins broad."""
    made = omega.copy()
    for block in model.omega:
        if not block.fixed:
            made[span(block), span(block)] *= INFLATION
    return made


def _slowed(before: Array, after: Array) -> Array:
    """Return ``after`` with variances that fell too fast raised, correlations kept."""
    old, new = np.diag(before), np.diag(after)
    held = np.maximum(new, SLOWEST_DECREASE * old)
    factor = np.sqrt(np.divide(held, new, out=np.ones_like(new), where=new > 0))
    return np.asarray(after * factor[:, None] * factor)


def _blended(old: Array, new: Array, gain: float) -> Array:
    """Return the logarithm of the average of exponentials that moves by ``gain`` towards ``new``."""
    if gain == 1.0:
        return new
    return np.asarray(np.logaddexp(np.log1p(-gain) + old, np.log(gain) + new))
