"""Deterministic fits, FO to Laplace: the objective at its minimum over the population parameters.

The search is on a scaled unconstrained vector with exact gradients of every subject's contribution
(:mod:`.quasi_newton`). At each point the conditional modes are converged anew, so the objective is a function
of the parameters alone; the modes of the point before are only where their search begins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimate import Array, Estimate
from ..failure import ModelFailure, NumericalFailure
from ..individuals import Individuals
from ..inner.mode import find_modes
from ..ir.task import Method
from ..iteration import Iteration, Observer, Status
from ..mu_model import MuModel
from ..objective.evaluation import Evaluation, Objective, posterior_covariance
from ..objective.of_method import objective_of
from ..objective.penalised import penalised
from ..objective.population import Population
from ..objective.start_check import check_predictions
from ..parameterisation.scaled import ScaledParameters
from ..parameterisation.unconstrained import Parameterisation
from .mode_checks import EXACT, is_degenerate, mode_warnings
from .quasi_newton import Limits, Minimum, Visited, Watcher, minimise
from .ridge import runs_off
from .step import Search, Step, Stopped, empty_gradients

LOOKS = 4  # searches in all, where better modes turn up at the end of one
OTHER = 1e-3  # change of the objective with better modes for which it is searched on
NEAR = 1e-3  # share of its first distance from a bound at which a parameter is near it
STATUS = {
    "converged": Status("converged", "the search found a minimum of the objective"),
    "evaluated": Status("evaluated", "the objective was evaluated at the given estimates"),
    "evaluations": Status(
        "not_converged",
        "the limit of function evaluations was reached",
        "allow more evaluations, or start from the final estimates",
    ),
    "rounding": Status(
        "not_converged",
        "no step lowers the objective any more, yet its gradient is not zero",
        "tighten the tolerance of the integrator; look for a parameter that the data do not determine",
    ),
    "zero_gradient": Status(
        "not_converged",
        "the objective does not depend on every estimated parameter",
        "fix or remove the parameters named",
    ),
    "runs_off": Status(
        "not_converged",
        "the objective has no minimum within reach: it is level in {}, which go to infinity",
        "fix or bound one of them, or write the model with parameters that the data determine",
    ),
    "infinite": Status(
        "failed", "the gradient is not finite at the initial estimates", "choose other initial estimates"
    ),
}


@dataclass(frozen=True)
class ConditionalSettings:
    """How a deterministic fit is searched.

    Attributes
    ----------
    significant_digits
        Wanted of each scaled parameter. The search goes on until no further decrease of the objective above
        ``decrease`` is predicted, which with exact gradients gives these digits and more.
    max_evaluations
        Of the objective; None: no limit, 0: it is only evaluated at the start.
    posthoc
        Whether FO finds conditional modes at its end; the other methods have them anyway.
    omega_limit, sigma_limit
        Least ratio of a standard deviation to its initial value; 0: none.
    theta_bounds_tested
        Whether thetas near their bounds are named.
    draws, seed
        Random starts of the search for each conditional mode, at the start and the end of the fit.
    """

    significant_digits: float = 3.0
    max_evaluations: int | None = None
    posthoc: bool = True
    decrease: float = 1e-5
    omega_limit: float = 0.01
    sigma_limit: float = 0.01
    theta_bounds_tested: bool = True
    draws: int = 0
    seed: int = 0


def estimate_conditional(
    population: Population,
    method: Method,
    start: Estimate,
    settings: ConditionalSettings = ConditionalSettings(),
    observer: Observer | None = None,
) -> Step:
    """Return the fit of ``method`` from ``start``.

    Raises
    ------
    NumericalFailure
        Where the objective has no value at ``start``: the message names the subjects.
    """
    began = time.perf_counter()
    objective = penalised(population, objective_of(population, method, settings.draws, settings.seed))
    parameterisation = Parameterisation(population.model)
    evaluate_only = settings.max_evaluations == 0 or parameterisation.size == 0
    first = objective.value(start)
    if not np.isfinite(first.ofv):
        raise _no_value(population, first)
    history: list[Iteration] = []
    gradients: list[Array] = []

    def note(number: int, estimate: Estimate, value: float, left: float | None) -> None:
        row = Iteration("search", number, value, estimate, time.perf_counter() - began, left)
        history.append(row)
        if observer is not None:
            observer(row)

    if evaluate_only:
        note(0, start, first.ofv, 0.0)
        search = Search("evaluated", 1, None, empty_gradients(parameterisation.size))
        return _step(population, method, objective, first, settings, history, search, began)
    function = _Function(objective, parameterisation, start, method in EXACT)
    scaled = ScaledParameters(parameterisation, function.origin)
    clock = _Clock(settings.decrease)

    def watch(number: int, at: Visited, decrease: float) -> None:
        gradients.append(scaled.gradient(at.gradient / function.scale))
        note(number, at.memory.estimate, at.value, clock.left(decrease))

    limits = Limits(*function.box(settings), settings.decrease, settings.max_evaluations)
    found = _searched(function, limits, watch)
    evaluation: Evaluation = found.best.memory
    tested = settings.theta_bounds_tested
    search = _described(parameterisation, scaled, function, found, limits, np.array(gradients), tested)
    return _step(population, method, objective, evaluation, settings, history, search, began)


def _searched(function: _Function, limits: Limits, watch: Watcher) -> Minimum:
    """Return the minimum, searched on where modes from eta = 0 turn out better than those followed to it."""
    point, memory = np.zeros(len(function.scale)), None
    spent = rows = last = 0

    def on(number: int, at: Visited, decrease: float) -> None:
        nonlocal last
        last = rows + number
        watch(last, at, decrease)

    for look in range(LOOKS):
        last = rows
        left = None if limits.max_evaluations is None else max(limits.max_evaluations - spent, 1)
        found = minimise(function, point, replace(limits, max_evaluations=left), on, memory)
        spent, rows = spent + found.evaluations, last + 1
        found = replace(found, evaluations=spent)
        if found.ended not in ("converged", "rounding"):
            break
        seen: Evaluation = found.best.memory
        memory = function.objective.value(seen.estimate, seen.modes, thorough=True)
        if abs(memory.ofv - seen.ofv) < OTHER or not np.isfinite(memory.ofv):
            break
        point = found.best.point
        if look == LOOKS - 1 or (function.exact and is_degenerate(memory).any()):
            scores = function.scores(point, memory)
            found = replace(found, best=Visited(point, memory.ofv, scores, memory), ended="rounding")
            break
    return found


class _Function:
    """The objective of scaled parameters, all zero at the start: a change of 1 is a large change."""

    def __init__(
        self, objective: Objective, parameterisation: Parameterisation, start: Estimate, exact: bool = False
    ) -> None:
        self.objective, self.parameterisation = objective, parameterisation
        self.exact = exact  # second derivatives of the conditional densities
        self.origin = parameterisation.pack(start)
        self.scale = parameterisation.sizes(start)

    def box(self, settings: ConditionalSettings) -> tuple[Array, Array]:
        """Return the least and greatest value of each scaled parameter."""
        lower, upper = np.full(len(self.scale), -np.inf), np.full(len(self.scale), np.inf)
        made = self.parameterisation
        for slots, limit in (
            (made.omega_slots, settings.omega_limit),
            (made.sigma_slots, settings.sigma_limit),
        ):
            for slot in slots:
                rows, columns = slot.lower
                least = np.log(limit) if limit > 0 else -np.inf
                lower[slot.positions] = np.where(rows == columns, least, -np.inf)
        return lower, upper

    def free(self, point: Array) -> Array:
        """Return the free vector of a point."""
        made: Array = self.origin + self.scale * point
        return made

    def value(self, point: Array, memory: Any) -> tuple[float, Evaluation]:
        """Return the objective and its evaluation."""
        estimate = self.parameterisation.natural(self.free(point))
        near = None if memory is None else memory.modes
        evaluation = self.objective.value(estimate, near)
        if self.exact and memory is not None and is_degenerate(evaluation).any():
            evaluation = self.objective.value(estimate)  # the mode that was followed here is vanishing
            if is_degenerate(evaluation).any():
                return np.inf, evaluation
        return evaluation.ofv, evaluation

    def scores(self, point: Array, memory: Any) -> Array:
        """Return the gradients of the subjects' contributions."""
        gradient = self.objective.gradient(memory)
        made: Array = self.parameterisation.free_gradient(self.free(point), gradient) * self.scale
        return made


