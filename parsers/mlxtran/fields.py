"""Lines of a data file cut into fields, and the places of fields."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ...engine.ir.span import Span
from ..source import Source

MISSING = frozenset(("", ".", "na", "nan"))
_SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";"}


@dataclass(frozen=True)
class Row:
    """One line of the data: its number (from 1) and fields, without quotes and blanks around them."""

    line: int
    fields: tuple[str, ...]


def split_lines(text: str, delimiter: str) -> list[Row]:
    """Return the lines of ``text`` that hold anything."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.rstrip("\r\x1a")
        if line.strip():
            rows.append(Row(number, tuple(_clean(f) for f in _split(line, delimiter))))
    return rows


def find_delimiter(text: str) -> str:
    """Return what separates the fields of the first line: tab, semicolon or comma, else blanks."""
    first = next((line for line in text.split("\n") if line.strip()), "")
    counts = {name: first.count(mark) for name, mark in _SEPARATORS.items()}
    best = max(("tab", "semicolon", "comma"), key=lambda name: counts[name])
    return best if counts[best] else "space"


def _split(line: str, delimiter: str) -> list[str]:
    return [line[start:stop] for start, stop in _bounds(line, delimiter)]


def _bounds(line: str, delimiter: str) -> list[tuple[int, int]]:
    """Return the start and stop of every field; a separator inside double quotes separates nothing."""
    if delimiter == "space":
        return [match.span() for match in re.finditer(r"\S+", line)]
    found, begin, quoted = [], 0, False
    for i, c in enumerate(line):
        if c == '"':
            quoted = not quoted
        elif c == _SEPARATORS[delimiter] and not quoted:
            found.append((begin, i))
            begin = i + 1
    return [*found, (begin, len(line))]


def _clean(field: str) -> str:
    return field.strip().strip("'\"").strip()


def number(text: str) -> float | None:
    """Return the finite number in ``text``, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value - value == 0.0 and "_" not in text else None


def field_span(source: Source, row: Row, position: int, delimiter: str) -> Span:
    """Return the place of field ``position`` (from 0) of a line, or of the whole line where it has none."""
    start = source.offset(row.line)
    end = source.text.find("\n", start)
    line = source.text[start : end if end >= 0 else len(source.text)].rstrip("\r")
    bounds = _bounds(line, delimiter)
    text = line[slice(*bounds[position])] if position < len(bounds) else ""
    if not text.strip():
        return source.span(start, start + max(1, len(line.rstrip())))
    first = start + bounds[position][0] + len(text) - len(text.lstrip())
    return source.span(first, first + len(text.strip()))
