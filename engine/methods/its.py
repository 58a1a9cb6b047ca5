"""The iterative two stage method.

EM with conditional modes for the posterior means, and the inverse of the expected (or exact) second
derivative at them for the posterior covariances (Steimer et al. 1984); parameters that are not of mus, and
sigma, follow the gradient of the FOCE (or Laplace) objective. That objective is the one reported; the method
ends close to its minimum, not at it.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import numpy as np

from ..estimate import Array, Estimate
from ..individuals import Individuals
from ..iteration import Iteration, Observer, Status
from ..kernel.kernel import Directions
from ..objective.evaluation import Evaluation, Objective, posterior_covariance
from ..objective.of_method import conditional_objective
from ..objective.population import Population
from .em_statistics import Scores, Statistics, lower_triangle
from .em_step import EMStep, StepGain
from .step import Convergence, Step
from .trend import TrendTest, judge, tested_columns


@dataclass(frozen=True)
class TwoStageSettings:
    """Settings of the iterative two stage method.

    Attributes
    ----------
    iterations
        Most updates of the estimate; the first row of the history is the start.
    objective
        Whose gradient rules the parameters without mu.
    mode_starts, seed
        Random starts of the search for each mode.
    not_mu
        Thetas (from 0) that are not to be treated as mu-referenced.
    test
        Which parameters are looked at, and over which iterations. Without noise a linear trend means
        nothing: the search has converged when the values agree to ``significant_digits`` and one more.
    """

    iterations: int = 50
    objective: Literal["foce", "focei", "laplace", "laplacei"] = "focei"
    mode_starts: int = 0
    seed: int = 11456
    not_mu: frozenset[int] = frozenset()
    test: TrendTest = field(default_factory=TrendTest)
    significant_digits: float = 3.0


def estimate_its(
    population: Population, start: Estimate, settings: TwoStageSettings, observer: Observer | None = None
) -> Step:
    """Return the step of the iterative two stage method from ``start``.

    The first searches for modes begin at the population's start etas where it has any.
    """
    began = time.perf_counter()
    interaction = settings.objective in ("focei", "laplacei")
    em = EMStep(population, start, interaction=interaction, not_mu=settings.not_mu)
    objective = conditional_objective(population, settings.objective, settings.mode_starts, settings.seed)
    history: list[Iteration] = []
    rows: list[Array] = []
    estimate, gain = start, StepGain(em)
    modes: Array | None = None
    if population.start_etas is not None:
        modes = np.stack([population.start_etas] * len(population.likelihoods))
    convergence: Convergence | None = None
    for number in range(settings.iterations + 1):
        found = objective.value(estimate, modes)
        modes = found.modes
        ofv = found.ofv + (0.0 if population.prior is None else population.prior.value(estimate))
        row = Iteration("main", number, ofv, estimate, time.perf_counter() - began)
        history.append(row)
        if observer is not None:
            observer(row)
        rows.append(np.append(estimate.flatten(), ofv))
        convergence = _tested(population, settings, rows)
        if convergence.converged or number == settings.iterations or not np.isfinite(ofv):
            break
        statistics = mode_statistics(em, objective, found)

        def better(trial: Estimate, bound: float = found.ofv, start: Array = modes) -> bool:
            return objective.value(trial, start).ofv <= bound

        before, estimate = estimate, em.maximise(estimate, statistics, better, gain.value)
        gain.follow(before, estimate, statistics.information)
    return Step(
        "its",
        estimate,
        history[-1].objective,
        _individuals(population, em, found),
        _status(population, settings, convergence, found),
        tuple(history),
        settings.iterations == 0,
        convergence=convergence,
        probabilities=found.weights if population.mixture is not None else None,
        seconds=time.perf_counter() - began,
        settings=asdict(settings) | {"not_mu": sorted(settings.not_mu)},
    )


def mode_statistics(em: EMStep, objective: Objective, found: Evaluation) -> Statistics:
    """Return the statistics of the M-step with modes for means, and scores of ``objective``."""
    population, estimate = em.population, found.estimate
    mu, places = em.mu(estimate.theta), em.others.places
    total: Statistics | None = None
    excess = _excess(population)
    for component, likelihood in enumerate(population.likelihoods):
        eta, share = found.modes[component], found.weights[:, component]
        covariance = posterior_covariance(found.precision[component])
        scores = Scores(em.others, estimate, likelihood)
        scores.add(eta[None], share[None])
        z = mu + eta
        square = z[:, :, None] * z[:, None, :] + excess[:, :, None] * eta[:, :, None] * eta[:, None, :]
        second = share[:, None, None] * (square + covariance)
        one = em.completed(scores, estimate, eta[None], share[None], component)
        cross = _cross_information(em, estimate, component, eta)
        missing = share[:, None, None] * (cross.transpose(0, 2, 1) @ covariance @ cross)
        one = replace(one, second=second, outer=missing)
        total = one if total is None else total + one
    assert total is not None
    gradient = objective.gradient(found)
    natural = [gradient.theta[:, em.others.thetas], lower_triangle(gradient.sigma)]
    score = 0.5 * np.concatenate(natural, axis=-1) @ em.others.jacobian(estimate)
    outer = total.outer + score[:, :, None] * score[:, None, :]
    nothing = np.full_like(total.squares, np.nan)  # the closed form of sigma is not this objective's
    return replace(
        total, score=score.reshape(population.n_subjects, len(places)), outer=outer, squares=nothing
    )


def _cross_information(em: EMStep, estimate: Estimate, component: int, eta: Array) -> Array:
    """Return the expected information of etas and other parameters together, [id, eta, other]."""
    likelihood = em.population.likelihoods[component]
    n_eta, thetas = likelihood.n_etas, em.others.thetas
    nq = n_eta + len(thetas)
    directions = Directions(np.zeros((len(estimate.theta), nq)), np.zeros((n_eta, nq)))
    directions.eta[:, :n_eta] = np.eye(n_eta)
    directions.theta[thetas, np.arange(n_eta, nq)] = 1.0
    made = likelihood.predict(estimate.theta, eta[None], directions, estimate.sigma, estimate.omega)
    information = likelihood.summed(made, estimate.sigma, None, nq).information[0]
    cross = np.zeros((len(eta), n_eta, len(em.others.places)))
    scale = em.others.jacobian(estimate)[: len(thetas), : len(thetas)]
    cross[:, :, : len(thetas)] = information[:, :n_eta, n_eta:] @ scale
    return cross


def _excess(population: Population) -> Array:
    """Return what squares of modes [id, eta] count more than once to make a sample covariance.

    As NONMEM takes it: its divisor is one less than the subjects, or than the groups that share the effect.
    """
    n = population.n_subjects
    if population.nesting is not None:
        return n * population.nesting.divisor - 1.0
    return np.full((n, population.model.n_etas), 1.0 / (n - 1) if n > 1 else 0.0)


def _tested(population: Population, settings: TwoStageSettings, rows: list[Array]) -> Convergence:
    test = settings.test
    if test.tested == "none" or len(rows) < 3:
        nothing = np.full(rows[0].size, np.nan)
        return Convergence(test.tested != "none", False, len(rows), nothing, nothing, nothing, test.alpha)
    columns = tested_columns(population.model, test.tested)
    every = max(test.interval, 1)
    alpha = test.alpha / max(int(columns.sum()) - 1, 1)
    found = judge(np.array(rows), columns, test, every, alpha)
    window = np.array(rows[::-1][::every][: test.points])
    size = _size(population, window)
    flat = np.ptp(window, axis=0) <= 10.0 ** -(settings.significant_digits + 1) * size
    enough = len(window) >= test.points and (len(rows) - 1) % every == 0
    return replace(found, converged=bool(enough and flat[columns].all()))


def _size(population: Population, window: Array) -> Array:
    """Return what changes are measured by: the values; of covariances, the standard deviations."""
    size: Array = np.abs(window).max(0)
    first = len(population.model.thetas)
    for n in (population.model.n_eps, population.model.n_etas):
        rows, columns = np.tril_indices(n)
        own = size[first : first + len(rows)]
        sd = np.sqrt(own[rows == columns])
        size[first : first + len(rows)] = np.maximum(own, sd[rows] * sd[columns])
        first += len(rows)
    return size


def _individuals(population: Population, em: EMStep, found: Evaluation) -> Individuals:
    """Return modes; means and covariances as the method takes them, over the subpopulations."""
    eta, share = found.modes, found.weights.T
    covariance = posterior_covariance(found.precision)
    mean = np.einsum("ci,cik->ik", share, eta)
    second = np.einsum("ci,cikl->ikl", share, covariance + eta[..., :, None] * eta[..., None, :])
    mu = em.mu(found.estimate.theta).copy()
    mu[:, [k for k in range(population.model.n_etas) if k not in em.mu.references]] = np.nan
    return Individuals(
        found.best_modes, mean, second - mean[:, :, None] * mean[:, None, :], mu, found.by_subject
    )


def _status(
    population: Population, settings: TwoStageSettings, convergence: Convergence | None, found: Evaluation
) -> Status:
    if not np.isfinite(found.ofv):
        lost = population.data.ids[np.flatnonzero(~np.isfinite(found.by_subject))[:5]]
        return Status(
            "failed",
            f"no conditional mode of subject {', '.join(f'{i:g}' for i in lost)}",
            "choose other initial estimates, or look at the data of that subject",
        )
    if settings.iterations == 0:
        return Status("evaluated", "the objective was evaluated at the given estimates")
    if convergence is not None and convergence.converged:
        return Status("converged", "objective and parameters do not change any more")
    if convergence is not None and convergence.tested:
        return Status(
            "not_converged",
            f"objective or parameters still changed after {settings.iterations} iterations",
            "allow more iterations, or test fewer parameters",
        )
    return Status(
        "not_converged",
        f"all {settings.iterations} iterations were run, without a test of convergence",
        "ask for a test of convergence (CTYPE)",
    )
