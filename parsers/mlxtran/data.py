"""The data file: from its text to records, by the rules of Monolix."""

from __future__ import annotations

import re

import numpy as np

from ...engine.ir.dataset import DataSet, InputColumn
from ...engine.ir.expression import Column, nodes
from ...engine.ir.model import Model
from ..problem import Problem
from ..source import Source
from .fields import Row, find_delimiter, number, split_lines
from .reading import codes, reading_of
from .records import Event, arrange, events_of_line
from .table import Table


def read_records(model: Model, source: Source) -> DataSet:
    """Return the records of the data file ``source``, complete with events.

    Raises
    ------
    ProblemError
        With the places in the data file that cannot be read, at most a few of each kind.
    """
    table = _open(model, source)
    events: list[Event] = []
    subjects: dict[str, int] = {}
    identity = table.role("id")
    assert identity is not None
    for row in table.rows:
        text = table.text(row, identity)
        if not text:
            table.report("id", "this line has no identifier", row, identity)
            continue
        subject = subjects.setdefault(text, len(subjects))
        events += events_of_line(table, row, subject)
    table.stop_at_problems()
    events = arrange(table, events)
    table.stop_at_problems()
    if not any(event.evid == 0 and event.mdv == 0 for event in events):
        table.problems.append(
            Problem(
                "the data hold no observation that is fitted", model.inputs.span, "look at <FIT> data=..."
            )
        )
    table.stop_at_problems()
    values, missing = _columns(table, events, subjects)
    table.stop_at_problems()
    return _data_set(table, events, values, missing, subjects)


def _open(model: Model, source: Source) -> Table:
    """Find the columns: by name where the file's heading has all that are used, else by position."""
    reading = reading_of(model.inputs)
    delimiter = reading.delimiter or find_delimiter(source.text)
    rows = split_lines(source.text, delimiter)
    columns = model.inputs.columns
    extra = {reading.infusion_time, reading.ignored_line} - {""}
    used = [c.name for c in columns if c.role != "dropped" or c.name in extra]
    by_position = {c.name: i for i, c in reversed(list(enumerate(columns)))}
    heading = {_plain(text): i for i, text in reversed(list(enumerate(rows[0].fields)))} if rows else {}
    by_name = {name: heading[_plain(name)] for name in used if _plain(name) in heading}
    table = Table(model, source, reading, delimiter, rows, by_position)
    if len(by_name) == len(used):
        table.places, table.rows = by_name, rows[1:]
    elif rows and _is_heading(table, rows[0]):
        if len(rows[0].fields) < len(columns):
            absent = next(name for name in used if _plain(name) not in heading)
            table.report(
                "heading",
                f"the file has no column {absent}",
                rows[0],
                used[0],
                f"its columns are {', '.join(rows[0].fields)}",
            )
        table.rows = rows[1:]
    if not table.rows:
        table.problems.append(Problem("the data file is empty", model.inputs.file_span))
    table.stop_at_problems()
    width = max(table.places[name] for name in used)
    for row in table.rows:
        if len(row.fields) <= width:
            table.report(
                "width",
                f"this line has {len(row.fields)} fields, at least {width + 1} are needed",
                row,
                used[0],
                f"is the delimiter {delimiter}?",
            )
    table.stop_at_problems()
    if reading.ignored_line:
        table.rows = [r for r in table.rows if table.text(r, reading.ignored_line) in ("", "0")]
    return table


def _plain(name: str) -> str:
    """Return a column name as Monolix writes it: what is no letter or digit is an underscore."""
    return re.sub(r"\W", "_", name)


def _is_heading(table: Table, row: Row) -> bool:
    """Return whether a line holds names: where a number belongs there is none."""
    numeric = [c.name for c in table.model.inputs.columns if c.role in ("time", "dv", "amt")]
    return any(text and number(text) is None for name in numeric if (text := table.text(row, name)))


def _columns(
    table: Table, events: list[Event], subjects: dict[str, int]
) -> tuple[dict[str, list[float]], dict[str, list[bool]]]:
    """Return the value of every kept column at every record, and where the file had none."""
    values: dict[str, list[float]] = {}
    missing: dict[str, list[bool]] = {}
    for column in table.model.inputs.columns:
        if column.role == "dropped":
            continue
        found = _column(table, column, events, subjects)
        missing[column.name] = [value is None for value in found]
        if column.role == "covariate":
            found = _carried(table, column, events, found)
        values[column.name] = [0.0 if value is None else value for value in found]
    return values, missing


