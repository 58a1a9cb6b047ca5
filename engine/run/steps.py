"""The estimation steps of a run, one after the other: each starts where the one before ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..estimate import Array, Estimate, initial
from ..failure import ModelFailure, NumericalFailure
from ..fit import Fit
from ..individuals import Individuals
from ..ir.dataset import DataSet
from ..ir.effects import Effect
from ..ir.model import Model
from ..iteration import Iteration
from ..methods.conditional import ConditionalSettings, estimate_conditional
from ..methods.importance_sampling import ImportanceSettings, estimate_importance
from ..methods.its import TwoStageSettings, estimate_its
from ..methods.saem import SaemSettings, estimate_saem
from ..methods.step import Step
from ..objective.population import Population
from ..tables.items import check_tables
from .planned_step import PlannedStep
from .refusal import refuse
from .step_fit import assemble
from .stopwatch import Stopwatch

StepObserver = Callable[[PlannedStep, Iteration], None]


class LaterStepFailure(NumericalFailure):
    """A step that is not the first broke down numerically; ``fits`` are those of the steps before it."""

    def __init__(self, message: str, fits: tuple[Fit, ...]) -> None:
        super().__init__(message)
        self.fits = fits


def run_steps(
    model: Model,
    data: DataSet,
    steps: Sequence[PlannedStep],
    *,
    start: Estimate | None = None,
    start_etas: Array | None = None,
    threads: int = 1,
    candidates: tuple[Effect, ...] = (),
    forced: frozenset[int] = frozenset(),
    forbidden: frozenset[int] = frozenset(),
    observer: StepObserver | None = None,
) -> tuple[Fit, ...]:
    """Run ``steps`` from ``start`` (None: the model's initial estimates) and return a fit of each.

    ``start_etas`` [id, eta] are random effects that searches for modes may begin with. ``candidates``,
    ``forced`` and ``forbidden`` are for the VAE alone, see :func:`.autoencoder.estimate`.

    A step that ends as failed is the last one.

    Raises
    ------
    ModelFailure
        Before any fitting, where a method lacks something the model or the data ask for.
    NumericalFailure
        Where the objective has no value at the start of a step, or a matrix breaks down;
        :class:`LaterStepFailure` where steps before it ended.
    """
    check_tables(model)
    for step in steps:
        refuse(model, step.method)
        _refuse_scores(model, step)
    estimate = start or initial(model)
    population: Population | None = None
    fits: list[Fit] = []
    for step in steps:
        watch = Stopwatch()
        notify = _notifier(step, observer)
        if step.method == "vae":
            from .autoencoder import estimate as autoencoder

            settings: Any = step.settings  # VaeSettings, whose module imports torch
            fit = autoencoder(
                model,
                data,
                settings,
                candidates=candidates,
                forced=forced,
                forbidden=forbidden,
                start=estimate,
                evaluate=step.evaluate_only,
                observer=notify,
            )
            fit = replace(fit, number=step.number, print_interval=step.print_interval, task=step.task)
        else:
            if population is None:
                population = Population(model, data, threads, start_etas)
            watch.lap("compile")
            own = population if step.with_prior else population.without_prior()
            if step.nesting is not None:
                own = own.with_nesting(step.nesting)
            if not step.begins_at_etas:
                own = own.without_start_etas()
            before = fits[-1].individuals if fits else None
            try:
                fit = _classical(own, step, estimate, before, watch, notify)
            except NumericalFailure as failure:
                if not fits:
                    raise
                raise LaterStepFailure(f"step {step.number}: {failure}", tuple(fits)) from failure
        fits.append(fit)
        if fit.status.code == "failed":
            break
        if fit.selection is None:
            estimate = fit.estimate
    return tuple(fits)


def _refuse_scores(model: Model, step: PlannedStep) -> None:
    """Refuse errors by the scores of subjects that share random effects: they are not independent."""
    if (
        model.levels
        and step.method != "its"
        and step.covariance is not None
        and step.covariance.matrix != "r"
    ):
        raise ModelFailure(
            "with random effects that groups of subjects share the covariance step needs MATRIX=R",
            None if model.covariance is None else model.covariance.span,
            "write $COVARIANCE MATRIX=R",
        )


def _notifier(step: PlannedStep, observer: StepObserver | None) -> Callable[[Iteration], None] | None:
    if observer is None:
        return None
    return lambda iteration: observer(step, iteration)


def _classical(
    population: Population,
    plan: PlannedStep,
    start: Estimate,
    before: Individuals | None,
    watch: Stopwatch,
    notify: Callable[[Iteration], None] | None,
) -> Fit:
    """Run one classical step and make its fit; ``before`` are the individuals of the step before."""
    try:
        step = _estimate(population, plan, start, before, notify)
        watch.lap("estimation")
        return assemble(population, plan, step, watch)
    except np.linalg.LinAlgError as error:
        raise NumericalFailure(
            f"step {plan.number} ({plan.method}) broke down numerically ({error}); try initial estimates "
            "nearer to the data, or a model with fewer random effects"
        ) from error


def _estimate(
    population: Population,
    plan: PlannedStep,
    start: Estimate,
    before: Individuals | None,
    notify: Callable[[Iteration], None] | None,
) -> Step:
    settings = plan.settings
    if isinstance(settings, ConditionalSettings):
        return estimate_conditional(population, plan.method, start, settings, notify)
    if isinstance(settings, TwoStageSettings):
        return estimate_its(population, start, settings, notify)
    if isinstance(settings, SaemSettings):
        return estimate_saem(population, start, settings, notify, individuals=before)
    assert isinstance(settings, ImportanceSettings)
    return estimate_importance(population, start, settings, notify, method=plan.method, individuals=before)
