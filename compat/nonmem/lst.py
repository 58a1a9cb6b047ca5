"""The report (``.lst``): the control stream, how the run went, estimates, errors, times.

Readers match literal lines of it, so those lines are kept; what stands between them says what this
program did, in its own words.
"""

from __future__ import annotations

import math
import time
from datetime import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...engine.fit import Fit
from ..files import write_whole
from .iterations import row_numbers
from .lst_problem import message_lines, plain_line, problem_lines
from .lst_selection import selection_page
from .numbers import exponent, objective
from .pages import error_pages, estimate_pages, objective_pages
from .phi import observed_subjects
from .tables import table_text
from .titles import TABLE_NUMBER, fit_title

_UNCERTAINTY_PHASES = ("uncertainty", "covariance", "standard errors")
_MONITORED_ROWS = 60
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def write_lst(
    fit: Fit, path: Path, started: datetime, ended: datetime, control_stream: str | None = None
) -> Path:
    """Write the report; ``control_stream`` is the text it echoes (``None``: the final model's source)."""
    echo = fit.model.source if control_stream is None else control_stream
    lines = [
        date_line(started),
        *echo.rstrip("\n").splitlines(),
        "",
        *message_lines(fit),
        *problem_lines(fit),
        *_method(fit),
        *_monitoring(fit),
    ]
    if fit.status.code == "failed":
        lines += ["0PROGRAM TERMINATED BY OBJ", " MESSAGE ISSUED FROM ESTIMATION STEP", *_status(fit)]
    else:
        lines += [" #TERM:", *_termination(fit), " #TERE:", *_elapsed(fit)]
        lines += [*objective_pages(fit), *estimate_pages(fit), *error_pages(fit)]
        lines += [*selection_page(fit), *_printed_tables(fit)]
    lines += [
        f" #CPUT: Total CPU Time in Seconds, {time.process_time():12.3f}",
        "Stop Time:",
        date_line(ended),
    ]
    return write_whole(path, "\n".join(lines) + "\n")


def date_line(moment: datetime) -> str:
    """Return a date in the C locale's words, such as ``Mon Oct 16 13:34:28 UTC 2017``."""
    local = moment if moment.tzinfo is not None else moment.astimezone()
    zone = local.tzname() or ""
    zone = f"{zone} " if zone.isalpha() else ""
    month = _MONTHS[local.month - 1]
    return f"{_DAYS[local.weekday()]} {month} {local.day:2d} {local:%H:%M:%S} {zone}{local.year:04d}"


def _method(fit: Fit) -> list[str]:
    lines = [f" #TBLN:{TABLE_NUMBER:7d}", f" #METH: {fit_title(fit)}", ""]
    lines += [f" METHOD: {fit.method.upper()}", f" SEED: {fit.seed}"]
    settings = {name: value for name, value in fit.settings.items() if name != "seed"}
    lines += [plain_line(f" {name.upper().replace('_', ' ')}: {value}") for name, value in settings.items()]
    if fit.importance is not None:
        lines.append(f" IMPORTANCE SAMPLES PER SUBJECT FOR THE OBJECTIVE: {fit.importance.draws}")
    return [*lines, "", " MONITORING OF SEARCH:", ""]


