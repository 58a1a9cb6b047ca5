"""The report (``.lst``): the control stream, how the run went, estimates, errors, times.

Readers match literal lines of it, so those lines are kept; what stands between them says what this
program did, in its own words.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from ...engine.fit import Fit
from ..files import write_whole
from .lst_problem import message_lines, problem_lines
from .lst_selection import selection_page
from .lst_step import method_lines, monitoring_lines, outcome_lines
from .pages import error_pages, estimate_pages, objective_pages
from .tables import table_text

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def write_lst(
    fits: Sequence[Fit], path: Path, started: datetime, ended: datetime, control_stream: str | None = None
) -> Path:
    """Write the report; ``control_stream`` is the text it echoes (``None``: that of the last model)."""
    last = fits[-1]
    echo = last.model.source if control_stream is None else control_stream
    lines = [
        date_line(started),
        *echo.rstrip("\n").splitlines(),
        "",
        *message_lines(last),
        *problem_lines(last),
    ]
    for fit in fits:
        if fit is not fits[0]:
            lines += ["1", "", ""]
        lines += [*method_lines(fit), *monitoring_lines(fit), *outcome_lines(fit)]
        if fit.status.code != "failed":
            lines += [*objective_pages(fit), *estimate_pages(fit), *error_pages(fit), *selection_page(fit)]
    if last.status.code != "failed":
        lines += _printed_tables(last)
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


def _printed_tables(fit: Fit) -> list[str]:
    lines = []
    for number, task in enumerate(fit.model.tables, start=1):
        if task.print_in_report:
            lines += ["1", *(f" {line}".rstrip() for line in table_text(fit, task, number).splitlines())]
    return lines
