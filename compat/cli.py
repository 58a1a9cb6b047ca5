"""The command line: ``elbomix fit``, ``elbomix predict`` and ``elbomix check``.

Nothing heavy is imported before a command runs, so ``elbomix --help`` answers at once.

Exit codes: 0 finished (converged, or evaluated as asked); 1 ran but did not converge or failed
numerically, the files say so; 2 something in the user's input is wrong, nothing was written; 3 a
fault of the program; 130 interrupted, the files written so far are complete rows.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from .. import __version__

if TYPE_CHECKING:
    from ..engine.ir.model import Model

FINISHED, NOT_CONVERGED, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 3, 130

EXIT_CODES = """\b
Exit codes:
  0    finished: converged, or evaluated as asked
  1    ran, but did not converge or failed numerically; the files say so
  2    something in the input is wrong; nothing was written
  3    a fault of the program
  130  interrupted by Ctrl-C; what was written so far is left
"""

CONTROL_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="elbomix", prog_name="elbomix")
def command() -> None:
    """Estimate nonlinear mixed-effects models written as control streams."""


@command.command(epilog=EXIT_CODES)
@click.argument("file", type=CONTROL_FILE)
@click.option(
    "--method",
    default="vae",
    show_default=True,
    metavar="NAME",
    help="Estimation method: vae, fo, foi, foce, focei, laplace, laplacei, its, imp, impmap, saem, agq; or "
    "as-written for the steps of $ESTIMATION, one after the other.",
)
@click.option(
    "--covariates",
    metavar="SPEC",
    help='Candidates of the covariate selection: "WT,SEX", with forms "WT:power@mean,AGE:exp,SEX:cat".',
)
@click.option(
    "--on",
    metavar="NAMES",
    help='Parameters that candidates may act on: "KA,K,V" (default: all with a random effect).',
)
@click.option("--force", metavar="PAIRS", help='Effects that must be in: "V~WT,KA~WT".')
@click.option("--forbid", metavar="PAIRS", help='Effects that must stay out: "K~SEX".')
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder for the results (default: NAME_METHOD in the current folder, for NAME.ctl).",
)
@click.option(
    "--seed", type=click.IntRange(min=0), help="Random seed (default: SEED of the step; of the VAE 1)."
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads to use.")
@click.option(
    "--data",
    metavar="FILE",
    help="Data file in place of that of $DATA; as there, relative to the control stream.",
)
@click.option("--evaluate", is_flag=True, help="Do not estimate: evaluate at the initial estimates.")
@click.option(
    "--estimates-from",
    type=CONTROL_FILE,
    metavar="FILE",
    help="Start from the final estimates of a run: its .ext, fit.json or populationParameters.txt.",
)
@click.option(
    "--hidden",
    type=click.IntRange(min=1),
    default=25,
    show_default=True,
    help="Hidden size of the encoder network.",
)
@click.option(
    "--solver",
    type=click.Choice(["compiled", "torchode"]),
    default="compiled",
    show_default=True,
    help="What solves the model's equations; torchode is slower and knows fewer dosing forms.",
)
@click.option("--quiet", is_flag=True, help="No progress and no final table.")
def fit(
    file: Path,
    method: str,
    covariates: str | None,
    on: str | None,
    force: str | None,
    forbid: str | None,
    output: Path | None,
    seed: int | None,
    threads: int,
    data: str | None,
    evaluate: bool,
    estimates_from: Path | None,
    hidden: int,
    solver: Literal["compiled", "torchode"],
    quiet: bool,
) -> None:
    """Estimate the model in FILE and write the results into a folder.

    With --covariates the effects of the covariates are selected in the same run.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(threads)  # before numpy and torch are loaded
    from ..engine.failure import NumericalFailure
    from ..parsers.problem import ProblemError
    from . import run
    from .progress import progress
    from .report import show_report

    folder = output if output is not None else Path(f"{file.stem}_{method}")
    try:
        job = run.prepare(
            file,
            data=data,
            method=method,
            covariates=covariates,
            on=on,
            force=force,
            forbid=forbid,
            output=folder,
            seed=seed,
            threads=threads,
            hidden=hidden,
            solver=solver,
            evaluate=evaluate,
            estimates_from=estimates_from,
        )
        with progress(job.data.n_observations, quiet=quiet) as observer:
            result = run.execute(job, observer)
    except run.INPUT_ERRORS as error:
        said = str(error)
        click.echo(said if isinstance(error, ProblemError) else f"error: {said}", err=True)
        sys.exit(BAD_INPUT)
    except NumericalFailure as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(NOT_CONVERGED)
    except KeyboardInterrupt:
        left = f"; what was written so far is in {folder}" if folder.exists() else ""
        click.echo(f"interrupted{left}", err=True)
        sys.exit(INTERRUPTED)
    if not quiet:
        show_report(result.fits, result.files)
    sys.exit(FINISHED if result.fits[-1].status.code in ("converged", "evaluated") else NOT_CONVERGED)


