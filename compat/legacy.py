"""The estimation steps of a control stream as steps of this engine: which run, with which settings.

Each option word of a step does one of four things: it becomes a setting (:mod:`.legacy_settings`); it is
one of another method, which its own program too ignores there; it asks for something that needs no asking
here, which a notice says; or it asks for something that is not done, which is an error at its step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ..engine.ir.model import Model, Notice
from ..engine.ir.span import Span
from ..engine.ir.task import EstimationTask, Method
from ..parsers.problem import Problem, ProblemError
from .legacy_settings import Words, covariance_settings, nesting_settings, step_settings
from .legacy_words import (
    NEEDLESS,
    NEEDLESS_COVARIANCE,
    NEEDLESS_SAMPLING,
    OFF,
    REFUSED,
    UNCONSTRAINED,
    WITHOUT_STEP,
)

if TYPE_CHECKING:
    from ..engine.decoder.compile import Solver
    from ..engine.run.planned_step import PlannedStep

AS_WRITTEN = "as-written"
VAE_SEED = 1
METHODS: tuple[Method, ...] = (
    *("fo", "foi", "foce", "focei", "laplace", "laplacei"),
    *("its", "imp", "impmap", "saem", "agq", "vae"),
)
CLASSICAL: frozenset[Method] = frozenset(METHODS) - {"vae"}
EXPECTATION: frozenset[Method] = frozenset({"its", "imp", "impmap", "saem"})
_TRY_VAE = "--method vae estimates the same model by the variational autoencoder"


@dataclass(frozen=True)
class Choices:
    """What the caller chose: random seed (None: that of each step), and the VAE's own settings."""

    seed: int | None
    threads: int
    hidden: int
    solver: Solver
    evaluate: bool


def plan(model: Model, method: str, choices: Choices) -> tuple[Model, tuple[PlannedStep, ...]]:
    """Return ``model`` with notices of what does not run as written, and the steps to run.

    ``method`` is the name of a method, or ``"as-written"`` for all steps of the control stream.

    Raises
    ------
    ProblemError
        Where a step is not available, or a word of it asks for what is not done.
    """
    if method == AS_WRITTEN:
        tasks: list[tuple[Method, EstimationTask | None]] = [(t.method, t) for t in model.estimations]
        if not tasks:
            first = " in the first of several problems" if model.problems > 1 else ""
            message = f"there is no estimation step to run as written{first}"
            hint = "put each problem into its own file" if first else _TRY_VAE
            raise ProblemError([Problem(message, None, hint)])
        notices: list[Notice] = []
    else:
        tasks, notices = _one_step(model, method)
    problems = _unconstrained_etas(model)
    steps: list[PlannedStep] = []
    for number, (own, task) in enumerate(tasks, start=1):
        if own in WITHOUT_STEP:
            span = None if task is None else task.span
            problems.append(Problem(f"{WITHOUT_STEP[own]} is not available", span, _TRY_VAE))
            continue
        words = Words(own, task)
        is_last = number == len(tasks)
        steps.append(_step(model, number, words, choices, is_last, problems))
        notices += _remarks(own, task, problems)
    if steps and not any(step.begins_at_etas for step in steps):
        notices += [
            Notice(
                f"without effect here: ${task.name.upper()} (without MCETA searches begin at 0)", task.span
            )
            for task in model.other_tasks
            if task.name in ("etas", "phis")
        ]
    notices += [
        Notice("this table is written nowhere: the report has no tables, and it names no FILE", table.span)
        for table in model.tables
        if table.file is None
    ]
    if any(step.covariance is not None for step in steps):
        notices += _covariance_remarks(model)
    if problems:
        raise ProblemError(problems, {model.path: model.source})
    return model.replace(notices=(*model.notices, *notices)), tuple(steps)


def _one_step(model: Model, method: str) -> tuple[list[tuple[Method, EstimationTask | None]], list[Notice]]:
    """Return the single step of ``method``, with the options of the stream's own step of it."""
    own = next((known for known in METHODS if known == method), None)
    if own is None:
        hint = f"available: {', '.join(METHODS)}, {AS_WRITTEN}"
        raise ProblemError([Problem(f"unknown method {method!r}", None, hint)])
    same = [task for task in model.estimations if task.method == own]
    chosen = same[-1] if same else None
    notices = [
        Notice(
            f"this step ({task.method.upper()}) was not run: the method asked for is {own.upper()}", task.span
        )
        for task in model.estimations
        if task is not chosen
    ]
    return [(own, chosen)], notices