def _monitoring(fit: Fit) -> list[str]:
    step = max(1, -(-len(fit.history) // _MONITORED_ROWS))
    lines, last = [], len(fit.history) - 1
    for k, (number, iteration) in enumerate(zip(row_numbers(fit.history), fit.history, strict=True)):
        if (k % step == 0 or k == last) and math.isfinite(iteration.objective):
            value = objective(iteration.objective).strip()
            lines.append(f" iteration {number:12d}  OBJ=   {value} phase={iteration.phase}")
    return [*lines, ""]


def _status(fit: Fit) -> list[str]:
    texts = [fit.status.message, fit.status.remedy, *(f"WARNING: {w}" for w in fit.warnings)]
    return [plain_line(f" {text}") for text in texts if text]


def _termination(fit: Fit) -> list[str]:
    outcome = {
        "converged": " OPTIMIZATION WAS COMPLETED",
        "not_converged": " OPTIMIZATION WAS NOT COMPLETED",
        "evaluated": " EXPECTATION ONLY PROCESS COMPLETED",
    }[fit.status.code]
    constant = fit.n_observations * math.log(2 * math.pi)
    return [
        outcome,
        *_status(fit),
        "",
        *_shrinkage(fit),
        "  ",
        f" TOTAL DATA POINTS NORMALLY DISTRIBUTED (N):{fit.n_observations:13d}",
        f" N*LOG(2PI) CONSTANT TO OBJECTIVE FUNCTION: {objective(constant)}",
        f" OBJECTIVE FUNCTION VALUE WITHOUT CONSTANT: {objective(fit.ofv)}",
        f" OBJECTIVE FUNCTION VALUE WITH CONSTANT:    {objective(fit.ofv + constant)}",
        " REPORTED OBJECTIVE FUNCTION DOES NOT CONTAIN CONSTANT",
        "  ",
        *_likelihoods(fit),
        "  ",
    ]


def _likelihoods(fit: Fit) -> list[str]:
    lines = []
    if fit.importance is not None:
        estimate = f"{fit.importance.value:.4f} (MONTE CARLO SE {fit.importance.se:.4f})"
        lines.append(f" -2 LOG LIKELIHOOD BY IMPORTANCE SAMPLING: {estimate}")
        lines.append(f" SMALLEST EFFECTIVE SAMPLE SIZE OF A SUBJECT: {np.min(fit.importance.ess):.1f}")
    if fit.linearised is not None:
        lines.append(f" -2 LOG LIKELIHOOD BY LINEARISATION: {fit.linearised.value:.4f}")
    if math.isfinite(fit.bicc):
        lines.append(f" BICC: {fit.bicc:.4f}")
    return lines


def _shrinkage(fit: Fit) -> list[str]:
    shrinkage = fit.shrinkage
    count = int(observed_subjects(fit).sum())
    lines = []
    if fit.model.n_etas:
        lines = [
            " ETABAR IS THE ARITHMETIC MEAN OF THE ETA-ESTIMATES (CONDITIONAL MODES),",
            " AND THE P-VALUE IS GIVEN FOR THE NULL HYPOTHESIS THAT THE TRUE MEAN IS 0.",
            "",
            *_values(" ETABAR:", shrinkage.etabar),
            *_values(" SE:", shrinkage.etabar_se),
            *_wrap(" N:", [f"{count:12d}"] * fit.model.n_etas),
            "",
            *_values(" P VAL.:", shrinkage.etabar_p),
            "",
            *_values(" ETASHRINKSD(%)", shrinkage.eta_sd),
            *_values(" ETASHRINKVR(%)", shrinkage.eta_var),
            *_values(" EBVSHRINKSD(%)", shrinkage.ebv_sd),
            *_values(" EBVSHRINKVR(%)", shrinkage.ebv_var),
        ]
    return [
        *lines,
        *_values(" EPSSHRINKSD(%)", shrinkage.eps_sd),
        *_values(" EPSSHRINKVR(%)", shrinkage.eps_var),
    ]


def _values(label: str, values: NDArray[np.float64]) -> list[str]:
    return _wrap(label, [exponent(v if math.isfinite(v) else 0.0, 4).rjust(12) for v in values.tolist()])


def _wrap(label: str, fields: list[str]) -> list[str]:
    lines = [f"{label:<15s}{''.join(fields[:10])}"]
    return lines + [" " * 16 + "".join(fields[k : k + 10]) for k in range(10, len(fields), 10)]


def _elapsed(fit: Fit) -> list[str]:
    uncertainty = sum(s for phase, s in fit.seconds.items() if phase in _UNCERTAINTY_PHASES)
    estimation = sum(s for phase, s in fit.seconds.items() if phase != "total") - uncertainty
    lines = [f" Elapsed estimation  time in seconds: {estimation:8.2f}"]
    if fit.uncertainty is not None:
        lines.append(plain_line(f" STANDARD ERRORS FROM: {fit.uncertainty.source}"))
        lines.append(f" Elapsed covariance  time in seconds: {uncertainty:8.2f}")
    elif fit.model.covariance is not None:
        lines.append("0COVARIANCE STEP ABORTED")
    return lines


def _printed_tables(fit: Fit) -> list[str]:
    lines = []
    for number, task in enumerate(fit.model.tables, start=1):
        if task.print_in_report:
            lines += ["1", *(f" {line}".rstrip() for line in table_text(fit, task, number).splitlines())]
    return lines
