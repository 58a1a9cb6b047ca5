"""From what a classical method hands on to the complete result of its step: errors, diagnostics, criteria."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np

from ..diagnostics.residuals import Individual, Residuals
from ..diagnostics.shrinkage import influential, shrinkage, subpopulation_shrinkage
from ..fit import Fit
from ..individuals import Shrinkage, Subpopulations
from ..ir.task import Method
from ..methods.its import TwoStageSettings
from ..methods.step import Step
from ..mu_model import MuModel
from ..objective.bicc import penalty
from ..objective.of_method import objective_of
from ..objective.penalised import penalised
from ..objective.population import Population
from ..objective.tolerance import tolerance_note
from ..tables.record_table import record_table
from ..uncertainty.covariance_step import CovarianceStep, covariance_step
from ..uncertainty.sampling_importance_resampling import Resampling, ResamplingSettings, resample_parameters
from ..uncertainty.standard_errors import Uncertainty
from .planned_step import PlannedStep
from .stopwatch import Stopwatch

FIRST_ORDER = ("fo", "foi")
WITHOUT_INTERACTION = ("fo", "foce", "laplace")
SAMPLING = ("imp", "impmap", "saem")
BY_SCORES = ("its", "saem")  # NONMEM's errors after these are those of S whatever MATRIX asks for


def assemble(population: Population, plan: PlannedStep, step: Step, watch: Stopwatch) -> Fit:
    """Return the fit of ``step``, which ran as ``plan`` said."""
    model, data = population.model, population.data
    warnings = list(step.warnings)
    note = tolerance_note(model)
    if note:
        warnings.append(note)
    made = CovarianceStep(None)
    if plan.covariance is not None and step.status.code != "failed":
        given = population.given_shared_effects()
        objective = None
        if isinstance(plan.settings, TwoStageSettings):
            objective = objective_of(given, plan.settings.objective)
        settings = plan.covariance
        if plan.method in BY_SCORES:  # subjects that share effects have no scores of their own
            settings = replace(settings, matrix="s" if given.nesting is None else "r")
        made = covariance_step(given, step, settings, objective)
        if made.uncertainty is not None and made.said:
            warnings.append(f"covariance step: {made.said}")
    uncertainty = made.uncertainty
    resampling = None
    if uncertainty is not None and plan.covariance is not None and plan.covariance.resampling is not None:
        resampling = _resampled(population, plan, step, uncertainty, plan.covariance.resampling)
    watch.lap("uncertainty")
    interaction = plan.method not in WITHOUT_INTERACTION
    first_order = plan.method in FIRST_ORDER
    subpopulations = _subpopulations(population, plan, step)
    individual = _individual(plan, step, subpopulations)
    table, residuals = record_table(
        population,
        step.estimate,
        individual,
        step.individuals.objective,
        interaction=interaction,
        first_order=first_order,
    )
    residuals = residuals.without_options()
    n_normal = int(residuals.normal.sum())
    watch.lap("diagnostics")
    return Fit(
        model=model,
        base_model=model,
        data=data,
        method=plan.method,
        status=step.status,
        estimate=step.estimate,
        ofv=step.ofv,
        importance=None,
        linearised=None,
        minus_two_elbo=None,
        bicc=_bicc(population, step, n_normal),
        uncertainty=uncertainty,
        individuals=step.individuals,
        shrinkage=_shrinkage(population, plan, step, residuals),
        table=table,
        history=step.history,
        selection=None,
        seconds=watch.total(),
        seed=plan.seed,
        settings=_settings(plan, step),
        warnings=tuple(warnings),
        number=plan.number,
        n_normal=n_normal,
        search=step.search,
        convergence=step.convergence,
        objective_se=step.objective_se,
        score=None if step.scores is None else -step.scores.sum(0),
        subpopulations=subpopulations,
        covariance_failure=made.said if uncertainty is None else "",
        information=made.matrices,
        resampling=resampling,
        print_interval=plan.print_interval,
        with_prior=plan.with_prior,
        shows_phi=plan.shows_phi,
        task=plan.task,
    )


def _settings(plan: PlannedStep, step: Step) -> dict[str, object]:
    settings = dict(step.settings) or asdict(plan.settings)
    return settings if plan.nesting is None else settings | {"nesting": asdict(plan.nesting)}


def _resampled(
    population: Population,
    plan: PlannedStep,
    step: Step,
    uncertainty: Uncertainty,
    settings: ResamplingSettings,
) -> Resampling:
    objective = penalised(population, objective_of(population.given_shared_effects(), plan.method))
    modes = step.individuals.ebe[None].repeat(len(population.likelihoods), 0)
    evaluation = objective.value(step.estimate, modes)
    return resample_parameters(population.model, objective, evaluation, uncertainty, settings)


def _individual(plan: PlannedStep, step: Step, subpopulations: Subpopulations | None) -> Individual:
    """Return the random effects that tables show, and those around which residuals are expanded."""
    individuals = step.individuals
    centre = individuals.cond_mean if plan.method in SAMPLING else individuals.ebe
    shown = individuals.ebe
    if plan.table_etas == "means":
        shown = centre
    elif plan.table_etas == "modes everywhere":
        centre = individuals.ebe
    if subpopulations is None:
        return Individual(shown, centre, bool(np.any(shown)))
    component = np.argmax(subpopulations.probabilities, axis=1) + 1
    return Individual(shown, centre, bool(np.any(shown)), component, subpopulations.eta)


def _shrinkage(population: Population, plan: PlannedStep, step: Step, residuals: Residuals) -> Shrinkage:
    individuals = step.individuals
    eta = individuals.cond_mean if plan.method in SAMPLING else individuals.ebe
    included = np.repeat((population.n_observations > 0)[:, None], eta.shape[1], 1)
    if plan.influential_etas and len(population.likelihoods) == 1:
        included = influential(population.likelihood, step.estimate, eta)
    loss = None
    if population.nesting is not None:
        included &= population.nesting.counted
        loss = population.nesting.loss
    return shrinkage(step.estimate, eta, individuals.cond_cov, residuals.by_eps(), included, loss)


def _subpopulations(population: Population, plan: PlannedStep, step: Step) -> Subpopulations | None:
    """Return what is known under each subpopulation, at the conditional modes."""
    if step.probabilities is None:
        return None
    method: Method = plan.method if plan.method in _DETERMINISTIC else "focei"
    found = objective_of(population, method).value(step.estimate)
    active = population.active
    covariance = np.zeros_like(found.precision)
    inside = (slice(None), slice(None), active[:, None], active)
    if len(active) and bool((np.linalg.matrix_rank(found.precision[inside]) == len(active)).all()):
        covariance[inside] = np.linalg.inv(found.precision[inside])
    parts = subpopulation_shrinkage(
        population,
        step.estimate,
        found.modes,
        covariance,
        step.probabilities,
        interaction=plan.method not in WITHOUT_INTERACTION,
        all_etas=plan.method not in _DETERMINISTIC,
    )
    return Subpopulations(step.probabilities, found.modes, covariance, found.by_component, parts)


_DETERMINISTIC: tuple[Method, ...] = ("fo", "foi", "foce", "focei", "laplace", "laplacei", "agq")


def _bicc(population: Population, step: Step, n_normal: int) -> float:
    """Return the corrected BIC of the objective with its constant; NaN where it is no likelihood."""
    if step.method == "saem" or not math.isfinite(step.ofv):
        return math.nan
    model, data = population.model, population.data
    own = penalty(model, MuModel.of(model, data), data)
    return step.ofv + n_normal * math.log(2 * math.pi) + own