def _no_value(population: Population, evaluation: Evaluation) -> NumericalFailure:
    lost = np.flatnonzero(~np.isfinite(evaluation.by_subject))
    ids = ", ".join(f"{population.data.ids[i]:g}" for i in lost[:5])
    more = ", ..." if len(lost) > 5 else ""
    why = "choose initial estimates at which their predictions are finite and residual variances positive"
    try:
        for likelihood in population.likelihoods:
            check_predictions(likelihood, evaluation.estimate)
    except ModelFailure as failure:  # a typical subject is in trouble already: at which record, and why
        why = f"{failure.message.removesuffix('.')}: {failure.hint}"
    what = f"{len(lost)} subject(s), ID {ids}{more}"
    return NumericalFailure(f"the objective has no value at the initial estimates for {what}; {why}")


class _Clock:
    """Guesses the time that is left from how fast the predicted decrease falls."""

    def __init__(self, goal: float) -> None:
        self.goal, self.began = goal, time.perf_counter()
        self.falls: list[float] = []

    def left(self, decrease: float) -> float | None:
        """Return the seconds that are left after an iteration that began with predicted ``decrease``."""
        if not np.isfinite(decrease) or decrease <= 0:
            return None
        self.falls.append(float(np.log(decrease / self.goal)))
        n = len(self.falls)
        rate = max((self.falls[0] - self.falls[-1]) / n, 0.5)
        return (time.perf_counter() - self.began) / n * max(self.falls[-1], 0.0) / rate