def _column(
    table: Table, column: InputColumn, events: list[Event], subjects: dict[str, int]
) -> list[float | None]:
    name = column.name
    if column.role == "id":
        numeric = all(number(text) is not None for text in subjects)
        by_subject = [float(text) if numeric else i + 1.0 for text, i in subjects.items()]
        return [by_subject[event.subject] for event in events]
    if column.role == "time":
        return [event.time for event in events]
    if column.role == "dv":
        return [event.response for event in events]
    if column.role == "dvid":
        numbers = codes(tuple(o.text for o in table.reading.observed))
        return [numbers.get(table.text(event.row, name)) for event in events]
    if name in table.reading.categorical:
        return _categories(table, name, events)
    if name in table.reading.occasions and not all(_is_number(table, e.row, name) for e in events):
        order = {
            text: float(i) for i, text in enumerate(dict.fromkeys(table.text(e.row, name) for e in events))
        }
        return [order[table.text(event.row, name)] for event in events]
    return [table.value(event.row, name) for event in events]


def _is_number(table: Table, row: Row, name: str) -> bool:
    return number(table.text(row, name)) is not None


def _categories(table: Table, name: str, events: list[Event]) -> list[float | None]:
    """Return the codes of a categorical covariate: categories that the project does not list are sorted."""
    texts = [table.text(event.row, name) for event in events]
    listed = table.reading.categories.get(name)
    numbers = codes(listed if listed is not None else tuple(sorted({text for text in texts if text})))
    found: list[float | None] = []
    for event, text in zip(events, texts, strict=True):
        value = numbers.get(text)
        if value is None and text and number(text) is not None:  # 1 and 1.0 are one category
            value = next((v for t, v in numbers.items() if number(t) == number(text)), None)
        if value is None and text:
            known = ", ".join(numbers)
            table.report(name, f"'{text}' is no category of {name}", event.row, name, f"they are {known}")
        found.append(value)
    return found


def _carried(
    table: Table, column: InputColumn, events: list[Event], values: list[float | None]
) -> list[float | None]:
    """Return regressors carried forward (first backward), covariates constant in subject and occasion."""
    groups: dict[tuple[int, ...], list[int]] = {}
    regressor = column.name in table.reading.regressors
    for i, event in enumerate(events):
        groups.setdefault((event.subject,) if regressor else (event.subject, event.occasion), []).append(i)
    out = list(values)
    last: float | None
    for members in groups.values():
        first = next((values[i] for i in members if values[i] is not None), None)
        if first is None:
            row = events[members[0]].row
            if column.name not in table.reading.occasions and _is_used(table.model, column.name):
                table.report(column.name, f"this subject has no value of {column.name}", row, column.name)
            continue
        last = first
        for i in members:
            last = values[i] if regressor and values[i] is not None else last
            out[i] = last
    return out


def _is_used(model: Model, name: str) -> bool:
    parts = nodes((model.individual, model.dynamics, model.observation))
    return any(isinstance(node, Column) and node.name == name for node in parts)


def _data_set(
    table: Table,
    events: list[Event],
    values: dict[str, list[float]],
    missing: dict[str, list[bool]],
    subjects: dict[str, int],
) -> DataSet:
    def array(items: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.array(items, dtype=np.float64)

    event = {
        "TIME": array([e.time for e in events]),
        "EVID": array([float(e.evid) for e in events]),
        "MDV": array([float(e.mdv) for e in events]),
        "AMT": array([e.amount for e in events]),
        "RATE": array([e.rate for e in events]),
        "II": array([e.interval for e in events]),
        "ADDL": array([float(e.additional) for e in events]),
        "SS": np.zeros(len(events)),
        "CMT": array([float(e.compartment) for e in events]),
    }
    numeric = all(number(text) is not None for text in subjects)
    ids = array([float(text) if numeric else i + 1.0 for text, i in subjects.items()])
    known = {name: array(column) for name, column in values.items()}
    return DataSet(
        table.source.path,
        {"EVID": event["EVID"], "MDV": event["MDV"]} | known,
        event,
        np.array([e.subject for e in events], dtype=np.int64),
        ids,
        np.array([e.row.line for e in events], dtype=np.int64),
        {name: np.array(mask, dtype=np.bool_) for name, mask in missing.items()},
    )