@command.command(epilog=EXIT_CODES)
@click.argument("file", type=CONTROL_FILE)
@click.option(
    "--data",
    metavar="FILE",
    help="Data file in place of the control file's; relative to the control file.",
)
@click.option(
    "--estimates-from",
    type=CONTROL_FILE,
    metavar="FILE",
    help="Predict at the estimates of a run: its .ext, fit.json or populationParameters.txt.",
)
@click.option(
    "--solver",
    type=click.Choice(["compiled", "cvode"]),
    default="compiled",
    show_default=True,
    help="What solves differential equations; cvode: CVODE at the tolerances of Monolix or of TOL.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File for the table (default: standard output).",
)
def predict(
    file: Path,
    data: str | None,
    estimates_from: Path | None,
    solver: Literal["compiled", "cvode"],
    output: Path | None,
) -> None:
    """Predict the observations of FILE for typical subjects (PRED, popPred) and write them as CSV."""
    from ..engine.failure import NumericalFailure
    from ..parsers.problem import ProblemError
    from . import predict as prediction
    from .files import write_whole

    try:
        table = prediction.predict(file, data=data, estimates_from=estimates_from, solver=solver)
    except ProblemError as error:
        click.echo(str(error), err=True)
        sys.exit(BAD_INPUT)
    except NumericalFailure as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(NOT_CONVERGED)
    text = table.to_csv(index=False, float_format="%.15g", lineterminator="\n")
    if output is None:
        click.echo(text, nl=False)
    else:
        write_whole(output, text)


@command.command()
@click.argument("file", type=CONTROL_FILE)
@click.option("--no-data", is_flag=True, help="Look at the text alone.")
@click.option(
    "--show",
    type=click.Choice(["ir", "kernel"]),
    help="Print the model as the engine sees it (ir), or the code that computes it (kernel).",
)
def check(file: Path, no_data: bool, show: str | None) -> None:
    """Read FILE and its data and list every problem found.

    Exit code 0: none; 2: problems.
    """
    from ..parsers.problem import ProblemError
    from ..parsers.read import read_data, read_models

    try:
        models = read_models(file)
        data = [None if no_data else read_data(model) for model in models]
    except ProblemError as error:
        click.echo(str(error))
        count = sum(p.severity == "error" for p in error.problems)
        click.echo(f"{file}: {count} problem{'s' if count != 1 else ''}")
        sys.exit(BAD_INPUT)
    for model, records in zip(models, data, strict=True):
        if show == "ir":
            from ..engine.ir.show import show as show_model

            click.echo(show_model(model))
        elif show == "kernel":
            click.echo(_kernel(model))
        for notice in model.notices:
            place = f"{notice.span}: " if notice.span is not None else ""
            click.echo(f"{place}note: {notice.message}")
        counts = (
            f"{len(model.thetas)} thetas, {model.n_etas} etas, {model.n_eps} eps"
            if records is None
            else f"{records.n_subjects} subjects, {records.n_observations} observations, "
            f"{records.n_records} records"
        )
        which = f"$PROBLEM {model.problem} of {model.problems}, " if model.problems > 1 else ""
        click.echo(f"{file}: {which}no problems ({counts})")


def _kernel(model: Model) -> str:
    from ..engine.failure import ModelFailure
    from ..engine.kernel.compile import show_kernel

    try:
        return show_kernel(model)
    except ModelFailure as failure:
        click.echo(f"error: {failure}", err=True)
        sys.exit(BAD_INPUT)


def main() -> None:
    """Run the command line; a fault of ours shows its traceback and ends with code 3."""
    try:
        command(prog_name="elbomix")
    except Exception:
        traceback.print_exc()
        click.echo("this is a fault of elbomix, not of your model; please report the lines above", err=True)
        sys.exit(FAULT)
