"""Monte Carlo EM by importance sampling, and the marginal likelihood at given estimates.

Posteriors are sampled from densities around their means or modes, weighted, and handed to the M-step
(:mod:`.em_step`): Wei and Tanner 1990; weights as in Geweke 1989. The objective is the exact
-2 log-likelihood up to Monte Carlo error.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..individuals import Individuals
from ..inner.mode import find_modes
from ..ir.task import Method
from ..iteration import Iteration, Observer, Status
from ..objective.population import Population
from .em_step import EMStep, StepGain
from .importance_step import Expectation, ImportanceSampler, ProposalSettings
from .louis import louis_information
from .step import Convergence, Step
from .trend import TrendTest, judge, tested_columns

RISING = 3  # iterations in a row with a rising objective, after which modes are looked for again
FINAL_DRAWS = 1024  # at least, for objective and information at the end; even points come in powers of 2


@dataclass(frozen=True)
class ImportanceSettings:
    """Settings of importance sampling.

    Attributes
    ----------
    iterations
        Most updates of the estimate; the first row of the history is the start.
    draws, most_draws, objective_sd
        Draws per subject; after convergence at least :data:`FINAL_DRAWS`. Where ``objective_sd`` is not 0
        their number varies up to ``most_draws`` to keep the standard error of the objective below it.
    evaluate_only
        The estimate stays: only the proposals improve.
    mode_iterations, mode_interval
        Proposals stand at conditional modes in so many first iterations and every so many later ones
        (0: never, -1: where the objective keeps rising); else at the means of the iteration before.
    mode_starts
        Random starts of the searches for modes.
    proposal
        Shape of the proposals.
    interaction
        Whether the residual variance depends on the random effects.
    not_mu
        Thetas (from 0) that are not to be treated as mu-referenced.
    test
        When the search counts as converged.
    information
        Whether the information matrix is made.
    """

    iterations: int = 50
    draws: int = 300
    most_draws: int = 10000
    objective_sd: float = 0.0
    evaluate_only: bool = False
    mode_iterations: int = 1
    mode_interval: int = 0
    mode_starts: int = 0
    proposal: ProposalSettings = field(default_factory=ProposalSettings)
    interaction: bool = True
    not_mu: frozenset[int] = frozenset()
    test: TrendTest = field(default_factory=TrendTest)
    information: bool = True


def estimate_importance(
    population: Population,
    start: Estimate,
    settings: ImportanceSettings,
    observer: Observer | None = None,
    *,
    method: Method = "imp",
    individuals: Individuals | None = None,
) -> Step:
    """Return the step of importance sampling from ``start``.

    Where ``mode_iterations`` is 0 the first proposals are those of ``individuals`` (a step before), else the
    distribution of the random effects around the population's start etas; without either, and else, modes
    are looked for, from the start etas first.
    """
    began = time.perf_counter()
    em = EMStep(population, start, interaction=settings.interaction, not_mu=settings.not_mu)
    sampler = ImportanceSampler(em, settings.proposal)
    if individuals is not None:
        sampler.follow_moments(start, individuals.cond_mean, individuals.cond_cov)
    elif population.start_etas is not None and settings.mode_iterations == 0:
        spread = np.tile(start.omega, (population.n_subjects, 1, 1))
        sampler.follow_moments(start, population.start_etas, spread)
    history: list[Iteration] = []
    rows: list[Array] = []
    estimate, draws, gain = start, settings.draws, StepGain(em)
    convergence: Convergence | None = None

    def expect(number: int, name: str, draws: int, wanted: bool) -> Expectation:
        if not settings.proposal.from_prior and _wants_modes(settings, sampler, number, history):
            sampler.follow_modes(estimate, settings.mode_starts)
        elif not settings.proposal.from_prior and any(lost.any() for lost in sampler.lost):
            sampler.follow_modes(estimate, settings.mode_starts, only_lost=True)
        found = sampler.expectation(estimate, draws, name, wanted)
        row = Iteration("main", number, found.ofv, estimate, time.perf_counter() - began)
        history.append(row)
        if observer is not None:
            observer(row)
        return found

    number = 0
    while True:
        last = number == settings.iterations
        wanted = not (last or settings.evaluate_only)
        found = expect(number, f"iteration/{number}", draws, wanted)
        lost = np.flatnonzero(~np.isfinite(found.by_subject))
        if len(lost):
            return _failed(population, method, estimate, found, history, lost, settings, began)
        rows.append(np.append(estimate.flatten(), found.ofv))
        if not settings.evaluate_only:
            convergence = _tested(population, settings, rows, found.se)
            if convergence.converged:
                estimate = _mean(em, rows, settings.test)
                draws = max(draws, FINAL_DRAWS)
                found = expect(number + 1, "final", draws, False)
                break
        if last:
            break
        draws = enough_draws(settings, draws, found.se)
        if not settings.evaluate_only:
            assert found.statistics is not None
            better = _judge(sampler, found, estimate)
            before, estimate = estimate, em.maximise(estimate, found.statistics, better, gain.value)
            gain.follow(before, estimate, found.statistics.information)
        number += 1
    information, scores = None, None
    if settings.information:
        more = found
        if draws < FINAL_DRAWS:  # even points: half the error of random ones and less
            more = sampler.expectation(estimate, FINAL_DRAWS, "information", False, "sobol")
        information, scores = louis_information(em, estimate, more.draws)
    return Step(
        method,
        estimate,
        found.ofv,
        _individuals(population, em, estimate, found, settings),
        _status(settings, convergence),
        tuple(history),
        settings.evaluate_only,
        convergence=convergence,
        objective_se=found.se,
        effective_draws=found.effective_draws,
        probabilities=found.probabilities if population.mixture is not None else None,
        information=information,
        scores=scores,
        warnings=_warnings(population, found, draws, settings),
        seconds=time.perf_counter() - began,
        settings=asdict(settings) | {"not_mu": sorted(settings.not_mu), "last_draws": draws},
    )


def _wants_modes(
    settings: ImportanceSettings, sampler: ImportanceSampler, number: int, history: list[Iteration]
) -> bool:
    if not sampler.proposals or number < settings.mode_iterations:
        return True
    if settings.mode_interval > 0:
        return number % settings.mode_interval == 0
    recent = [row.objective for row in history[-RISING - 1 :]]
    return settings.mode_interval < 0 and len(recent) > RISING and bool((np.diff(recent) > 0).all())


def _tested(
    population: Population, settings: ImportanceSettings, rows: list[Array], se: float
) -> Convergence:
    if settings.test.tested == "none" or len(rows) < 3:
        nothing = np.full(rows[0].size, np.nan)
        tested = settings.test.tested != "none"
        return Convergence(tested, False, len(rows), nothing, nothing, nothing, settings.test.alpha)
    columns = tested_columns(population.model, settings.test.tested)
    alpha = settings.test.alpha / max(int(columns.sum()) - 1, 1)  # Bonferroni's correction
    interval = max(settings.test.interval, 1)  # iterations are independent but for the estimate
    found = judge(np.array(rows), columns, settings.test, interval, alpha)
    due = (len(rows) - 1) % interval == 0
    window = np.array(rows[::-1][::interval][: settings.test.points])[:, -1]
    fell = abs(float(window[-1] - window[0]))  # a steep beginning is no straight line
    if found.converged and not (due and fell < 4.0 * se + 0.01):
        return Convergence(
            found.tested, False, found.iterations, found.mean, found.sd, found.p_value, found.alpha
        )
    return found


def _mean(em: EMStep, rows: list[Array], test: TrendTest) -> Estimate:
    """Return the mean of the last estimates, taken where parameters are free: their noise averages out."""
    model = em.model
    last = [unflatten(row[:-1], len(model.thetas), model.n_eps, model.n_etas) for row in rows[-test.points :]]
    free = np.mean([em.parameterisation.pack(estimate) for estimate in last], axis=0)
    made = em.parameterisation.natural(free)
    kept = last[-1].theta.copy()
    chosen = em.parameterisation.free_thetas
    kept[chosen] = made.theta[chosen]
    return Estimate(kept, made.omega, made.sigma)


def unflatten(values: Array, n_thetas: int, n_eps: int, n_etas: int) -> Estimate:
    """Return the estimate whose :meth:`~.estimate.Estimate.flatten` is ``values``."""
    matrices = []
    first = n_thetas
    for n in (n_eps, n_etas):
        rows, columns = np.tril_indices(n)
        full = np.zeros((n, n))
        full[rows, columns] = full[columns, rows] = values[first : first + len(rows)]
        first += len(rows)
        matrices.append(full)
    return Estimate(values[:n_thetas].copy(), matrices[1], matrices[0])


def enough_draws(settings: ImportanceSettings, draws: int, se: float) -> int:
    """Return the number of draws for the next iteration; twice those needed where they become fewer."""
    if settings.objective_sd <= 0:
        return draws
    needed = draws * (se / settings.objective_sd) ** 2
    wanted = math.ceil(min(needed if needed > draws else min(2.0 * needed, draws), settings.most_draws))
    return max(wanted, settings.draws)


def _judge(sampler: ImportanceSampler, found: Expectation, origin: Estimate) -> Callable[[Estimate], bool]:
    return lambda trial: sampler.objective(trial, found, origin) <= found.ofv


def _status(settings: ImportanceSettings, convergence: Convergence | None) -> Status:
    if settings.evaluate_only or settings.iterations == 0:
        return Status("evaluated", "the objective was evaluated at the given estimates")
    if convergence is not None and convergence.converged:
        return Status("converged", "objective and parameters have no trend any more")
    if convergence is not None and convergence.tested:
        return Status(
            "not_converged",
            f"objective or parameters still had a trend after {settings.iterations} iterations",
            "allow more iterations, or test fewer parameters",
        )
    return Status(
        "not_converged",
        f"all {settings.iterations} iterations were run, without a test of convergence",
        "ask for a test of convergence (CTYPE)",
    )


def _failed(
    population: Population,
    method: Method,
    estimate: Estimate,
    found: Expectation,
    history: list[Iteration],
    lost: NDArray[np.int64],
    settings: ImportanceSettings,
    began: float,
) -> Step:
    ids = ", ".join(f"{population.data.ids[i]:g}" for i in lost[:5])
    n, n_eta = population.n_subjects, population.model.n_etas
    nothing = Individuals(
        np.zeros((n, n_eta)),
        np.nan_to_num(found.mean),
        np.nan_to_num(found.covariance),
        np.full((n, n_eta), np.nan),
        found.by_subject,
    )
    message = f"no draw of subject {ids} has a likelihood at the estimates of iteration {history[-1].number}"
    return Step(
        method,
        estimate,
        float("inf"),
        nothing,
        Status("failed", message, "choose other initial estimates, or look at the data of that subject"),
        tuple(history),
        settings.evaluate_only,
        seconds=time.perf_counter() - began,
        settings=asdict(settings) | {"not_mu": sorted(settings.not_mu)},
    )


def _individuals(
    population: Population, em: EMStep, estimate: Estimate, found: Expectation, settings: ImportanceSettings
) -> Individuals:
    """Return conditional means and covariances, and the modes of the most probable subpopulation."""
    modes = np.stack(
        [
            find_modes(
                likelihood, estimate, found.mean, interaction=settings.interaction, draws=settings.mode_starts
            ).eta
            for likelihood in population.likelihoods
        ]
    )
    best = np.argmax(found.probabilities, axis=1)
    mu = em.mu(estimate.theta).copy()
    mu[:, [k for k in range(population.model.n_etas) if k not in em.mu.references]] = np.nan
    return Individuals(modes[best, np.arange(len(best))], found.mean, found.covariance, mu, found.by_subject)


def _warnings(
    population: Population, found: Expectation, draws: int, settings: ImportanceSettings
) -> tuple[str, ...]:
    said = []
    if draws > settings.draws and settings.objective_sd == 0.0:
        said.append(
            f"the last objective is by {draws} draws per subject in place of {settings.draws} (ISAMPLE)"
        )
    poor = np.flatnonzero(found.effective_draws < 0.02 * draws)
    if len(poor):
        ids = ", ".join(f"{population.data.ids[i]:g}" for i in poor[:5])
        more = f" and {len(poor) - 5} more" if len(poor) > 5 else ""
        said.append(
            f"fewer than 2 % of the {draws} draws are effective for subject {ids}{more}: "
            "take more draws or heavier tails (ISAMPLE, DF, IACCEPT)"
        )
    return tuple(said)
