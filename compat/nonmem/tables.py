"""The files of ``$TABLE`` records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...engine.fit import Fit
from ...engine.ir.model import Model
from ...engine.ir.task import TableTask, labelled
from ...parsers.nmtran.input_items import ROLES
from ...parsers.problem import Problem
from ..files import write_whole
from .numbers import FieldFormat, parse_format
from .record_format import RecordFormat, parse_record_format

APPENDED = ("DV", "PRED", "RES", "WRES")
_RECORDS_PER_HEADER = 900
_LONGEST_LABEL = 20
_LATE_ETA = re.compile(r"ETA(\d\d+)")
_ID_FORMAT = re.compile(r"I(\d*)|F(\d+)\.(\d+)", re.IGNORECASE)


def table_file(task: TableTask) -> str | None:
    r"""Return the name under which a table lies in the folder of results.

    That folder stands for the one of the control stream, and all results lie in it: of ``../run1.tab`` or
    ``C:\\runs\\run1.tab`` the last part counts.
    """
    return None if task.file is None else PureWindowsPath(task.file).name


def table_problems(model: Model) -> list[Problem]:
    """Return what would keep the tables of ``model`` from being written: ask before a run."""
    problems = []
    named: dict[str | None, str | None] = {}
    for task in model.tables:
        if named.setdefault(name := table_file(task), task.file) != task.file:
            message = f"{named[name]} and {task.file} would be one file in the folder of results"
            problems.append(Problem(message, task.span, "give the tables different names"))
        try:
            parse_format(task.format)
        except ValueError as error:
            problems.append(Problem(f"table format {error}", task.span, "the default is s1PE11.4"))
        for name, text in task.options:
            if name not in ("LFORMAT", "RFORMAT"):
                continue
            try:
                parse_record_format(text)
            except ValueError as error:
                hint = "LFORMAT=\"(4X,A4,4(',',4X,A8))\" RFORMAT=\"(F8.0,4(',',1PE12.5))\""
                problems.append(Problem(f"{name}: {error}", task.span, hint))
    return problems


def write_tables(fit: Fit, folder: Path) -> list[Path]:
    """Write every table that names a file into ``folder``.

    Tables that share a file follow one another in it. Raises ``KeyError`` where ``fit.table`` lacks an
    item.
    """
    texts: dict[str, str] = {}
    for number, task in enumerate(fit.model.tables, start=1):
        if (name := table_file(task)) is not None:
            texts[name] = texts.get(name, "") + table_text(fit, task, number)
    return [write_whole(folder / name, text) for name, text in texts.items()]


def table_text(fit: Fit, task: TableTask, number: int) -> str:
    """Return the text of one table, ``number`` being its position among the tables of the problem.

    All lines have the same length: readers recognise fixed width by that.
    """
    form = parse_format(task.format)
    items = list(task.items)
    if task.appended:
        # predictions and residuals that the table names as well stand at its end only, DV in both places
        dv = fit.model.inputs.with_role("dv")
        label = dv.label if dv is not None else ""
        items = [item for item in items if item not in APPENDED[1:]]
        items += [f"{label}=DV" if label else "DV", *APPENDED[1:]]
    columns = [_column(fit.table, labelled(item)[1]) for item in items]
    kept = _arranged(fit.table, task, _rows(task, fit.data.subject))
    values = np.column_stack(columns)[kept] if columns else np.zeros((len(kept), 0))
    labels = [table_label(fit.model, item) for item in items]
    lines = list(_lines(task, number, items, labels, values, form))
    width = 0 if form.compact else max((len(line) for line in lines), default=0)
    return "".join(line.ljust(width) + "\n" for line in lines)


def table_label(model: Model, item: str) -> str:
    """Return what stands above a column: the user's own name of a data item, ``ET10`` for a late eta."""
    label, name = labelled(item)
    if label != name:
        return label
    column = model.inputs.resolve(name)
    if column is not None:
        return next((own for own in column.aliases if own not in ROLES), column.name)
    eta = _LATE_ETA.fullmatch(name)
    return name if eta is None else f"ET{eta[1]}"


def _lines(
    task: TableTask,
    number: int,
    items: list[str],
    labels: list[str],
    values: NDArray[np.float64],
    form: FieldFormat,
) -> Iterator[str]:
    label_format, record_format = (_record_format(task, name) for name in ("LFORMAT", "RFORMAT"))
    texts = [label[:_LONGEST_LABEL] for label in labels]
    header = []
    if task.title:
        header.append(f"TABLE NO.{number:3d}")
    if task.labels:
        if label_format is not None:
            header += label_format.lines(texts)
        else:
            header.append(form.row([form.label(text) for text in texts]))
    for k, row in enumerate(values):
        if (k == 0 and task.headers != "none") or (k % _RECORDS_PER_HEADER == 0 and task.headers == "repeat"):
            yield from header
        if record_format is not None:
            yield from record_format.lines(row.tolist())
        else:
            yield form.row([_field(task, item, float(v), form) for item, v in zip(items, row, strict=True)])


def _record_format(task: TableTask, name: str) -> RecordFormat | None:
    text = dict(task.options).get(name)
    return None if text is None else parse_record_format(text)


def _field(task: TableTask, item: str, value: float, form: FieldFormat) -> str:
    """Return one number; that of ID in its own format, to the left, where it has one that can be read."""
    own = dict(task.column_formats).get(labelled(item)[1].upper())
    match = None if own is None else _ID_FORMAT.fullmatch(own.strip())
    if match is None:
        return form.number(value)
    if match[3] is not None:
        text = f"{value:.{int(match[3])}f}".rjust(int(match[2]))
    elif value.is_integer():
        text = str(int(value)).rjust(int(match[1] or 0))
    else:
        return form.number(value)
    return text.ljust(form.width) if len(text) <= form.width else form.number(value)


def _arranged(table: pd.DataFrame, task: TableTask, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions in the order of BY, without those where an item of EXCLUDE_BY is not zero."""
    options = dict(task.options)
    for item in options.get("EXCLUDE_BY", "").split():
        kept = kept[_column(table, item)[kept] == 0]
    keys = [_column(table, item)[kept] for item in options.get("BY", "").split()]
    return kept[np.lexsort(keys[::-1])] if keys else kept


def _column(table: pd.DataFrame, item: str) -> NDArray[np.float64]:
    name = item.upper()
    if name.startswith("ETA(") and name.endswith(")"):
        name = f"ETA{name[4:-1]}"
    if name not in table.columns:
        raise KeyError(f"the table asks for {item}, which the fit did not compute")
    return np.asarray(table[name], dtype=float)


def _rows(task: TableTask, subject: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of the records that the table shows."""
    if task.rows == "all":
        return np.arange(len(subject))
    change = np.flatnonzero(np.diff(subject)) + 1
    first = np.concatenate([[0], change]) if len(subject) else np.zeros(0, dtype=np.int64)
    last = np.concatenate([change, [len(subject)]]) - 1 if len(subject) else first
    if task.rows == "first":
        return first
    if task.rows == "last":
        return last
    return np.unique(np.concatenate([first, last]))
