"""The lines of a data file as a table whose fields are read by the name of their column."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...engine.ir.model import Model
from ...engine.ir.span import Span
from ..problem import Problem, ProblemError
from ..source import Source
from .fields import MISSING, Row, field_span, number
from .reading import Reading

_MOST_PROBLEMS = 10  # of one kind; a wrong header would give one for each line


@dataclass
class Table:
    """The lines of the data file with the columns that are used."""

    model: Model
    source: Source
    reading: Reading
    delimiter: str
    rows: list[Row]
    places: dict[str, int]  # column name -> position of its field
    problems: list[Problem] = field(default_factory=list)
    _counts: dict[str, int] = field(default_factory=dict)

    def text(self, row: Row, name: str) -> str:
        """Return the field of column ``name``, empty where it is missing."""
        place = self.places[name]
        text = row.fields[place] if place < len(row.fields) else ""
        return "" if text.lower() in MISSING else text

    def value(self, row: Row, name: str) -> float | None:
        """Return the number in column ``name``, None where it is missing, noting what is no number."""
        text = self.text(row, name)
        if not text:
            return None
        found = number(text)
        if found is None:
            what = "clock times are not supported yet" if ":" in text else f"'{text}' is no number"
            self.report(name, f"{what} (column {name})", row, name, "write . where a value is missing")
        return found

    def report(self, kind: str, message: str, row: Row, name: str, hint: str = "") -> None:
        """Note a problem in a field; of one kind only the first few."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        if self._counts[kind] <= _MOST_PROBLEMS:
            self.problems.append(Problem(message, self.span(row, name), hint))

    def span(self, row: Row, name: str) -> Span:
        """Return the place of a field."""
        return field_span(self.source, row, self.places[name], self.delimiter)

    def role(self, role: str) -> str | None:
        """Return the name of the column that plays ``role``."""
        return next((c.name for c in self.model.inputs.columns if c.role == role), None)

    def stop_at_problems(self) -> None:
        """Raise what was found, if anything was."""
        if self.problems:
            texts = {self.source.path: self.source.text, self.model.path: self.model.source}
            self.problems.sort(key=lambda p: p.span.start if p.span is not None else -1)
            raise ProblemError(self.problems, texts)