def _step(
    population: Population,
    method: Method,
    objective: Objective,
    evaluation: Evaluation,
    settings: ConditionalSettings,
    history: list[Iteration],
    search: Search,
    began: float,
) -> Step:
    """Return the step that ended at ``evaluation``."""
    glance = search.stopped != "evaluated" and not settings.draws
    warnings = mode_warnings(population, method, evaluation, glance)
    is_mixture = len(population.likelihoods) > 1
    return Step(
        method,
        evaluation.estimate,
        evaluation.ofv,
        _individuals(population, method, evaluation, settings),
        _status(search),
        tuple(history),
        evaluate_only=search.stopped == "evaluated",
        search=search,
        probabilities=evaluation.weights if is_mixture else None,
        warnings=tuple(warnings),
        seconds=time.perf_counter() - began,
    )


def _status(search: Search) -> Status:
    """Return how a search ended, in words."""
    status = STATUS[search.stopped]
    return replace(status, message=status.message.format(", ".join(search.running_off)))


def _individuals(
    population: Population, method: Method, evaluation: Evaluation, settings: ConditionalSettings
) -> Individuals:
    """Return modes and posterior covariances; of FO zero where they were not asked for."""
    n, n_eta = evaluation.modes.shape[1:]
    chosen = np.arange(n)
    eta, precision = evaluation.modes[evaluation.best, chosen], evaluation.precision[evaluation.best, chosen]
    if method in ("fo", "foi"):
        eta, precision = np.zeros((n, n_eta)), np.zeros((n, n_eta, n_eta))
        for m, likelihood in enumerate(population.likelihoods if settings.posthoc else ()):
            modes = find_modes(likelihood, evaluation.estimate, interaction=method == "foi")
            own = evaluation.best == m
            eta[own], precision[own] = modes.eta[own], modes.information[own]
    mu = MuModel.of(population.model, population.data)
    typical = np.full((n, n_eta), np.nan)
    known = list(mu.references)
    typical[:, known] = mu(evaluation.estimate.theta)[:, known]
    return Individuals(eta, eta, posterior_covariance(precision), typical, evaluation.by_subject)


def _described(
    parameterisation: Parameterisation,
    scaled: ScaledParameters,
    function: _Function,
    found: Minimum,
    limits: Limits,
    gradients: Array,
    tested: bool,
) -> Search:
    """Return how a search went."""
    at = function.free(found.best.point)
    here, there = scaled.values(at), scaled.values(at + function.scale * found.step)
    change = np.abs(there - here) / np.maximum(np.abs(here), 0.1)
    digits = float(-np.log10(max(change.max(initial=0.0), 1e-12)))
    called = parameterisation.names
    zero = tuple(called[k] for k in np.flatnonzero(~found.best.scores.any(0)))
    on_bound = found.best.point <= limits.lower + NEAR
    near_theta = _near_theta_bounds(parameterisation, function.origin, at)
    on_bound[: len(parameterisation.free_thetas)] = near_theta & tested
    near = tuple(called[k] for k in np.flatnonzero(on_bound))
    stopped: Stopped = found.ended
    off: tuple[str, ...] = ()
    if stopped == "converged":
        off = tuple(called[k] for k in np.flatnonzero(runs_off(function, found)))
        stopped = "zero_gradient" if zero else "runs_off" if off else stopped
    return Search(stopped, found.evaluations, digits, gradients, near, zero, off)


def _near_theta_bounds(parameterisation: Parameterisation, start: Array, at: Array) -> NDArray[np.bool_]:
    """Return which estimated thetas came much nearer to a bound than they began."""
    near = []
    for k, j in enumerate(parameterisation.free_thetas):
        transform = parameterisation.transforms[j]
        value, begun = (transform.natural(float(free[k]))[0] for free in (at, start))
        distances = [
            abs(value - bound) / abs(begun - bound)
            for bound in (transform.lower, transform.upper)
            if np.isfinite(bound)
        ]
        near.append(min(distances, default=np.inf) < NEAR)
    return np.array(near, dtype=bool)
