"""The Python interface, and the one place that knows every phase from text to files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.failure import ModelFailure
from ..engine.ir.dataset import DataSet
from ..engine.ir.model import Model, Notice
from ..engine.selection.candidates import CandidateError, make_candidates
from ..parsers.problem import Problem, ProblemError
from ..parsers.read import read_data, read_models
from .covariates import match_pairs, parse_covariates, parse_names, parse_pairs
from .legacy import Choices, plan
from .output_folder import OutputFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..engine.decoder.compile import Solver
    from ..engine.estimate import Estimate
    from ..engine.fit import Fit
    from ..engine.ir.effects import Effect
    from ..engine.iteration import Iteration, Observer
    from ..engine.run.planned_step import PlannedStep
    from ..engine.run.steps import StepObserver

INPUT_ERRORS = (ProblemError, CandidateError)  # the input is wrong, the message says what to do
_NEEDS_COVARIATES = "chooses among candidate effects: name them with --covariates"


@dataclass(frozen=True)
class Job:
    """A run whose input has been read and found good; nothing has been computed or written."""

    model: Model
    data: DataSet
    steps: tuple[PlannedStep, ...]
    candidates: tuple[Effect, ...]
    forced: frozenset[int]
    forbidden: frozenset[int]
    start: Estimate | None
    start_etas: NDArray[np.float64] | None
    output: Path | None
    threads: int


@dataclass(frozen=True)
class Result:
    """A finished run, a fit for each step, and the files it wrote."""

    fits: tuple[Fit, ...]
    files: tuple[Path, ...]

    @property
    def fit(self) -> Fit:
        """The fit of the last step; those of the steps before are its ``earlier``."""
        return replace(self.fits[-1], earlier=self.fits[:-1])


def read(path: str | Path) -> Model:
    """Read a control stream.

    Of several problems in it the first one counts where the others estimate nothing; a notice says so.
    Raises :class:`~elbomix.parsers.problem.ProblemError` with every problem found, each with its place.
    """
    first, *others = read_models(Path(path))
    if not others or any(other.estimations for other in others):
        return first
    notices = [
        Notice(
            f"problem {other.problem} ({other.title or 'no title'}) was not run: it estimates nothing",
            None if other.simulation is None else other.simulation.span,
        )
        for other in others
    ]
    return first.replace(problems=1, notices=(*first.notices, *notices))


def fit(
    model: Model | str | Path,
    *,
    data: str | Path | DataSet | None = None,
    method: str = "vae",
    covariates: str | Sequence[str] | None = None,
    on: str | Sequence[str] | None = None,
    force: str | Sequence[str] | None = None,
    forbid: str | Sequence[str] | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    threads: int = 1,
    hidden: int = 25,
    solver: Solver = "compiled",
    evaluate: bool = False,
    estimates_from: str | Path | None = None,
    observer: Observer | None = None,
) -> Fit:
    """Estimate ``model`` and return the fit; with ``output`` also write every file into that folder.

    Parameters
    ----------
    model
        A model of :func:`read`, or the path of a control stream.
    data
        Data in place of the file that the model names; a relative path is taken from the control
        stream's folder.
    method
        ``"vae"``; ``"fo"``, ``"foi"``, ``"foce"``, ``"focei"``, ``"laplace"``, ``"laplacei"``, ``"its"``,
        ``"imp"``, ``"impmap"``, ``"saem"``, ``"agq"`` (with the options of the control stream's own step of
        that method); or ``"as-written"`` for all estimation steps of the control stream.
    covariates
        Candidates of the covariate selection, ``"WT,SEX"`` or with forms ``"WT:power@mean,SEX:cat"``.
    on
        Parameters the candidates may act on, ``"KA,K,V"``; default: every mu-referenced one.
    force, forbid
        Effects that must be in, or out: ``"V~WT"``.
    output
        Folder for the files; None writes none.
    seed, threads, hidden
        Random seed (None: that of the estimation step, 1 of the VAE), number of threads, hidden size of the
        encoder.
    solver
        What solves the equations: ``"compiled"`` code, or ``"torchode"``, slower and for fewer models.
    evaluate
        Evaluate at the initial estimates in place of estimating.
    estimates_from
        The ``.ext`` file, ``fit.json`` or (of Monolix) ``populationParameters.txt`` of an earlier run whose
        final estimates replace the initial ones.
    observer
        Called with every :class:`~elbomix.engine.fit.Iteration`.

    Raises
    ------
    ProblemError, CandidateError
        Something in the input is wrong or asks for what the engine lacks; nothing was written. The
        message says what, where and what to try. Numerical failure is no exception: see ``Fit.status``.
    """
    job = prepare(
        model,
        data=data,
        method=method,
        covariates=covariates,
        on=on,
        force=force,
        forbid=forbid,
        output=output,
        seed=seed,
        threads=threads,
        hidden=hidden,
        solver=solver,
        evaluate=evaluate,
        estimates_from=estimates_from,
    )
    if observer is None:
        return execute(job).fit
    watch = observer
    return execute(job, lambda step, iteration: watch(iteration)).fit


def plot(fit: Fit, folder: str | Path, root: str = "fit") -> list[Path]:
    """Write convergence, covariate path and goodness-of-fit plots into ``folder`` and return their paths."""
    from .plots import write_plots

    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    return write_plots(fit, target, root)


def prepare(
    model: Model | str | Path,
    *,
    data: str | Path | DataSet | None = None,
    method: str = "vae",
    covariates: str | Sequence[str] | None = None,
    on: str | Sequence[str] | None = None,
    force: str | Sequence[str] | None = None,
    forbid: str | Sequence[str] | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    threads: int = 1,
    hidden: int = 25,
    solver: Solver = "compiled",
    evaluate: bool = False,
    estimates_from: str | Path | None = None,
) -> Job:
    """Read and check everything that :func:`fit` takes, without computing or writing anything."""
    source = model if isinstance(model, Model) else read(model)
    source, steps = plan(source, method, Choices(seed, threads, hidden, solver, evaluate))
    _check_covariates(steps, covariates)
    records = data if isinstance(data, DataSet) else _read_data(source, data)
    candidates = _candidates(source, records, covariates, on)
    forced, forbidden = _constraints(candidates, force, forbid)
    from .start_etas import etas_beside, start_etas

    start, etas = None, None
    if estimates_from is None:
        etas = start_etas(source, records)
    else:
        from .fit_json import read_estimates

        start = read_estimates(Path(estimates_from), source)
        etas = start_etas(source, records, start)
        if etas is None:
            etas = etas_beside(Path(estimates_from), source, records, start)
            steps = tuple(replace(step, begins_at_etas=True) for step in steps)
    job = Job(
        model=source,
        data=records,
        steps=steps,
        candidates=candidates,
        forced=forced,
        forbidden=forbidden,
        start=start,
        start_etas=etas,
        output=None if output is None else Path(output),
        threads=threads,
    )
    _check_output(job)
    return job


def execute(job: Job, observer: StepObserver | None = None) -> Result:
    """Compute ``job`` and, where it has an output folder, write its files.

    Where a later step breaks down the files of the steps before it are written, and the failure goes on.
    """
    from ..engine.run.steps import LaterStepFailure, run_steps

    folder = _folder(job)
    watchers = [watcher for watcher in (folder, observer) if watcher is not None]

    def watch(step: PlannedStep, iteration: Iteration) -> None:
        for watcher in watchers:
            watcher(step, iteration)

    started = datetime.now().astimezone()
    try:
        fits = run_steps(
            job.model,
            job.data,
            job.steps,
            start=job.start,
            start_etas=job.start_etas,
            threads=job.threads,
            candidates=job.candidates,
            forced=job.forced,
            forbidden=job.forbidden,
            observer=watch,
        )
        files = () if folder is None else folder.write(fits, started, datetime.now().astimezone())
    except LaterStepFailure as failure:
        if folder is not None:
            folder.write(failure.fits, started, datetime.now().astimezone())
        raise
    except ModelFailure as failure:
        problem = Problem(failure.message, failure.span, failure.hint)
        raise ProblemError([problem], {job.model.path: job.model.source}) from failure
    finally:
        if folder is not None:
            folder.close()
    return Result(fits, files)


def _read_data(model: Model, file: str | Path | None) -> DataSet:
    # joining an absolute path leaves it as it is
    return read_data(model, None if file is None else Path(model.path).parent / file)


def _candidates(
    model: Model,
    data: DataSet,
    covariates: str | Sequence[str] | None,
    on: str | Sequence[str] | None,
) -> tuple[Effect, ...]:
    if covariates is None:
        if on is not None:
            raise CandidateError(f"--on {_NEEDS_COVARIATES}")
        return ()
    # its pyomo looks through all loaded modules: four times as slow to import after torch as before
    from ..engine.selection import certificate  # noqa: F401

    return make_candidates(model, data, parse_covariates(covariates), None if on is None else parse_names(on))


def _constraints(
    candidates: tuple[Effect, ...],
    force: str | Sequence[str] | None,
    forbid: str | Sequence[str] | None,
) -> tuple[frozenset[int], frozenset[int]]:
    """Return the positions of the candidates that must be in, and of those that must stay out."""
    if not candidates:
        for option, pairs in (("--force", force), ("--forbid", forbid)):
            if pairs is not None:
                raise CandidateError(f"{option} {_NEEDS_COVARIATES}")
    forced, forbidden = (
        frozenset[int]() if pairs is None else match_pairs(parse_pairs(pairs, option), candidates)
        for option, pairs in (("--force", force), ("--forbid", forbid))
    )
    both = ", ".join(str(candidates[i]) for i in sorted(forced & forbidden))
    if both:
        raise CandidateError(f"--force and --forbid both name {both}")
    return forced, forbidden


def _check_covariates(steps: Sequence[PlannedStep], covariates: str | Sequence[str] | None) -> None:
    """Refuse a selection of covariates where no step can make one."""
    if covariates is None:
        return
    if len(steps) != 1 or steps[0].method != "vae":
        raise CandidateError("--covariates asks for a selection, which --method vae alone can make")
    if steps[0].evaluate_only:
        raise CandidateError("--covariates asks for a selection, and an evaluation selects nothing")


def _check_output(job: Job) -> None:
    """Refuse an output folder that cannot be one, or in which the run would overwrite its own input."""
    folder = _folder(job)
    if folder is None:
        return
    if folder.path.exists() and not folder.path.is_dir():
        raise ProblemError([Problem(f"the output folder {folder.path} is a file", None, "name a folder")])
    from .nonmem.file_layout import layout_problems
    from .nonmem.tables import table_problems

    problems = [*layout_problems(job.model), *table_problems(job.model), *folder.taken_names()]
    if problems:
        raise ProblemError(problems, {job.model.path: job.model.source})
    inputs = {Path(job.model.path).resolve(), Path(job.data.path).resolve()}
    for path in folder.own_files():
        if path.resolve() in inputs:
            message = f"the run would write over its own input {path}"
            raise ProblemError([Problem(message, None, "name another folder with --output")])


def _folder(job: Job) -> OutputFolder | None:
    if job.output is None:
        return None
    return OutputFolder(job.output, Path(job.model.path).stem, job.model)
