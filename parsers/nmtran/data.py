"""The data file: from its text to records, by the rules of NM-TRAN."""

from __future__ import annotations

from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.ir.dataset import DataSet, RowCondition, RowSelection
from ...engine.ir.model import Model
from ..problem import Problem, ProblemError
from ..source import Source
from .events import event_columns
from .fields import BLANK, field_span, line_span, split_fields
from .numbers import number

Array = NDArray[np.float64]

_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
}
_MAX_PROBLEMS = 10  # of one kind; a wrong $INPUT would give one for each line
_EMPTY = ("", ".")


def read_records(model: Model, source: Source) -> DataSet:
    """Return the records of the data file ``source`` that ``model`` selects.

    Raises
    ------
    ProblemError
        With the places in the data file that cannot be read, at most a few of each kind.
    """
    lines, rows = _rows(model, source)
    lines, rows = _select(model.inputs.rows, lines, rows)
    if not rows:
        raise _error(
            model,
            source,
            Problem("no record is left of the data", model.inputs.span, "look at IGNORE and ACCEPT of $DATA"),
        )
    fields = list(zip(*rows, strict=True))
    values: dict[str, Array] = {}
    missing: dict[str, NDArray[np.bool_]] = {}
    problems: list[Problem] = []
    for position, column in enumerate(model.inputs.columns):
        if column.role == "dropped":
            continue
        try:
            values[column.name], missing[column.name] = _numbers(fields[position], model.inputs.rows)
        except _NoNumber as error:
            problems += _bad_fields(source, lines, fields[position], position, column.name, error.texts)
    if problems:
        raise ProblemError(problems, {source.path: source.text, model.path: model.source})
    line_numbers = np.array(lines, dtype=np.int64)
    ids = values[next(c.name for c in model.inputs.columns if c.role == "id")]
    starts = np.concatenate([[True], ids[1:] != ids[:-1]])
    subject = np.cumsum(starts, dtype=np.int64) - 1
    event, problems = event_columns(model, source, values, subject, line_numbers)
    if model.dynamics is not None:  # code and tables may name these without $INPUT
        values = {"EVID": event["EVID"], "MDV": event["MDV"]} | values
    data = DataSet(source.path, values, event, subject, ids[starts], line_numbers, missing)
    if not problems and data.n_observations == 0:
        problems.append(
            Problem(
                "the data hold no observation", model.inputs.span, "records with EVID=0 and MDV=0 are needed"
            )
        )
    if problems:
        raise ProblemError(problems, {source.path: source.text, model.path: model.source})
    return data


def _error(model: Model, source: Source, problem: Problem) -> ProblemError:
    return ProblemError([problem], {source.path: source.text, model.path: model.source})


def _rows(model: Model, source: Source) -> tuple[list[int], list[list[str]]]:
    """Return line numbers and fields of the lines that hold data, cut to the columns of $INPUT."""
    width = len(model.inputs.columns)
    kept = [i for i, column in enumerate(model.inputs.columns) if column.role != "dropped"]
    needed = max(kept) + 1
    is_comment = _comment_test(model.inputs.rows.comment)
    lines: list[int] = []
    rows: list[list[str]] = []
    problems: list[Problem] = []
    for number_, line in enumerate(source.text.split("\n"), start=1):
        text = line.strip(BLANK)
        if not text or is_comment(line):
            continue
        row = split_fields(text)
        if len(row) != width:
            if len(row) < needed:
                problems.append(_short_line(source, number_, len(row), model))
                if len(problems) == _MAX_PROBLEMS:
                    break
                continue
            row = row[:width] + [""] * (width - len(row))
        lines.append(number_)
        rows.append(row)
    if problems:
        raise ProblemError(problems, {source.path: source.text, model.path: model.source})
    return lines, rows


def _short_line(source: Source, line: int, found: int, model: Model) -> Problem:
    names = " ".join(column.name for column in model.inputs.columns)
    return Problem(
        f"this line has {found} fields, $INPUT names {len(model.inputs.columns)}",
        line_span(source, line),
        f"$INPUT {names}; is it the right file, and the heading line ignored (IGNORE=@)?",
    )


def _comment_test(comment: str) -> Callable[[str], bool]:
    if comment == "@":

        def begins_with_letter(line: str) -> bool:
            first = line.lstrip()[:1]
            return first.isalpha() or first == "@"

        return begins_with_letter
    return lambda line: bool(comment) and line.startswith(comment)


def _select(
    selection: RowSelection, lines: list[int], rows: list[list[str]]
) -> tuple[list[int], list[list[str]]]:
    """Apply the IGNORE and ACCEPT lists and the limits."""
    if selection.ignore or selection.accept:
        ignore = [_condition_test(c, selection.null) for c in selection.ignore]
        accept = [_condition_test(c, selection.null) for c in selection.accept]
        kept = [
            i
            for i, row in enumerate(rows)
            if not any(test(row) for test in ignore) and (not accept or any(test(row) for test in accept))
        ]
        lines, rows = [lines[i] for i in kept], [rows[i] for i in kept]
    if selection.until_change is not None and rows:
        first = rows[0][selection.until_change]
        stop = next((i for i, row in enumerate(rows) if row[selection.until_change] != first), len(rows))
        lines, rows = lines[:stop], rows[:stop]
    return lines[: selection.limit], rows[: selection.limit]


def _condition_test(condition: RowCondition, null: float) -> Callable[[list[str]], bool]:
    compare, position = _COMPARE[condition.operator], condition.column
    if not condition.numeric:
        return lambda row: compare(row[position], condition.value)
    wanted = number(condition.value)

    def holds(row: list[str]) -> bool:
        value = null if row[position] in _EMPTY else number(row[position])
        return value is not None and compare(value, wanted)

    return holds


class _NoNumber(Exception):
    """Some fields are no numbers."""

    def __init__(self, texts: set[str]) -> None:
        self.texts = texts


def _numbers(texts: tuple[str, ...], selection: RowSelection) -> tuple[Array, NDArray[np.bool_]]:
    """Return the values of a column and where it has none; each different text is read once."""
    known: dict[str, float] = {}
    bad: set[str] = set()
    for text in set(texts):
        value = selection.null if text in _EMPTY else 0.0 if text in "+-" else number(text)
        if value is None:
            bad.add(text)
        else:
            known[text] = value
    if bad:
        raise _NoNumber(bad)
    values = np.fromiter(map(known.__getitem__, texts), dtype=np.float64, count=len(texts))
    absent = {text for text in known if text in _EMPTY or known[text] == selection.missing_code}
    missing = np.fromiter((text in absent for text in texts), dtype=np.bool_, count=len(texts))
    return values, missing


def _bad_fields(
    source: Source, lines: list[int], texts: tuple[str, ...], position: int, name: str, bad: set[str]
) -> list[Problem]:
    found = [i for i, text in enumerate(texts) if text in bad][:_MAX_PROBLEMS]
    if name == "TIME" and (clock := next((i for i in found if ":" in texts[i]), None)) is not None:
        return [
            Problem(
                f"clock times ({texts[clock]}) are not supported yet",
                field_span(source, lines[clock], position),
                "give TIME in hours",
            )
        ]
    return [
        Problem(
            f"'{texts[i]}' in column {name} is no number",
            field_span(source, lines[i], position),
            "ignore the line (IGNORE), drop the column (NAME=DROP), or write . where a value is missing",
        )
        for i in found
    ]