def _step(
    model: Model, number: int, words: Words, choices: Choices, is_last: bool, problems: list[Problem]
) -> PlannedStep:
    from ..engine.run.planned_step import PlannedStep

    method = words.method
    evaluate_only = choices.evaluate or words.evaluate_only
    if method == "vae":
        from ..engine.methods.vae import VaeSettings

        seed = VAE_SEED if choices.seed is None else choices.seed
        own = VaeSettings(seed, choices.threads, choices.solver, choices.hidden)
        return PlannedStep(number, method, own, evaluate_only, seed=seed, task=words.task)
    covariance = None
    wanted = model.covariance
    if wanted is not None and (is_last or method in EXPECTATION) and not words.is_on("NOCOV"):
        if method in EXPECTATION or "NOFCOV" not in dict(wanted.options):
            covariance = covariance_settings(wanted, words, problems)
            if covariance.resampling is not None and method in EXPECTATION:
                problems.append(
                    Problem(
                        f"SIRSAMPLE after {method.upper()} is not available: its objective is itself sampled",
                        wanted.span,
                        "end with a deterministic step, or leave SIRSAMPLE out",
                    )
                )
    seed = words.seed(choices.seed)
    settings = step_settings(words, evaluate_only, seed, covariance is not None)
    final = words.whole("FNLETA", 1)
    etas: dict[int, Literal["modes", "means", "modes everywhere"]] = {
        0: "means",
        1: "modes",
        3: "modes everywhere",
    }
    if final not in etas:
        words.problems.append(Problem(f"FNLETA={final} is not available", words.span, "FNLETA=0, 1 or 3"))
    nesting = nesting_settings(words) if model.levels else None
    problems += words.problems
    return PlannedStep(
        number,
        method,
        settings,
        evaluate_only,
        covariance,
        with_prior=not words.is_on("NOPRIOR"),
        table_etas=etas.get(final, "modes"),
        influential_etas=words.is_on("ETASTYPE"),
        print_interval=words.whole("PRINT", 1 if words.task is None else 9999) or 9999,
        seed=seed,
        nesting=nesting,
        shows_phi=not words.is_on("PHITYPE"),
        begins_at_etas=_begins_at_etas(words),
        task=words.task,
    )


def _begins_at_etas(words: Words) -> bool:
    """Return whether the method of ``words`` begins at $ETAS: searches for modes do where MCETA says so."""
    if words.method in ("fo", "foi"):
        return False
    samples = words.method == "saem" or (words.method == "imp" and words.whole("MAPITER", 1) == 0)
    return words.task is None or samples or words.whole("MCETA", 0) > 0


def _remarks(method: Method, task: EstimationTask | None, problems: list[Problem]) -> list[Notice]:
    """Return what is to be said of words that change nothing, and note those that are refused."""
    if task is None:
        return []
    if method == "vae":
        return [
            Notice(f"the option {name} has no effect on the method VAE", task.span)
            for name, _ in task.options
            if name != "METHOD"
        ]
    options = dict(task.options)
    for name, what in REFUSED.items():
        if name in options and options[name] not in OFF:
            hint = "leave the word out, or choose another method with --method"
            problems.append(Problem(f"{what} is not available", task.span, hint))
    if options.get("METHOD") == "HYBRID":
        problems.append(Problem("METHOD=HYBRID is not available", task.span, "METHOD=1 is FOCE"))
    needless = {**NEEDLESS, **NEEDLESS_SAMPLING} if method in EXPECTATION else NEEDLESS
    return _grouped(options, needless, task.span)


def _unconstrained_etas(model: Model) -> list[Problem]:
    """Return a problem where omega says, in the legacy engine's way, that etas have no distribution."""
    blocks = model.omega
    special = [b.fixed and all(b.element(i, i) == UNCONSTRAINED for i in range(b.size)) for b in blocks]
    if not model.estimations or not blocks or not all(special):
        return []
    message = "an OMEGA of 1.0E+06 FIXED means subjects fitted one by one (unconstrained etas): not available"
    return [
        Problem(message, blocks[0].span, "another large variance, say 1.0E+05, gives a vague distribution")
    ]


def _covariance_remarks(model: Model) -> list[Notice]:
    task = model.covariance
    return [] if task is None else _grouped(dict(task.options), NEEDLESS_COVARIANCE, task.span)


def _grouped(options: Mapping[str, str], needless: Mapping[str, str], span: Span | None) -> list[Notice]:
    """Return one notice for all words of ``options`` that have no effect for the same reason."""
    by_reason: dict[str, list[str]] = {}
    for name in options:
        if name in needless:
            by_reason.setdefault(needless[name], []).append(name)
    return [
        Notice(f"without effect here: {', '.join(names)} ({reason})", span)
        for reason, names in by_reason.items()
    ]
