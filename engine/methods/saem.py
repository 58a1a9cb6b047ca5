"""Stochastic approximation of the EM algorithm (Delyon, Lavielle and Moulines 1999; Kuhn and Lavielle 2005).

Every iteration moves Markov chains of all subjects by one sweep, averages the complete-data statistics of
the M-step with gain 1 in burn-in and a falling one afterwards, and maximises. Parameters without a closed
form follow the recursion of Robbins and Monro on the expected score, scaled by the information of Louis
(1982).
The estimate is the mean over the later part of that phase, with gains above 1/k: this is efficient however
slow EM is (Polyak and Juditsky 1992; Delyon, Lavielle and Moulines 1999, section 5), where gains 1/k are not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

import numpy as np

from ..estimate import Array, Estimate
from ..individuals import Individuals
from ..inner.metropolis import Kernels
from ..iteration import Iteration, Observer, Status
from ..objective.population import Population
from .louis import WeightedDraws, louis_information
from .step import Convergence, Step
from .stochastic_em import Annealing, State, StochasticEM
from .trend import TrendTest, independent_interval, judge, tested_columns

Annealed = Literal["none", "omega", "sigma", "both"]

ANNEALED_SHARE = 0.5  # of the burn-in
LONGEST_ANNEALING = 200  # iterations
FEWEST_DRAWS = 300  # chains times subjects: with fewer, noise biases burn-in where EM is slow
GAIN_EXPONENT = 0.55  # of averaging: the gain is the iteration to minus this
SETTLED_SHARE = 1.0 / 3.0  # of the averaging phase, before whose end estimates are not averaged
KEPT_DRAWS = 600  # of each subject, for the information matrix
UNASKED_ALPHA = 0.005  # error rate, over all parameters, of the test that nobody asked for
SETTLING = 60  # iterations before the interval of the test is chosen


@dataclass(frozen=True)
class SaemSettings:
    """Settings of SAEM.

    At most ``burn_in`` iterations, fewer where ``test`` finds no trend, then ``iterations`` of averaging.
    ``chains`` per subject are run, more where that makes fewer than ``FEWEST_DRAWS`` draws in all and
    ``more_chains`` is set. ``annealed`` variances cannot fall fast at the start of burn-in.
    ``evaluate_only``: no burn-in, and the estimates stay. ``information``: make the information matrix.
    Thetas in ``not_mu`` (from 0) are scored even where they have a random effect.
    """

    burn_in: int = 1000
    iterations: int = 1000
    chains: int = 2
    more_chains: bool = True
    kernels: Kernels = field(default_factory=Kernels)
    annealed: Annealed = "omega"
    test: TrendTest = field(default_factory=TrendTest)
    evaluate_only: bool = False
    information: bool = True
    not_mu: frozenset[int] = frozenset()
    seed: int = 14455


def estimate_saem(
    population: Population,
    start: Estimate,
    settings: SaemSettings,
    observer: Observer | None = None,
    *,
    individuals: Individuals | None = None,
) -> Step:
    """Fit by SAEM.

    The objective of the step is the method's own: minus twice the sum over subjects of the logarithm of
    the posterior mean of p(y, z), without 2 pi. It is no marginal likelihood and compares no models.
    Chains begin at the conditional means of ``individuals`` (a step before), else at the population's start
    etas, else at 0. Iterations of burn-in have negative numbers; number 0 and later ones (phase
    ``"stochastic"``) average.
    """
    began = time.perf_counter()
    s = settings
    burn_in = 0 if s.evaluate_only else s.burn_in
    annealed = Annealing(
        s.annealed in ("omega", "both"),
        s.annealed in ("sigma", "both"),
        min(round(ANNEALED_SHARE * burn_in), LONGEST_ANNEALING),
    )
    fewest = -(-FEWEST_DRAWS // population.n_subjects) if s.more_chains else 2
    n_chains = max(s.chains, fewest, 2)
    method = StochasticEM(population, start, s.kernels, n_chains, annealed, s.seed, s.not_mu)
    state = method.begin(start, population.start_etas if individuals is None else individuals.cond_mean)
    history: list[Iteration] = []

    def record(phase: str, number: int, objective: float, estimate: Estimate) -> None:
        seconds = time.perf_counter() - began
        left = seconds / (len(history) + 1) * max(burn_in + s.iterations - len(history), 0)
        history.append(Iteration(phase, number, objective, estimate, seconds, left))
        if observer is not None:
            observer(history[-1])

    def final(state: State) -> Estimate:
        return start if s.evaluate_only else method.averaged(state)

    watch = _Watch(population, s.test)
    for count in range(burn_in):
        estimate = state.estimate
        record("burn-in", count - burn_in, method.sample(state, 1.0), estimate)
        method.maximise(state, 1.0, count, burning=True)
        if watch.is_over(history):
            break
    convergence = watch.judged(history)
    stride = max(s.iterations * method.n_chains // KEPT_DRAWS, 1)
    settled = round(SETTLED_SHARE * s.iterations)
    for count in range(max(s.iterations, 1)):
        gain = 1.0 / (count + 1)
        objective = method.sample(state, gain)
        method.collect(state, gain, 1.0 / max(count - settled + 1, 1))
        if s.iterations > 0 and count % stride == 0:
            method.keep(state)
        record("stochastic", count, objective, final(state))
        if s.iterations > 0 and not s.evaluate_only:
            method.maximise(state, (count + 1.0) ** -GAIN_EXPONENT, count, burning=False)
    if s.iterations > 0:
        record("stochastic", s.iterations, objective, final(state))
    state.estimate = final(state)
    information, scores = None, None
    if s.information and state.kept:
        information, scores = _information(method, state)
    mixture = len(state.chains) > 1
    return Step(
        method="saem",
        estimate=state.estimate,
        ofv=float(-2.0 * state.likelihood.sum()),
        individuals=_individuals(method, state),
        status=_status(s, convergence),
        history=tuple(history),
        evaluate_only=s.evaluate_only or burn_in + s.iterations == 0,
        convergence=convergence,
        probabilities=state.share.T.copy() if mixture else None,
        information=information,
        scores=scores,
        warnings=_more_chains(s.chains, method.n_chains),
        seconds=time.perf_counter() - began,
        settings={**asdict(s), "chains": method.n_chains},
    )


def _more_chains(asked: int, run: int) -> tuple[str, ...]:
    if run <= asked:
        return ()
    return (f"{run} chains per subject in place of {asked} (ISAMPLE): with fewer, noise biases small data",)


class _Watch:
    """Tells when burn-in is over."""

    def __init__(self, population: Population, test: TrendTest) -> None:
        self.test, self.interval = test, test.interval
        self.columns = tested_columns(population.model, "all" if test.tested == "none" else test.tested)

    def is_over(self, history: Sequence[Iteration]) -> bool:
        """Return whether the test finds no trend in the last iterations."""
        done = len(history)
        if self.test.tested == "none" or (self.interval == 0 and done < SETTLING):
            return False
        if self.interval == 0:
            self.interval = independent_interval(_rows(history))
        if done % self.interval or done < self.test.points * self.interval:
            return False
        return judge(_rows(history), self.columns, self.test, self.interval).converged

    def judged(self, history: Sequence[Iteration]) -> Convergence | None:
        """Return the result of the test, None without burn-in.

        Where no test was asked for, the same one at a rate that seldom alarms says whether burn-in was
        long enough.
        """
        if len(history) < 3:
            return None
        rows = _rows(history)
        tested = self.test.tested != "none"
        level = self.test.alpha if tested else UNASKED_ALPHA / int(self.columns.sum())
        interval = self.interval or min(independent_interval(rows), max(len(rows) // self.test.points, 1))
        return judge(rows, self.columns, self.test, interval, level)


def _rows(history: Sequence[Iteration]) -> Array:
    return np.array([[*row.estimate.flatten(), row.objective] for row in history])


def _status(settings: SaemSettings, convergence: Convergence | None) -> Status:
    if settings.evaluate_only or settings.burn_in + settings.iterations == 0:
        return Status("evaluated", "SAEM evaluated the estimates without moving them.")
    if convergence is None:
        return Status("converged", "SAEM ran without a burn-in that could be tested for convergence.")
    if convergence.converged:
        how = "The burn-in of SAEM converged" if convergence.tested else "The burn-in of SAEM shows no trend"
        return Status("converged", f"{how}, and its averaging phase was completed.")
    return Status(
        "not_converged",
        "Parameters of SAEM still had a trend at the end of its burn-in.",
        "Allow more iterations of burn-in, or start closer to the solution.",
    )


def _individuals(method: StochasticEM, state: State) -> Individuals:
    """Return conditional means and covariances, each subject in its most probable subpopulation."""
    n = method.population.n_subjects
    best = np.argmax(state.share, axis=0)
    first, second = state.first[best, np.arange(n)], state.second[best, np.arange(n)]
    mu = method.mu(state.estimate.theta)
    mean = method.full(first - mu[:, method.active])
    covariance = np.zeros((n, mean.shape[1], mean.shape[1]))
    inside = np.ix_(np.arange(n), method.active, method.active)
    covariance[inside] = second - first[:, :, None] * first[:, None, :]
    typical = np.full(mean.shape, np.nan)
    for eta in method.mu.references:
        typical[:, eta] = mu[:, eta]
    return Individuals(mean, mean, covariance, typical, -2.0 * state.likelihood)


def _information(method: StochasticEM, state: State) -> tuple[Array, Array]:
    """Return the information matrix and scores from the kept draws."""
    mu = method.mu(state.estimate.theta)[:, method.active]
    phi = np.concatenate(state.kept, axis=1)
    draws = tuple(
        WeightedDraws(method.full(values - mu), np.tile(share / len(values), (len(values), 1)))
        for values, share in zip(phi, state.share, strict=True)
    )
    return louis_information(method.em, state.estimate, draws)
