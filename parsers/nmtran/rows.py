"""The lines of a data file that hold records, cut into fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from ...engine.ir.dataset import Inputs
from ...engine.ir.span import Span
from ..source import Source
from .fields import BLANK, field_span, raw_line, split_fields
from .fixed_width import FixedFormat, parse_format


@dataclass(frozen=True)
class Rows:
    """The first line (from 1) and the fields, as texts, of each record; one field for each item of $INPUT."""

    source: Source
    lines: list[int]
    fields: list[list[str]]
    fixed: FixedFormat | None = None
    short: frozenset[int] = frozenset()  # lines that ended before the last item that is used

    def place(self, record: int, position: int) -> Span:
        """Return where a field stands in the file."""
        line = self.lines[record]
        if self.fixed is None:
            return field_span(self.source, line, position)
        field = self.fixed.fields[position]
        line += field.line
        start = self.source.offset(line)
        length = len(raw_line(self.source, line))
        return self.source.span(start + min(field.start, length), start + max(min(field.stop, length), 1))

    def take(self, records: list[int]) -> Rows:
        """Return the records with these numbers (from 0)."""
        return replace(self, lines=[self.lines[i] for i in records], fields=[self.fields[i] for i in records])

    def column(self, position: int) -> tuple[str, ...]:
        """Return one field of all records."""
        return tuple(row[position] for row in self.fields)


def read_rows(inputs: Inputs, source: Source) -> Rows:
    """Return all lines that are no comments, cut or filled up with empty fields to the items of $INPUT.

    A line with nothing but ``FIN`` ends the data. Blank lines are no records, unless BLANKOK says so.
    """
    options = dict(inputs.options)
    fixed = parse_format(options["FORMAT"]) if "FORMAT" in options else None
    if fixed is not None:
        return _fixed_rows(inputs, source, fixed)
    width = len(inputs.columns)
    used = max((i for i, c in enumerate(inputs.columns, start=1) if c.role != "dropped"), default=0)
    short: set[int] = set()
    longest = 0
    blank = [""] * width if "BLANKOK" in options else None
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, raw in _data_lines(inputs.rows.comment, source):
        text = raw.strip(BLANK)
        if not text:
            if blank is not None:
                lines.append(line)
                rows.append(blank)
            continue
        row = split_fields(text)
        if len(row) != width:
            if len(row) == 1 and row[0].upper() == "FIN":
                break
            if len(row) < used:
                short.add(line)
            longest = max(longest, len(row))
            row = row[:width] + [""] * (width - len(row))
        else:
            longest = width
        lines.append(line)
        rows.append(row)
    while rows and rows[-1] is blank:  # blank lines at the end of the file are none
        lines.pop()
        rows.pop()
    # where every line ends early the items after are missing, where only some do fields have been lost
    uneven = longest >= used and inputs.rows.null == 0
    return Rows(source, lines, rows, short=frozenset(short) if uneven else frozenset())


def _data_lines(comment: str, source: Source) -> Iterator[tuple[int, str]]:
    is_comment = _comment_test(comment)
    for number, line in enumerate(source.text.split("\n"), start=1):
        if not is_comment(line):
            yield number, line


def _fixed_rows(inputs: Inputs, source: Source, fixed: FixedFormat) -> Rows:
    found = list(_data_lines(inputs.rows.comment, source))
    while found and not found[-1][1].strip(BLANK):
        found.pop()
    end = next((i for i, (_, text) in enumerate(found) if text.strip(BLANK).upper() == "FIN"), len(found))
    lines: list[int] = []
    rows: list[list[str]] = []
    for i in range(0, end, fixed.lines):
        texts = [text.rstrip("\r") for _, text in found[i : i + fixed.lines]]
        texts += [""] * (fixed.lines - len(texts))
        lines.append(found[i][0])
        rows.append(fixed.split(texts))
    return Rows(source, lines, rows, fixed)


def _comment_test(comment: str) -> Callable[[str], bool]:
    if comment == "@":

        def begins_with_letter(line: str) -> bool:
            first = line.lstrip()[:1]
            return first.isalpha() or first in ("@", "#")

        return begins_with_letter
    return lambda line: bool(comment) and line.startswith(comment)
