"""The data file: from its text to records, by the rules of NM-TRAN."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...engine.ir.dataset import DataSet, InputColumn
from ...engine.ir.model import Model
from ..problem import Problem, ProblemError
from ..source import Source
from .clock import DATE_ORDERS, DIGITS, LAST20, day_number, parse_translate, reader, relative, written
from .events import event_columns
from .fields import BLANK, EMPTY, line_span, raw_line, split_fields
from .numbers import number
from .rows import Rows, read_rows
from .selection import select

Array = NDArray[np.float64]

_MOST_PROBLEMS = 10  # of one kind; a wrong $INPUT would give one for each line
# Items that ask for what is not done, where they are not zero.
_UNUSUAL = {
    "raw": "averages of the data (RAW_)",
    "marginal": "marginal expectations (MRG_)",
    "repeat": "repeated records (RPT_)",
}


def read_records(model: Model, source: Source) -> DataSet:
    """Return the records of the data file ``source`` that ``model`` selects.

    Raises
    ------
    ProblemError
        With the places in the data file that cannot be read, at most a few of each kind.
    """
    rows = select(model.inputs, read_rows(model.inputs, source))
    if not rows.lines:
        raise _error(
            model, source, [Problem("no record is left of the data", model.inputs.span, _look(model))]
        )
    if cut := [line for line in rows.lines if line in rows.short]:
        raise _error(model, source, [_short_line(source, line, model) for line in cut[:_MOST_PROBLEMS]])
    columns = _Columns(model, rows)
    line_numbers = np.array(rows.lines, dtype=np.int64)
    ids = columns.ids()
    starts = np.concatenate([[True], ids[1:] != ids[:-1]])
    subject = np.cumsum(starts, dtype=np.int64) - 1
    if not columns.problems:
        columns.translate(subject)
    if columns.problems:
        raise _error(model, source, columns.problems)
    values = columns.values
    event, problems = event_columns(model, rows, values, subject, ids)
    if model.dynamics is not None:  # code and tables may name these without $INPUT
        values = {"EVID": event["EVID"], "MDV": event["MDV"]} | values
    data = DataSet(
        source.path,
        values,
        event,
        subject,
        ids[starts],
        line_numbers,
        columns.missing,
        columns.shown,
        _held_out(model, values, event),
    )
    problems += columns.unusual()
    if not problems and data.n_observations == 0:
        hint = "records with EVID=0 and MDV=0 are needed"
        problems.append(Problem("the data hold no observation", model.inputs.span, hint))
    if problems:
        raise _error(model, source, problems)
    return data


def _held_out(model: Model, values: dict[str, Array], event: dict[str, Array]) -> NDArray[np.bool_] | None:
    """Return where MDV is 100, whose ``values`` are 0 again while ``event`` has 1."""
    column = model.inputs.with_role("mdv")
    if column is None:
        return None
    return np.asarray((event["EVID"] == 0) & (event["MDV"] != 0) & (values[column.name] == 0))


def _short_line(source: Source, line: int, model: Model) -> Problem:
    found = len(split_fields(raw_line(source, line).strip(BLANK)))
    return Problem(
        f"this line has {found} fields, $INPUT names {len(model.inputs.columns)}",
        line_span(source, line),
        "write '.' for what is missing, or NULL= in $DATA to say what missing fields count as",
    )


def _error(model: Model, source: Source, problems: list[Problem]) -> ProblemError:
    return ProblemError(problems, {source.path: source.text, model.path: model.source})


def _look(model: Model) -> str:
    return (
        "look at IGNORE and ACCEPT of $DATA" if model.inputs.rows.ignore or model.inputs.rows.accept else ""
    )


class _Columns:
    """The values of all kept items, and what is wrong with them."""

    def __init__(self, model: Model, rows: Rows) -> None:
        self.values: dict[str, Array] = {}
        self.missing: dict[str, NDArray[np.bool_]] = {}
        self.shown: dict[str, Array] = {}
        self.problems: list[Problem] = []
        self._model = model
        self._inputs = model.inputs
        self._rows = rows
        self._options = dict(model.inputs.options)
        selection = model.inputs.rows
        codes = {selection.missing_code} - {None}
        self._codes = codes | {number(v) for k, v in model.inputs.options if k == "MISDAT"}
        self._texts = dict(enumerate(zip(*rows.fields, strict=True)))
        for position, column in enumerate(model.inputs.columns):
            if column.role != "dropped":
                self._read(position, column)

    def _read(self, position: int, column: InputColumn) -> None:
        """Read one item; each different text is read once."""
        texts, null = self._texts[position], self._inputs.rows.null
        read = reader("TIME" in (column.name, *column.aliases) or column.role in ("time", "ii"))
        known: dict[str, float] = {}
        bad: set[str] = set()
        for text in set(texts):
            value = null if text in EMPTY else 0.0 if text in "+-" else read(text)
            if value is None:
                bad.add(text)
            else:
                known[text] = value
        if bad:
            self._report(position, column.name, bad)
            return
        absent = {text for text in known if text in EMPTY or known[text] in self._codes}
        if (coded := absent - set(EMPTY)) and column.role not in ("time", "ii"):
            self.shown[column.name] = np.fromiter(map(known.__getitem__, texts), np.float64, len(texts))
        for text in coded:
            known[text] = 0.0
        self.values[column.name] = np.fromiter(map(known.__getitem__, texts), np.float64, len(texts))
        self.missing[column.name] = np.fromiter((t in absent for t in texts), np.bool_, len(texts))

    def _report(self, position: int, name: str, bad: set[str]) -> None:
        texts = self._texts[position]
        found = [i for i, text in enumerate(texts) if text in bad][:_MOST_PROBLEMS]
        hint = "ignore the line (IGNORE), drop the column (NAME=DROP), or write . where a value is missing"
        if name.startswith("DAT"):
            hint = f"{name}=DROP keeps the dates out of the data; times are computed from them all the same"
        self.problems += [
            Problem(f"'{texts[i]}' in column {name} is no number", self._rows.place(i, position), hint)
            for i in found
        ]

    def ids(self) -> Array:
        """Return the ID of each record; data without are those of one subject."""
        column = self._inputs.with_role("id")
        if column is None or column.name not in self.values:
            return np.ones(len(self._rows.lines))
        return self.values[column.name]

    def translate(self, subject: NDArray[np.int64]) -> None:
        """Turn clock times and dates into relative times, and divide as TRANSLATE says."""
        time, interval = self._inputs.with_role("time"), self._inputs.with_role("ii")
        factors = parse_translate(self._options.get("TRANSLATE", "")) or {}
        if time is not None:
            clock = "DATE" in self._options or self._has_colon(time)
            if clock:
                absolute = self.values[time.name] + 24.0 * self._days()
                self.values[time.name] = relative(absolute, subject, self._restarts())
            if clock or "TIME" in factors:
                self.values[time.name] = written(self.values[time.name], *factors.get("TIME", (1.0, DIGITS)))
        if interval is not None and ("II" in factors or self._has_colon(interval)):
            self.values[interval.name] = written(
                self.values[interval.name], *factors.get("II", (1.0, DIGITS))
            )

    def _has_colon(self, column: InputColumn) -> bool:
        return any(":" in text for text in set(self._texts[self._inputs.columns.index(column)]))

    def _restarts(self) -> NDArray[np.bool_]:
        column = self._inputs.with_role("evid")
        if column is None or self._model.dynamics is None:
            return np.zeros(len(self._rows.lines), dtype=np.bool_)
        return np.isin(self.values[column.name], (3.0, 4.0))

    def _days(self) -> Array:
        """Return the number of the day of each record."""
        if "DATE" not in self._options:
            return np.zeros(len(self._rows.lines))
        name, position = self._options["DATE"].split()
        last20 = int(self._options.get("LAST20", LAST20))
        texts = self._texts[int(position)]
        known = {text: day_number(text, DATE_ORDERS[name], last20) for text in set(texts)}
        bad = [i for i, text in enumerate(texts) if known[text] is None][:_MOST_PROBLEMS]
        order = {"d": "day", "m": "month", "y": "year"}
        hint = f"{name} is {' '.join(order[letter] for letter in DATE_ORDERS[name])}"
        self.problems += [
            Problem(f"'{texts[i]}' is no date", self._rows.place(i, int(position)), hint) for i in bad
        ]
        return np.array([known[text] or 0.0 for text in texts])

    def unusual(self) -> list[Problem]:
        """Return problems for items that ask a legacy engine for something special."""
        found: list[Problem] = []
        for position, column in enumerate(self._inputs.columns):
            if column.role in _UNUSUAL and (rows := np.flatnonzero(self.values[column.name])).size:
                message = f"{_UNUSUAL[column.role]} are not supported"
                hint = f"ignore these records, or drop {column.name}"
                found.append(Problem(message, self._rows.place(int(rows[0]), position), hint))
        return found
